# SPDX-License-Identifier: MIT
"""mkfs.mapfs: sizes, filling, refusal to overwrite, reproducible images."""

import json
import os

import pytest
from helpers.commands import run
from helpers.files import opened, pattern, read_file, write_file
from helpers.trees import assert_same_tree, describe, differences, make_sample

UUID = "01234567-89ab-4def-8123-456789abcdef"


def _facts(build, target):
    return json.loads(build.run("mapfs", "info", "--json", target).out)


def _find(facts, key):
    """The value of a key wherever it stands in the facts."""
    if isinstance(facts, dict):
        if key in facts:
            return facts[key]
        facts = list(facts.values())
    if isinstance(facts, list):
        for value in facts:
            found = _find(value, key)
            if found is not None:
                return found
    return None


@pytest.mark.parametrize(
    ("text", "size"),
    [("1M", 1 << 20), ("64M", 64 << 20), ("1G", 1 << 30), ("1T", 1 << 40), ("2048K", 2 << 20), ("4194304", 4 << 20)],
)
def test_sizes_are_powers_of_1024_and_the_file_is_sparse(build, work, text, size):
    build.mkfs(work / "image", size=text)
    info = os.stat(work / "image")
    assert info.st_size == size
    assert info.st_blocks * 512 < 300 << 20
    build.fsck(work / "image")


@pytest.mark.parametrize(
    "size", ["0", "3", "100", "1023K", "-5M", "-1", "junk", "12Q", "1M2", "", "99999999999999999999", "9000000T"]
)
def test_impossible_sizes_are_refused_and_leave_no_file(build, work, size):
    result = build.run("mkfs.mapfs", "-s", size, work / "image", check=False)
    assert result.status != 0
    assert len(result.err.strip().splitlines()) in (1, 2), result
    assert not (work / "image").exists()


def test_size_is_needed_for_a_new_file_and_taken_from_an_old_one(build, work):
    assert build.run("mkfs.mapfs", work / "none", check=False).status != 0
    assert not (work / "none").exists()
    write_file(work / "image", b"")
    os.truncate(work / "image", 32 << 20)
    build.mkfs(work / "image")
    assert os.stat(work / "image").st_size == 32 << 20
    build.fsck(work / "image")


@pytest.mark.parametrize("argv", [[], ["--offset", "4096"]], ids=str)
def test_file_that_is_too_small_is_told_the_option_for_a_size(build, work, argv):
    write_file(work / "text", b"hello\n")
    result = build.run("mkfs.mapfs", *argv, work / "text", check=False)
    assert result.status == 1 and "too small for an image" in result.err and "-s" in result.err, result
    assert read_file(work / "text") == b"hello\n"


def test_offset_that_no_image_can_have_is_named(build, work):
    result = build.run("mkfs.mapfs", "-s", "1M", "--offset", "1P", work / "image", check=False)
    assert result.status == 2 and "offset '1P' is too large" in result.err and "1 PiB" in result.err, result
    assert not (work / "image").exists()


def test_help_has_a_short_option(build):
    told = build.run("mkfs.mapfs", "-h").out
    assert told == build.run("mkfs.mapfs", "--help").out
    assert "K, M, G, T or P" in told


def _an_ext4(path):
    write_file(path, b"")
    os.truncate(path, 8 << 20)
    run(["mkfs.ext4", "-q", "-F", path])


@pytest.mark.parametrize("what", ["mapfs", "ext4"])
def test_existing_filesystem_is_overwritten_only_with_force(build, work, what):
    image = work / "image"
    if what == "mapfs":
        build.mkfs(image, "-L", "precious", size="8M")
    else:
        _an_ext4(image)
    before = read_file(image)
    result = build.run("mkfs.mapfs", image, check=False)
    assert result.status != 0
    assert str(image) in result.err and "-f" in result.err, f"the remedy is not named:\n{result}"
    assert read_file(image) == before
    build.mkfs(image, "-f")
    build.fsck(image)


def test_mkfs_into_a_missing_directory_names_it(build, work):
    result = build.run("mkfs.mapfs", "-s", "8M", work / "none/image", check=False)
    assert result.status != 0 and str(work / "none/image") in result.err


def test_label_and_uuid_are_shown_by_info(build, work):
    build.mkfs(work / "image", "-L", "Größe ☃", "-U", UUID, size="8M")
    facts = _facts(build, work / "image")
    assert _find(facts, "label") == "Größe ☃"
    assert _find(facts, "uuid").lower() == UUID


@pytest.mark.parametrize(
    "argv",
    [["-L", "x" * 65], ["-U", "no-uuid"], ["-U", UUID + "0"], ["--offset", "100"], ["--offset", "-4096"]],
    ids=str,
)
def test_bad_labels_uuids_and_offsets_are_refused(build, work, argv):
    result = build.run("mkfs.mapfs", "-s", "8M", *argv, work / "image", check=False)
    assert result.status != 0 and result.err.strip()
    assert not (work / "image").exists()


def test_two_images_have_different_uuids(build, work):
    for name in ("one", "two"):
        build.mkfs(work / name, size="8M")
    assert _find(_facts(build, work / "one"), "uuid") != _find(_facts(build, work / "two"), "uuid")


def _sample(work):
    path = work / "sample"
    path.mkdir()
    make_sample(path)
    for i in range(300):
        write_file(path / f"dir/many-{i:03}", pattern(i * 97, i))
    if os.geteuid() == 0:
        os.mknod(path / "device", 0o20600, os.makedev(5, 6))
        os.chown(path / "dir/small", 1001, 1002)
    return path


def test_directory_fills_the_new_filesystem(build, work, new_mount):
    sample = _sample(work)
    build.mkfs(work / "image", "-d", sample, size="64M")
    build.fsck(work / "image")
    mount = new_mount(work / "image").start()
    assert_same_tree(sample, mount.path, times=True)
    write_file(mount.path / "new", b"can be changed")


@pytest.mark.parametrize("packed", ["", "z", "J"])
def test_tar_fills_the_new_filesystem(build, work, new_mount, packed):
    sample = _sample(work)
    archive = work / "sample.tar"
    run(
        [
            "tar",
            "--xattrs",
            "--xattrs-include=user.*",
            "--numeric-owner",
            "--format=posix",
            f"-c{packed}f",
            archive,
            "-C",
            sample,
            ".",
        ]
    )
    build.mkfs(work / "image", "-d", archive, size="64M")
    build.fsck(work / "image")
    mount = new_mount(work / "image").start()
    lines = differences(describe(sample, times=True), describe(mount.path, times=True))
    assert lines == []


def _with_acls(work):
    path = work / "lists"
    (path / "shared").mkdir(parents=True)
    run(["setfacl", "-d", "-m", "u:1003:rwx,g:1004:rx", path / "shared"])
    run(["setfacl", "-m", "g:1004:rx", path / "shared"])
    write_file(path / "shared/inherits", b"")
    write_file(path / "shared/plain", b"")
    run(["setfacl", "-b", path / "shared/plain"])
    os.chmod(path / "shared/plain", 0o640)
    write_file(path / "named", b"")
    run(["setfacl", "-m", "u:1003:r,u:7:rw,g:1004:-,m:rw", path / "named"])
    return path


def _acls(path):
    return sorted(run(["getfacl", "-n", "-p", "-R", "."], cwd=path).out.split("\n\n"))


@pytest.mark.parametrize("kind", ["directory", "tar --acls", "tar --xattrs --xattrs-include=*"])
def test_filling_keeps_access_control_lists(build, work, new_mount, kind):
    source = lists = _with_acls(work)
    if kind != "directory":
        source = work / "lists.tar"
        options = kind.split()[1:]
        run(["tar", *options, "--numeric-owner", "--format=posix", "-cf", source, "-C", lists, "."])
    build.mkfs(work / "image", "-d", source, size="16M")
    mount = new_mount(work / "image").start()
    assert _acls(mount.path) == _acls(lists)


def test_filling_with_more_than_fits_is_refused_and_missing_sources_are_named(build, work):
    write_file(work / "large", os.urandom(6 << 20))
    (work / "source").mkdir()
    os.rename(work / "large", work / "source/large")
    result = build.run("mkfs.mapfs", "-s", "4M", "-d", work / "source", work / "image", check=False)
    assert result.status != 0 and result.err.strip()
    result = build.run("mkfs.mapfs", "-s", "4M", "-d", work / "none", work / "image2", check=False)
    assert result.status != 0 and str(work / "none") in result.err


def _make_same(build, path, *args, time="1700000000"):
    build.mkfs(path, "-U", UUID, "-L", "same", *args, size="32M", env=build.env(SOURCE_DATE_EPOCH=time))
    return read_file(path)


def test_same_uuid_and_time_give_the_same_bytes(build, work):
    assert _make_same(build, work / "one") == _make_same(build, work / "two")
    assert _make_same(build, work / "three", time="1700000001") != read_file(work / "one")


@pytest.mark.parametrize("kind", ["directory", "tar"])
def test_same_uuid_time_and_source_give_the_same_bytes(build, work, kind):
    source = _sample(work)
    if kind == "tar":
        run(["tar", "--format=posix", "-cf", work / "sample.tar", "-C", source, "."])
        source = work / "sample.tar"
    assert _make_same(build, work / "one", "-d", source) == _make_same(build, work / "two", "-d", source)


def test_image_at_an_offset_leaves_the_bytes_before_it_alone(build, work, new_mount):
    path, offset = work / "disk", 1 << 20
    before = pattern(offset)
    write_file(path, before)
    os.truncate(path, 33 << 20)
    build.mkfs(path, "--offset", str(offset))
    mount = new_mount(path, options=f"offset={offset}").start()
    mount.expect_trouble = True  # fsck.mapfs has no --offset in the fixture
    write_file(mount.path / "f", pattern(5 << 20))
    mount.remount()
    assert read_file(mount.path / "f") == pattern(5 << 20)
    mount.stop()
    with opened(path, os.O_RDONLY) as fd:
        assert os.pread(fd, offset, 0) == before


@pytest.mark.parametrize(
    "argv",
    [[], ["-f"], ["-f", "-s", "2M"], ["-f", "--offset", "512K"], ["-f", "--offset", "16M"], ["-f", "--offset", "36M"]],
    ids=str,
)
def test_mounted_image_at_another_offset_is_not_overwritten(build, work, new_mount, argv):
    path = work / "disk"
    build.mkfs(path, "--offset", "1M", size="40M")
    mount = new_mount(path, options="offset=1M").start()
    mount.expect_trouble = True  # fsck.mapfs has no --offset in the fixture
    write_file(mount.path / "f", pattern(3 << 20))
    result = build.run("mkfs.mapfs", *argv, path, check=False)
    assert result.status == 1, result
    assert f"mkfs.mapfs: {path}: a mapfs image in it, at offset 1048576, is busy: it is mounted at {mount.path}" in result.err
    mount.remount()
    assert read_file(mount.path / "f") == pattern(3 << 20)
    mount.stop()
    build.fsck(path, "--offset", "1M")


def test_images_beside_a_mounted_one_are_made(build, work, new_mount):
    path = work / "disk"
    build.mkfs(path, "--offset", "8M", size="8M")
    mount = new_mount(path, options="offset=8M").start()
    mount.expect_trouble = True  # fsck.mapfs has no --offset in the fixture
    write_file(mount.path / "f", pattern(1 << 20))
    build.mkfs(path, size="8M")
    build.mkfs(path, "--offset", "16M", size="8M")
    mount.remount()
    assert read_file(mount.path / "f") == pattern(1 << 20)
    mount.stop()
    for offset in ("0", "8M", "16M"):
        build.fsck(path, "--offset", offset)


def test_image_at_another_offset_may_be_overwritten_as_soon_as_it_is_unmounted(build, work, new_mount):
    path = work / "disk"
    build.mkfs(path, "--offset", "1M", size="40M")
    mount = new_mount(path, options="offset=1M").start()
    mount.expect_trouble = True  # it is gone in the end
    write_file(mount.path / "f", pattern(8 << 20))
    run(["umount", mount.path])
    build.mkfs(path)
    build.fsck(path)


def test_umask_and_mode_of_the_image_are_those_of_a_private_file_or_stricter(build, work):
    build.mkfs(work / "image", size="8M")
    assert os.stat(work / "image").st_mode & 0o7133 == 0
