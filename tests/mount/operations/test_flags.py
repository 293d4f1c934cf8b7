# SPDX-License-Identifier: MIT
"""What chattr(1) sets: flags that last, that are inherited, and that forbid changes."""

import contextlib
import errno
import fcntl
import os
import struct
import time

import pytest
from helpers.files import fails_with, opened, read_file, write_file
from helpers.libc import RENAME_EXCHANGE, renameat2
from helpers.ranges import COLLAPSE, INSERT, KEEP_SIZE, UNSHARE, ZERO_RANGE, fallocate, punch, zero

GETFLAGS, SETFLAGS, FSGETXATTR, FSSETXATTR = 0x80086601, 0x40086602, 0x801C581F, 0x401C5820
SYNC, IMMUTABLE, APPEND, NODUMP, NOATIME = 0x08, 0x10, 0x20, 0x40, 0x80
KNOWN = SYNC | IMMUTABLE | APPEND | NODUMP | NOATIME
X_IMMUTABLE, X_APPEND, X_SYNC, X_NOATIME, X_NODUMP = 0x08, 0x10, 0x20, 0x40, 0x80


def _flags(path):
    with opened(path, os.O_RDONLY) as fd:
        return struct.unpack("l", fcntl.ioctl(fd, GETFLAGS, bytes(8)))[0] & KNOWN


def _set_flags(path, flags):
    """Keeps what the filesystem has set by itself, as chattr does."""
    with opened(path, os.O_RDONLY) as fd:
        others = struct.unpack("l", fcntl.ioctl(fd, GETFLAGS, bytes(8)))[0] & ~KNOWN
        fcntl.ioctl(fd, SETFLAGS, struct.pack("l", flags | others))


@contextlib.contextmanager
def _flagged(path, flags):
    _set_flags(path, flags)
    try:
        yield
    finally:
        _set_flags(path, 0)


@pytest.mark.parametrize("flags", [SYNC, NODUMP, NOATIME, NODUMP | NOATIME])
def test_flags_last_and_move_ctime(mnt, remount, flags):
    write_file(mnt / "f", b"")
    os.mkdir(mnt / "d")
    for name in ("f", "d"):
        before = os.stat(mnt / name).st_ctime_ns
        time.sleep(0.02)
        _set_flags(mnt / name, flags)
        assert os.stat(mnt / name).st_ctime_ns > before
    remount()
    assert _flags(mnt / "f") == _flags(mnt / "d") == flags


def test_new_files_inherit_flags_but_for_those_that_protect(mnt):
    os.mkdir(mnt / "d")
    _set_flags(mnt / "d", SYNC | NODUMP | NOATIME)
    write_file(mnt / "d" / "f", b"")
    os.mkdir(mnt / "d" / "e")
    assert _flags(mnt / "d" / "f") == _flags(mnt / "d" / "e") == SYNC | NODUMP | NOATIME


@pytest.mark.root
def test_both_commands_tell_the_same_flags(mnt):
    write_file(mnt / "f", b"")
    pairs = ((SYNC, X_SYNC), (IMMUTABLE, X_IMMUTABLE), (APPEND, X_APPEND), (NODUMP, X_NODUMP), (NOATIME, X_NOATIME))
    for flag, xflag in pairs:
        with opened(mnt / "f", os.O_RDONLY) as fd:
            fcntl.ioctl(fd, FSSETXATTR, struct.pack("<IIIII8x", xflag, 0, 0, 0, 0))
            assert struct.unpack("<IIIII8x", fcntl.ioctl(fd, FSGETXATTR, bytes(28)))[0] & 0xF8 == xflag
        assert _flags(mnt / "f") == flag
        _set_flags(mnt / "f", 0)


def _changes_of_a_file(mnt, fd):
    """(what, call) of all that changes the file f, which is open as fd."""
    path = mnt / "f"
    return {
        "truncate": lambda: os.truncate(path, 0),
        "ftruncate": lambda: os.ftruncate(fd, 1),
        "unlink": lambda: os.unlink(path),
        "rename": lambda: os.rename(path, mnt / "g"),
        "rename over it": lambda: os.rename(mnt / "other", path),
        "exchange": lambda: renameat2(path, mnt / "other", RENAME_EXCHANGE),
        "link": lambda: os.link(path, mnt / "g"),
        "chmod": lambda: os.chmod(path, 0o600),
        "chown": lambda: os.chown(path, 0, 0),
        "times": lambda: os.utime(path, (1, 1)),
        "attribute": lambda: os.setxattr(path, "user.a", b"1"),
        "trusted attribute": lambda: os.setxattr(path, "trusted.a", b"1"),
        "punch": lambda: punch(fd, 0, 4096),
        "zero": lambda: zero(fd, 0, 100),
    }


@pytest.mark.root
@pytest.mark.parametrize("flag", [IMMUTABLE, APPEND])
def test_what_protects_forbids_changes(mnt, flag):
    write_file(mnt / "f", b"abc")
    write_file(mnt / "other", b"")
    with opened(mnt / "f", os.O_RDWR) as fd, _flagged(mnt / "f", flag):
        for what, change in _changes_of_a_file(mnt, fd).items():
            with fails_with(errno.EPERM):
                change()
        assert read_file(mnt / "f") == b"abc"


@pytest.mark.root
def test_immutable_files_get_no_room_and_no_data(mnt):
    write_file(mnt / "f", b"abc")
    write_file(mnt / "other", b"12345")
    with opened(mnt / "f", os.O_RDWR) as fd, opened(mnt / "other", os.O_RDONLY) as other:
        with _flagged(mnt / "f", IMMUTABLE):
            for mode in (0, KEEP_SIZE, ZERO_RANGE):
                with fails_with(errno.EPERM):
                    fallocate(fd, mode, 0, 10000)
            with fails_with(errno.EPERM):
                os.copy_file_range(other, fd, 5)
            with fails_with(errno.EPERM):
                os.utime(mnt / "f")
        assert os.stat(mnt / "f").st_size == 3
        fallocate(fd, 0, 0, 10000)


@pytest.mark.root
def test_append_only_files_grow_at_their_end(mnt):
    write_file(mnt / "f", b"abc")
    with opened(mnt / "f", os.O_WRONLY | os.O_APPEND) as fd, _flagged(mnt / "f", APPEND):
        assert os.write(fd, b"def") == 3
        fallocate(fd, KEEP_SIZE, 0, 100_000)
        os.utime(mnt / "f")
        os.chown(mnt / "f", -1, -1)
    assert read_file(mnt / "f") == b"abcdef"


@pytest.mark.root
def test_append_only_directories_gain_names_and_lose_none(mnt):
    os.mkdir(mnt / "d")
    write_file(mnt / "d" / "old", b"")
    with _flagged(mnt / "d", APPEND):
        write_file(mnt / "d" / "new", b"")
        os.mkdir(mnt / "d" / "e")
        for path in ("old", "new"):
            with fails_with(errno.EPERM):
                os.unlink(mnt / "d" / path)
            with fails_with(errno.EPERM):
                os.rename(mnt / "d" / path, mnt / path)
        with fails_with(errno.EPERM):
            os.rmdir(mnt / "d" / "e")
    with _flagged(mnt / "d", IMMUTABLE):
        for change in (lambda: write_file(mnt / "d" / "x", b""), lambda: os.unlink(mnt / "d" / "old")):
            with fails_with(errno.EPERM):
                change()
        write_file(mnt / "d" / "old", b"its files are not")


def test_fallocate_refuses_what_fuse_does_not_carry(mount):
    """The kernel itself refuses these modes for FUSE (fs/fuse/file.c)."""
    write_file(mount.path / "f", bytes(65536))
    with opened(mount.path / "f", os.O_RDWR) as fd:
        for mode in (COLLAPSE, INSERT, UNSHARE):
            with fails_with(errno.EOPNOTSUPP):
                fallocate(fd, mode, 4096, 4096)
