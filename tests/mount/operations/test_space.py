# SPDX-License-Identifier: MIT
"""A full filesystem: ENOSPC to who asks for more, everything else goes on, and all space comes back."""

import errno
import os
import shutil

import pytest
from helpers.files import fails_with, opened, pattern, read_file, write_all, write_file
from helpers.mounts import wait_for

FULL = (errno.ENOSPC,)
MIB = 1 << 20


def _free(mount):
    info = os.statvfs(mount.path)
    return info.f_bavail * info.f_frsize


def _fill_with_data(path, seed=0):
    """Appends pieces until ENOSPC; returns how many bytes the file then has."""
    with opened(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND) as fd:
        n = 0
        try:
            while True:
                write_all(fd, pattern(100_000, (seed, n)))
                n += 1
        except OSError as error:
            assert error.errno == errno.ENOSPC
        return os.fstat(fd).st_size


def _expected(size, seed=0):
    return b"".join(pattern(100_000, (seed, n)) for n in range(size // 100_000 + 1))[:size]


def _fill_with_files(directory):
    """Makes small files until ENOSPC; returns their number."""
    os.mkdir(directory)
    n = 0
    try:
        while True:
            write_file(directory / f"file-{n}", pattern(1 + n % 3000, n))
            n += 1
    except OSError as error:
        assert error.errno == errno.ENOSPC
    return n


def _space_is_back(mount, before, slack=2 * MIB):
    def enough():
        mount.sync()
        return _free(mount) >= before - slack

    wait_for(enough, f"the free space to come back to {before}, it is {_free(mount)}", timeout=30, step=0.2)


@pytest.mark.image(size="48M")
def test_filesystem_filled_by_data_recovers(mount):
    before = _free(mount)
    assert before > 30 * MIB
    size = _fill_with_data(mount.path / "big")
    assert size >= before * 8 // 10, "ENOSPC came with much of the promised space unused"
    assert read_file(mount.path / "big") == _expected(size)
    mount.sync()
    os.unlink(mount.path / "big")
    _space_is_back(mount, before)
    again = _fill_with_data(mount.path / "big", seed=1)
    assert again >= size * 9 // 10
    assert read_file(mount.path / "big") == _expected(again, seed=1)


@pytest.mark.heavy
@pytest.mark.image(size="12M")
def test_filesystem_filled_by_small_files_recovers(mount):
    before = _free(mount)
    n = _fill_with_files(mount.path / "d")
    assert n > 500
    for i in range(0, n, 7):
        assert read_file(mount.path / f"d/file-{i}") == pattern(1 + i % 3000, i)
    mount.remount()
    assert len(os.listdir(mount.path / "d")) in (n, n + 1)
    shutil.rmtree(mount.path / "d")
    _space_is_back(mount, before)
    assert _fill_with_files(mount.path / "d") >= n * 9 // 10


@pytest.mark.image(size="32M")
def test_full_filesystem_can_be_read_listed_renamed_and_emptied(mount):
    for i in range(30):
        write_file(mount.path / f"small-{i}", pattern(2000, i))
    os.mkdir(mount.path / "d")
    _fill_with_data(mount.path / "big")
    # Up to here a small thing may still have found room; now nothing has.
    with fails_with(*FULL):
        for i in range(100_000):
            write_file(mount.path / f"more-{i}", pattern(3000, i))
    assert len([n for n in os.listdir(mount.path) if n.startswith("small")]) == 30
    for i in range(30):
        assert read_file(mount.path / f"small-{i}") == pattern(2000, i)
    for i in range(20):
        os.unlink(mount.path / f"small-{i}")
    os.truncate(mount.path / "big", 100_000)
    mount.sync()
    write_file(mount.path / "after", pattern(5 * MIB))
    os.rename(mount.path / "small-25", mount.path / "d/moved")
    mount.remount()
    assert read_file(mount.path / "after") == pattern(5 * MIB)
    assert read_file(mount.path / "d/moved") == pattern(2000, 25)
    assert read_file(mount.path / "big") == pattern(100_000, (0, 0))


@pytest.mark.image(size="32M")
def test_overwrites_on_a_full_filesystem_work_or_are_refused_and_keep_the_old_bytes(mount):
    """Copy on write needs room even to overwrite: what is refused must leave what was there."""
    old, new = pattern(4096), pattern(4096, 1)
    write_file(mount.path / "f", old * 256)
    mount.sync()
    _fill_with_data(mount.path / "big")
    done = 0
    with opened(mount.path / "f") as fd:
        for i in range(256):
            try:
                os.pwrite(fd, new, i * 4096)
            except OSError as error:
                assert error.errno == errno.ENOSPC
            else:
                done += 1
                assert os.pread(fd, 4096, i * 4096) == new
    data = read_file(mount.path / "f")
    blocks = [data[at : at + 4096] for at in range(0, len(data), 4096)]
    assert len(blocks) == 256 and all(b in (old, new) for b in blocks)
    assert blocks.count(new) == done
    assert done > 0, "the reserve did not let a single overwrite through"
    mount.remount()
    assert read_file(mount.path / "f") == data
    os.unlink(mount.path / "big")
    mount.sync()
    with opened(mount.path / "f") as fd:
        os.pwrite(fd, new * 256, 0)
    assert read_file(mount.path / "f") == new * 256


@pytest.mark.image(size="32M")
def test_syncs_and_an_unmount_work_on_a_full_filesystem(mount):
    size = _fill_with_data(mount.path / "big")
    with opened(mount.path / "big") as fd:
        os.fsync(fd)
    mount.sync()
    mount.kill()
    mount.fsck()
    mount.start()
    assert read_file(mount.path / "big") == _expected(size)
    mount.remount()
    os.unlink(mount.path / "big")
    mount.sync()
    write_file(mount.path / "f", pattern(10 * MIB))


@pytest.mark.image(size="16M")
def test_filesystem_can_be_filled_and_emptied_over_and_over(mount):
    before, sizes = _free(mount), []
    for i in range(5):
        sizes.append(_fill_with_data(mount.path / "big", seed=i))
        os.unlink(mount.path / "big")
        _space_is_back(mount, before)
    assert min(sizes) >= max(sizes) * 9 // 10, sizes


@pytest.mark.image(size="32M")
def test_sparse_file_larger_than_the_image_is_welcome_until_it_is_filled(mount):
    with opened(mount.path / "f", os.O_CREAT | os.O_RDWR) as fd:
        os.ftruncate(fd, 1 << 40)
        os.pwrite(fd, b"x", 1 << 39)
        with fails_with(*FULL):
            for i in range(10_000):
                os.pwrite(fd, bytes([1]) * 100_000, i * 1_000_000)
        assert os.pread(fd, 1, 1 << 39) == b"x"
        os.ftruncate(fd, 0)
        mount.sync()
        os.pwrite(fd, b"y" * MIB, 0)
    assert read_file(mount.path / "f") == b"y" * MIB


def test_smallest_image_can_be_mounted_and_used(build, new_mount, work):
    """1 MiB is little, but what fits must work, and what does not must be ENOSPC."""
    image = work / "tiny"
    build.mkfs(image, size="1M")
    mount = new_mount(image).start()
    write_file(mount.path / "f", b"fits")
    with fails_with(*FULL):
        for i in range(10_000):
            write_file(mount.path / f"f{i}", pattern(4000, i))
    mount.remount()
    assert read_file(mount.path / "f") == b"fits"
    for name in os.listdir(mount.path):
        os.unlink(mount.path / name)


def test_statfs_counts_inodes(mount):
    def used():
        told = os.statvfs(mount.path)
        return told.f_files - told.f_ffree

    assert used() == 1
    for i in range(10):
        write_file(mount.path / str(i), b"")
    assert used() == 11
    for i in range(10):
        os.unlink(mount.path / str(i))
    wait_for(lambda: used() == 1, "the inodes to be reclaimed")


@pytest.mark.image(size="16M")
def test_a_large_write_takes_what_is_left(mount):
    with opened(mount.path / "big", os.O_CREAT | os.O_RDWR | os.O_APPEND) as fd:
        size = 0
        with fails_with(errno.ENOSPC):
            while True:
                size += os.write(fd, pattern(1 << 20, "big"))
        assert os.fstat(fd).st_size == size
        small = 0
        with fails_with(errno.ENOSPC):
            while True:
                small += os.write(fd, pattern(4096))
        assert small <= 8 * 4096, small
