# SPDX-License-Identifier: MIT
"""mkfs.mapfs -d: archives with names twice, links with data and sizes that come late, and an image in its own source."""

import io
import os
import subprocess
import tarfile
import tempfile
import zipfile

import pytest
from helpers.commands import SLOW, run
from helpers.files import opened, pattern, read_file, write_file
from helpers.superblock import BLOCK, read_slots

TIME = 1_600_000_000


def _newc(name, data, *, mode=0o100644, ino=0, nlink=1):
    """One entry of a cpio archive of the form `newc`."""
    name = name.encode() + b"\0"
    numbers = (ino, mode, 7, 8, nlink, TIME, len(data), 0, 1, 0, 0, len(name), 0)
    head = b"070701" + b"".join(b"%08X" % n for n in numbers) + name
    return head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4)


class Pipe:
    """Takes what is written and cannot go back: zipfile then writes the sizes behind the data."""

    def __init__(self):
        self.data = b""

    def write(self, data):
        self.data += data
        return len(data)

    def flush(self):
        pass


class Tar:
    """An archive that is written entry by entry."""

    def __init__(self, path):
        self.tar = tarfile.open(path, "w", format=tarfile.PAX_FORMAT)

    def add(self, name, kind=tarfile.REGTYPE, data=b"", **more):
        info = tarfile.TarInfo(name)
        info.type, info.size, info.mode, info.mtime = kind, len(data), 0o750, TIME
        for key, value in more.items():
            setattr(info, key, value)
        self.tar.addfile(info, io.BytesIO(data))
        return self

    def link_with_data(self, name, target, data):
        """As pax -o linkdata writes it; tarfile itself writes the data of no link."""
        info = tarfile.TarInfo(name)
        info.type, info.linkname, info.size, info.mode, info.mtime = tarfile.LNKTYPE, target, len(data), 0o640, TIME
        info.pax_headers = {"comment": "only this form has links with data"}
        self.tar.fileobj.write(info.tobuf(tarfile.PAX_FORMAT) + data + bytes(-len(data) % 512))
        return self

    def close(self):
        self.tar.close()


def _tree(build, work, new_mount, source):
    """The root directory of an image that was filled from the source, and is clean."""
    build.mkfs(work / "image", "-d", source, size="32M")
    build.fsck(work / "image")
    return new_mount(work / "image").start().path


def _refused(build, work, source, *wanted):
    result = build.run("mkfs.mapfs", "-s", "32M", "-d", source, work / "image", check=False)
    assert result.status == 1 and not (work / "image").exists(), result
    for text in wanted:
        assert text in result.err, result


def test_data_that_comes_with_the_last_link_of_a_cpio_archive_is_kept(build, work, new_mount):
    archive = work / "a.cpio"
    data = pattern(10_001)
    parts = [_newc("one", b"", ino=5, nlink=3), _newc("two", b"", ino=5, nlink=3), _newc("three", data, ino=5, nlink=3)]
    archive.write_bytes(b"".join(parts) + _newc("TRAILER!!!", b"", mode=0))
    root = _tree(build, work, new_mount, archive)
    for name in ("one", "two", "three"):
        assert read_file(root / name) == data
    info = os.stat(root / "one")
    assert (info.st_nlink, info.st_uid, info.st_gid, info.st_mtime) == (3, 7, 8, TIME)
    assert os.stat(root / "three").st_ino == info.st_ino


def test_data_of_a_link_in_a_pax_archive_is_kept(build, work, new_mount):
    Tar(work / "a.tar").add("one").link_with_data("two", "one", pattern(5000)).close()
    root = _tree(build, work, new_mount, work / "a.tar")
    assert read_file(root / "one") == read_file(root / "two") == pattern(5000)
    assert os.stat(root / "one").st_nlink == 2
    assert os.stat(root / "one").st_mode & 0o7777 == 0o640


@pytest.mark.parametrize("how", ["pipe", "gzip"])
def test_zip_that_is_read_as_a_stream_has_all_data(build, work, new_mount, how):
    files = {"a": b"hello\n", "dir/b": pattern(300_000), "empty": b""}
    stream = Pipe()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    write_file(work / "a.zip", stream.data)
    if how == "gzip":
        run(["gzip", work / "a.zip"])
        build.mkfs(work / "image", "-d", work / "a.zip.gz", size="32M")
    else:
        argv = [build.program("mkfs.mapfs"), "-s", "32M", "-d", "/dev/stdin", work / "image"]
        subprocess.run(argv, input=stream.data, env=build.env(), timeout=60 * SLOW, check=True)
    root = new_mount(work / "image").start().path
    assert {name: read_file(root / name) for name in files} == files


def test_data_of_an_archive_that_is_damaged_is_no_success(build, work):
    with zipfile.ZipFile(work / "a.zip", "w") as archive:
        archive.writestr("file", b"some text to find again")
    write_file(work / "a.zip", read_file(work / "a.zip").replace(b"text", b"TEXT"))
    _refused(build, work, work / "a.zip", "file", "CRC")


def test_file_that_is_in_an_archive_twice_with_a_link_between(build, work, new_mount):
    write_file(work / "a", pattern(3000))
    os.link(work / "a", work / "b")
    run(["tar", "-cf", "dup.tar", "a", "b", "a"], cwd=work)
    root = _tree(build, work, new_mount, work / "dup.tar")
    assert read_file(root / "a") == pattern(3000)
    assert os.stat(root / "a").st_ino == os.stat(root / "b").st_ino
    assert os.stat(root / "a").st_nlink == 2


def test_later_link_replaces_an_earlier_file(build, work, new_mount):
    Tar(work / "a.tar").add("x", data=b"old").add("y", data=b"new").add("x", tarfile.LNKTYPE, linkname="y").close()
    root = _tree(build, work, new_mount, work / "a.tar")
    assert read_file(root / "x") == b"new" and os.stat(root / "x").st_nlink == 2


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.FIFOTYPE])
def test_later_directory_replaces_an_earlier_file(build, work, new_mount, kind):
    tar = Tar(work / "a.tar").add("x", kind, linkname="y" if kind == tarfile.SYMTYPE else "")
    tar.add("x", tarfile.DIRTYPE).add("x/y", data=b"below").close()
    root = _tree(build, work, new_mount, work / "a.tar")
    assert read_file(root / "x/y") == b"below"
    assert os.stat(root / "x").st_mtime == TIME


def test_file_on_the_way_to_an_entry_is_not_replaced(build, work):
    Tar(work / "a.tar").add("x", data=b"kept").add("x/y", data=b"below").close()
    _refused(build, work, work / "a.tar", "x/y: Not a directory")


def test_later_file_replaces_an_empty_directory(build, work, new_mount):
    tar = Tar(work / "a.tar").add("d", tarfile.DIRTYPE).add("d/x", tarfile.DIRTYPE).add("d/x", data=b"file")
    tar.add("e", tarfile.DIRTYPE).add("e", data=b"file").add("e", tarfile.DIRTYPE, mode=0o711).add("e/f").close()
    root = _tree(build, work, new_mount, work / "a.tar")
    assert read_file(root / "d/x") == b"file"
    assert os.stat(root / "e").st_mode & 0o7777 == 0o711
    assert os.listdir(root / "e") == ["f"]


def test_directory_with_files_is_not_replaced_by_a_file(build, work):
    Tar(work / "a.tar").add("d/x", tarfile.DIRTYPE).add("d/x/y").add("d/x", data=b"file").close()
    _refused(build, work, work / "a.tar", "d/x: ", "earlier", "Directory not empty")


def test_directory_that_is_in_an_archive_twice_has_the_later_times(build, work, new_mount):
    Tar(work / "a.tar").add("d", tarfile.DIRTYPE, mtime=TIME - 5).add("d/x").add("d", tarfile.DIRTYPE).close()
    assert os.stat(_tree(build, work, new_mount, work / "a.tar") / "d").st_mtime == TIME


def test_directory_whose_attributes_cannot_be_set_is_named(build, work):
    header = {"SCHILY.xattr.system.posix_acl_default": "no list"}
    Tar(work / "a.tar").add("some/where", tarfile.DIRTYPE, pax_headers=header).close()
    _refused(build, work, work / "a.tar", "some/where: ", "default access control list")


def test_source_that_is_no_archive_is_told_what_could_be_one(build, work):
    write_file(work / "text", b"hello\n")
    _refused(build, work, work / "text", str(work / "text"), "directory", "tar, cpio, zip, 7zip, iso9660")


@pytest.mark.parametrize("source", ["missing", "text", "image", "link"])
def test_source_that_cannot_be_read_costs_nothing(build, work, new_mount, source):
    write_file(work / "text", b"hello\n")
    os.symlink("image", work / "link")
    build.mkfs(work / "image", "-L", "dear", size="8M")
    old = read_file(work / "image")
    told = build.run("mkfs.mapfs", "-f", "-d", work / source, work / "image", check=False)
    assert told.status == 1 and f"{work / source}: " in told.err, told
    assert read_file(work / "image") == old


def test_attributes_that_cannot_be_read_are_no_success(build, work):
    if not os.path.ismount("/dev/shm"):
        pytest.skip("no tmpfs at /dev/shm")
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="mapfs-test-") as source:
        write_file(f"{source}/many", b"x")
        try:
            for n in range(280):
                os.setxattr(f"{source}/many", f"user.{n:0250d}", b"v")
        except OSError:
            pytest.skip("this tmpfs has no such attributes")
        _refused(build, work, source, source, "many: ", "extended attributes")


def test_archive_in_a_pipe_is_read_once(build, work, new_mount):
    Tar(work / "a.tar").add("f", data=b"piped").close()
    os.mkfifo(work / "pipe")
    with subprocess.Popen(["sh", "-c", "cat <a.tar >pipe"], cwd=work) as writer:
        build.mkfs(work / "image", "-d", work / "pipe", size="32M")
        assert writer.wait(timeout=60) == 0
    build.fsck(work / "image")
    assert read_file(new_mount(work / "image").start().path / "f") == b"piped"


@pytest.mark.parametrize("is_old", [False, True])
def test_image_in_its_own_source_is_left_out_of_it(build, work, new_mount, is_old):
    source = work / "source"
    (source / "sub").mkdir(parents=True)
    write_file(source / "file", b"x")
    image = source / "sub/image"
    if is_old:
        build.mkfs(image, size="8M")
        os.link(image, source / "other-name")
    result = build.mkfs("sub/image", "-f", "-d", ".", size="64M", cwd=source)
    told = {"mkfs.mapfs: sub/image: is the image itself, left out"}
    if is_old:
        told.add("mkfs.mapfs: other-name: is the image itself, left out")
    assert set(result.err.splitlines()) == told
    root = new_mount(image).start().path
    assert sorted(os.listdir(root)) == ["file", "sub"] and os.listdir(root / "sub") == []


def test_each_superblock_of_a_filled_image_has_all_files(build, work, new_mount):
    source = work / "source"
    source.mkdir()
    for i in range(500):
        write_file(source / f"file-{i}", pattern(i * 50, i))
    build.mkfs(work / "image", "-d", source, size="64M")
    slots = read_slots(work / "image")
    assert len(slots) == 2
    newest = max(slots, key=lambda slot: slots[slot]["generation"])
    with opened(work / "image") as fd:
        os.pwrite(fd, b"\xff" * 512, newest * BLOCK + 100)
    assert f"superblock slot {newest}" in build.fsck(work / "image").out
    mount = new_mount(work / "image").start()
    for i in range(500):
        assert read_file(mount.path / f"file-{i}") == pattern(i * 50, i)
