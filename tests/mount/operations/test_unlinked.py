# SPDX-License-Identifier: MIT
"""Files that are open and have no name any more."""

import os

import pytest
from helpers.files import opened, pattern, read_file, write_file


def test_unlinked_file_can_be_read_written_and_truncated(mnt):
    data = bytearray(pattern(300_000))
    write_file(mnt / "f", data)
    with opened(mnt / "f") as fd:
        os.unlink(mnt / "f")
        assert os.fstat(fd).st_nlink == 0
        assert os.pread(fd, len(data), 0) == data
        os.pwrite(fd, b"new bytes", 123_456)
        data[123_456:123_465] = b"new bytes"
        assert os.pread(fd, len(data), 0) == data
        os.ftruncate(fd, 1000)
        os.ftruncate(fd, 9000)
        os.pwrite(fd, b"grown", 500_000)
        assert os.pread(fd, 9000, 0) == data[:1000] + bytes(8000)
        assert os.fstat(fd).st_size == 500_005
        os.fsync(fd)
        os.chmod(fd, 0o600)
        os.utime(fd, ns=(1, 2))
        assert os.fstat(fd).st_mtime_ns == 2


def test_file_unlinked_right_after_creation_is_a_scratch_file(mnt):
    with opened(mnt / "f", os.O_CREAT | os.O_EXCL | os.O_RDWR) as fd:
        os.unlink(mnt / "f")
        for i in range(50):
            os.pwrite(fd, pattern(10_000, i), i * 10_000)
        assert os.pread(fd, 500_000, 0) == b"".join(pattern(10_000, i) for i in range(50))
    assert "f" not in os.listdir(mnt)


def test_name_can_be_made_again_while_the_old_file_is_open(mnt):
    write_file(mnt / "f", b"old")
    with opened(mnt / "f") as old:
        os.unlink(mnt / "f")
        write_file(mnt / "f", b"new")
        assert os.pread(old, 10, 0) == b"old"
        assert os.fstat(old).st_ino != os.stat(mnt / "f").st_ino
    assert read_file(mnt / "f") == b"new"


def test_many_unlinked_files_stay_apart(mnt):
    fds = []
    try:
        for i in range(400):
            fds.append(os.open(mnt / "same name", os.O_CREAT | os.O_EXCL | os.O_RDWR))
            os.unlink(mnt / "same name")
            os.write(fds[-1], pattern(3000, i))
        for i, fd in enumerate(fds):
            os.pwrite(fd, b"%05d" % i, 4000)
        for i, fd in enumerate(fds):
            assert os.pread(fd, 5000, 0) == pattern(3000, i) + bytes(1000) + b"%05d" % i
    finally:
        for fd in fds:
            os.close(fd)


def test_last_link_decides_not_the_first(mnt):
    write_file(mnt / "a", b"data")
    os.link(mnt / "a", mnt / "b")
    with opened(mnt / "a") as fd:
        os.unlink(mnt / "a")
        assert os.fstat(fd).st_nlink == 1
        os.unlink(mnt / "b")
        assert os.fstat(fd).st_nlink == 0
        assert os.pread(fd, 10, 0) == b"data"


def test_removed_directory_can_still_be_looked_at_through_a_descriptor(mnt):
    os.mkdir(mnt / "d")
    with opened(mnt / "d", os.O_RDONLY | os.O_DIRECTORY) as fd:
        os.rmdir(mnt / "d")
        os.mkdir(mnt / "d")
        write_file(mnt / "d" / "new", b"")
        assert os.listdir(fd) == []


def test_unlinked_open_files_do_not_hold_up_an_unmount_that_follows_their_close(mnt, remount):
    with opened(mnt / "f", os.O_CREAT | os.O_RDWR) as fd:
        os.write(fd, pattern(100_000))
        os.unlink(mnt / "f")
    remount()
    assert "f" not in os.listdir(mnt)


@pytest.mark.image(size="64M")
def test_space_of_unlinked_files_comes_back_after_the_last_close(mount):
    for _ in range(6):  # together six times more than the image holds
        with opened(mount.path / "f", os.O_CREAT | os.O_RDWR) as fd:
            os.unlink(mount.path / "f")
            for i in range(25):
                os.pwrite(fd, bytes(1 << 20), i << 20)
        mount.sync()


def test_unlinked_open_files_are_gone_after_a_crash(mount):
    write_file(mount.path / "stays", b"here")
    fd = os.open(mount.path / "f", os.O_CREAT | os.O_RDWR)
    os.write(fd, pattern(500_000))
    os.unlink(mount.path / "f")
    os.fsync(fd)
    mount.kill()
    os.close(fd)
    mount.fsck()
    mount.start()
    assert [n for n in os.listdir(mount.path) if n != "lost+found"] == ["stays"]
    mount.stop()
    mount.fsck()
