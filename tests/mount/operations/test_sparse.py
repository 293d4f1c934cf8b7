# SPDX-License-Identifier: MIT
"""Sparse files up to 2^60 bytes."""

import errno
import os
import resource
import signal

import pytest
from helpers.files import drop_caches, fails_with, opened, pattern, read_file, write_file

LIMIT = 1 << 60


def test_hole_before_data_reads_zero_and_takes_no_space(mnt, remount):
    with opened(mnt / "f", os.O_CREAT | os.O_RDWR) as fd:
        os.pwrite(fd, b"end", 10 << 20)
    remount()
    assert os.stat(mnt / "f").st_size == (10 << 20) + 3
    assert os.stat(mnt / "f").st_blocks <= 64
    assert read_file(mnt / "f") == bytes(10 << 20) + b"end"


def test_islands_in_a_huge_hole_stay_where_they_are(mnt, remount):
    offsets = [0, 4095, 1 << 20, (1 << 30) + 1, (1 << 33) - 1, (1 << 40) + 4093]
    with opened(mnt / "f", os.O_CREAT | os.O_RDWR) as fd:
        for n, offset in enumerate(offsets):
            os.pwrite(fd, pattern(3000 if n else 100, n), offset)
    remount()
    with opened(mnt / "f", os.O_RDONLY) as fd:
        for n, offset in list(enumerate(offsets))[2:]:
            assert os.pread(fd, 3000, offset) == pattern(3000, n)
            assert os.pread(fd, 4096, offset - 4096) == bytes(4096)
            after = os.pread(fd, 4096, offset + 3000)
            assert after == bytes(len(after))
    assert os.stat(mnt / "f").st_blocks <= 256


def test_filling_a_hole_piece_by_piece_gives_the_whole(mnt, remount):
    pieces = list(range(200))
    with opened(mnt / "f", os.O_CREAT | os.O_RDWR) as fd:
        os.ftruncate(fd, 200 * 5000)
        for i in sorted(pieces, key=lambda i: i * 37 % 200):
            assert os.pread(fd, 5000, i * 5000) == bytes(5000)
            os.pwrite(fd, pattern(5000, i), i * 5000)
    remount()
    assert read_file(mnt / "f") == b"".join(pattern(5000, i) for i in pieces)


@pytest.mark.parametrize("extra", [[], pytest.param(["cache=writeback"], marks=pytest.mark.options("cache=writeback"))])
def test_what_was_just_written_is_no_hole(mnt, extra):
    """Or copies would miss it. With the writeback cache the daemon may not know of it yet."""
    with opened(mnt / "f", os.O_CREAT | os.O_RDWR) as fd:
        os.ftruncate(fd, 1 << 20)
        os.pwrite(fd, b"data", 500_000)
        assert os.lseek(fd, 0, os.SEEK_DATA) <= 500_000
        assert os.lseek(fd, 500_000, os.SEEK_DATA) == 500_000
        assert os.lseek(fd, 500_000, os.SEEK_HOLE) > 500_003
        os.pwrite(fd, b"data", 2 << 20)
        assert os.lseek(fd, 2 << 20, os.SEEK_DATA) == 2 << 20
        assert os.lseek(fd, (2 << 20) + 3, os.SEEK_HOLE) == (2 << 20) + 4
        with fails_with(errno.ENXIO):
            os.lseek(fd, (2 << 20) + 4, os.SEEK_DATA)


@pytest.mark.parametrize("size", [1 << 32, 1 << 41, 1 << 50, LIMIT - 1, LIMIT])
def test_file_of_any_size_is_made_by_truncate(mount, size):
    write_file(mount.path / "f", b"start")
    os.truncate(mount.path / "f", size)
    with opened(mount.path / "f") as fd:
        assert os.pwrite(fd, b"last bytes", size - 10) == 10
        assert os.pread(fd, 20, size - 10) == b"last bytes"
        assert os.pread(fd, 10_000, size - 20_000) == bytes(10_000)
        assert os.pread(fd, 10_000, size // 2) == bytes(10_000)
    mount.remount()
    info = os.stat(mount.path / "f")
    assert info.st_size == size and info.st_blocks <= 64
    with opened(mount.path / "f") as fd:
        assert os.pread(fd, 20, size - 10) == b"last bytes"
        os.ftruncate(fd, 5)
    assert read_file(mount.path / "f") == b"start"


def test_nothing_goes_past_the_largest_size(mount):
    """Past the limit EFBIG, as on every Linux filesystem; a write that crosses it is short or refused."""
    write_file(mount.path / "f", b"")
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with opened(mount.path / "f") as fd:
        for size in (LIMIT + 1, LIMIT + 4096, (1 << 63) - 1):
            with fails_with(errno.EFBIG):
                os.ftruncate(fd, size)
        for offset in (LIMIT, LIMIT + 1, LIMIT + (1 << 20), (1 << 63) - 4097):
            with fails_with(errno.EFBIG):
                os.pwrite(fd, b"x", offset)
        assert os.pwrite(fd, b"x", LIMIT - 1) == 1
        try:
            assert os.pwrite(fd, b"0123456789", LIMIT - 4) == 4
        except OSError as error:
            assert error.errno == errno.EFBIG
        assert os.fstat(fd).st_size == LIMIT
        assert os.pread(fd, 10, LIMIT - 1) in (b"x", b"3")


def test_write_past_the_resource_limit_is_efbig(mnt):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    with opened(mnt / "f", os.O_CREAT | os.O_RDWR) as fd:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, old[1]))
        try:
            assert os.pwrite(fd, bytes(20_000), 0) == 10_000
            with fails_with(errno.EFBIG):
                os.pwrite(fd, b"x", 10_000)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert os.stat(mnt / "f").st_size == 10_000


def test_truncate_of_a_fragmented_file_gives_zeros_beyond_every_cut(mnt, remount):
    with opened(mnt / "f", os.O_CREAT | os.O_RDWR) as fd:
        for i in range(0, 400, 2):
            os.pwrite(fd, pattern(4096, i), i * 4096)
        for cut in (390 * 4096 + 17, 201 * 4096, 200 * 4096 + 1, 4097, 100):
            os.ftruncate(fd, cut)
            os.ftruncate(fd, 400 * 4096)
            drop_caches(mnt / "f")
            assert os.pread(fd, 400 * 4096, cut) == bytes(400 * 4096 - cut)
    remount()
    assert read_file(mnt / "f") == pattern(4096, 0)[:100].ljust(400 * 4096, b"\0")
