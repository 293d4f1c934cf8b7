# SPDX-License-Identifier: MIT
"""Files made without a name (O_TMPFILE), and naming them."""

import errno
import os
import stat

import pytest
from helpers.files import fails_with, opened, pattern, read_file, write_all
from helpers.libc import AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_FOLLOW, linkat


def unnamed(directory, flags=0, mode=0o644):
    return opened(directory, os.O_TMPFILE | os.O_RDWR | flags, mode)


def give_name(fd, path):
    linkat(AT_FDCWD, f"/proc/self/fd/{fd}", path, AT_SYMLINK_FOLLOW)


def names(mnt):
    return [n for n in os.listdir(mnt) if n != "lost+found"]


def test_unnamed_file_is_a_file_in_no_directory(mnt):
    data = pattern(300_000)
    with unnamed(mnt, mode=0o640) as fd:
        info = os.fstat(fd)
        assert info.st_mode == stat.S_IFREG | 0o640
        assert (info.st_nlink, info.st_size) == (0, 0)
        write_all(fd, data)
        os.fsync(fd)
        assert os.pread(fd, len(data), 0) == data
        os.ftruncate(fd, 10)
        os.setxattr(fd, "user.a", b"value")
        assert os.getxattr(fd, "user.a") == b"value"
        assert names(mnt) == []
    assert names(mnt) == []


def test_unnamed_file_gets_a_name_and_keeps_what_it_is(mnt, remount):
    os.mkdir(mnt / "d")
    with unnamed(mnt, mode=0o600) as fd:
        write_all(fd, pattern(50_000))
        os.setxattr(fd, "user.a", b"value")
        ino = os.fstat(fd).st_ino
        give_name(fd, mnt / "d/f")
        assert os.fstat(fd).st_nlink == 1
        write_all(fd, b"after")
        with fails_with(errno.EEXIST):
            give_name(fd, mnt / "d/f")
    os.link(mnt / "d/f", mnt / "second")
    remount()
    assert os.stat(mnt / "d/f").st_ino == os.stat(mnt / "second").st_ino == ino
    assert os.stat(mnt / "second").st_nlink == 2
    assert read_file(mnt / "d/f") == pattern(50_000) + b"after"
    assert os.getxattr(mnt / "d/f", "user.a") == b"value"


@pytest.mark.root
def test_unnamed_file_gets_a_name_by_its_descriptor_alone(mnt):
    with unnamed(mnt) as fd:
        os.write(fd, b"data")
        linkat(fd, "", mnt / "f", AT_EMPTY_PATH)
    assert read_file(mnt / "f") == b"data"


def test_exclusive_unnamed_file_never_gets_a_name(mnt):
    with unnamed(mnt, os.O_EXCL) as fd:
        os.write(fd, b"data")
        with fails_with(errno.ENOENT):
            give_name(fd, mnt / "f")
    assert names(mnt) == []


def test_unlinked_file_gets_no_name_again(mnt):
    with opened(mnt / "f", os.O_CREAT | os.O_RDWR) as fd:
        os.unlink(mnt / "f")
        with fails_with(errno.ENOENT):
            give_name(fd, mnt / "g")
    with unnamed(mnt) as fd:
        give_name(fd, mnt / "h")
        os.unlink(mnt / "h")
        with fails_with(errno.ENOENT):
            give_name(fd, mnt / "i")
    assert names(mnt) == []


def test_unnamed_file_needs_a_directory_and_write_access(mnt):
    with opened(mnt / "f", os.O_CREAT | os.O_RDWR), fails_with(errno.ENOTDIR):
        os.open(mnt / "f", os.O_TMPFILE | os.O_RDWR)
    with fails_with(errno.EINVAL):
        os.open(mnt, os.O_TMPFILE | os.O_RDONLY)


@pytest.mark.root
def test_unnamed_file_takes_the_group_of_a_setgid_directory(mnt):
    os.mkdir(mnt / "d")
    os.chown(mnt / "d", 0, 4321)
    os.chmod(mnt / "d", 0o2775)
    with unnamed(mnt / "d", mode=0o666) as fd:
        assert os.fstat(fd).st_gid == 4321
        assert stat.S_IMODE(os.fstat(fd).st_mode) == 0o644


@pytest.mark.image(size="64M")
def test_space_of_unnamed_files_comes_back_with_their_last_close(mount):
    for _ in range(6):  # together three times more than the image holds
        with unnamed(mount.path) as fd:
            for i in range(32):
                os.pwrite(fd, bytes(1 << 20), i << 20)
        mount.sync()


def test_unnamed_files_are_gone_after_a_crash_and_named_ones_stay(mount):
    with unnamed(mount.path) as lost, unnamed(mount.path) as kept:
        for fd in (lost, kept):
            os.write(fd, pattern(500_000))
        give_name(kept, mount.path / "kept")
        os.fsync(kept)
        mount.kill()
    mount.fsck()
    mount.start()
    assert names(mount.path) == ["kept"]
    assert read_file(mount.path / "kept") == pattern(500_000)
    mount.stop()
    mount.fsck()


def test_files_are_replaced_through_unnamed_ones_many_times(mnt):
    """How a careful program saves: an unnamed file, a name beside the old one, a rename over it."""
    for i in range(200):
        with unnamed(mnt) as fd:
            write_all(fd, pattern(3000, i))
            give_name(fd, mnt / "new")
        os.rename(mnt / "new", mnt / "file")
        assert read_file(mnt / "file") == pattern(3000, i)
    assert names(mnt) == ["file"]
