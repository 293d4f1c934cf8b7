# SPDX-License-Identifier: MIT
"""O_APPEND from many writers at once: no record is lost, none is torn, whatever its length."""

import os
import struct

import pytest
from helpers.files import in_child, opened, pattern, read_file

WRITERS, RECORDS = 6, 150
# From a few bytes, which lie in the tree, over blocks and pages to more than one request can carry.
LENGTHS = (1, 10, 100, 1000, 4000, 4096, 5000, 70_000)
HEADER = struct.Struct("<4sHHI")


def record(writer, number):
    length = LENGTHS[(writer * 7 + number) % len(LENGTHS)]
    if number == RECORDS // 2:
        length = 1_500_000
    return HEADER.pack(b"REC:", writer, number, length) + pattern(length, writer * RECORDS + number)


def append_all(path, writer, flags):
    with opened(path, os.O_WRONLY | os.O_APPEND | flags) as fd:
        for number in range(RECORDS):
            data = record(writer, number)
            assert os.write(fd, data) == len(data)


def run_writers(path, flags, writer=0):
    if writer == WRITERS:
        return
    with in_child(append_all, path, writer, flags):
        run_writers(path, flags, writer + 1)


def assert_whole(path):
    data, at = read_file(path), 0
    next_number = [0] * WRITERS
    while at < len(data):
        magic, writer, number, length = HEADER.unpack_from(data, at)
        assert magic == b"REC:", f"no record begins at {at}"
        assert number == next_number[writer], f"writer {writer} wrote {number} after {next_number[writer] - 1}"
        assert data[at : at + HEADER.size + length] == record(writer, number), f"the record at {at} is torn"
        next_number[writer] += 1
        at += HEADER.size + length
    assert next_number == [RECORDS] * WRITERS


@pytest.mark.parametrize("flags", [0, os.O_DSYNC], ids=["plain", "dsync"])
def test_records_of_many_writers_are_all_there_and_whole(mnt, remount, flags):
    os.close(os.open(mnt / "log", os.O_CREAT | os.O_WRONLY))
    run_writers(mnt / "log", flags)
    assert_whole(mnt / "log")
    remount()
    assert_whole(mnt / "log")


def test_records_of_many_direct_writers_are_whole(mount):
    """Of any length and at any offset: other filesystems want blocks."""
    os.close(os.open(mount.path / "log", os.O_CREAT | os.O_WRONLY))
    run_writers(mount.path / "log", os.O_DIRECT)
    mount.remount()
    assert_whole(mount.path / "log")


@pytest.mark.options("cache=writeback")
def test_records_of_many_writers_are_whole_with_cached_writes(mnt, remount):
    os.close(os.open(mnt / "log", os.O_CREAT | os.O_WRONLY))
    run_writers(mnt / "log", 0)
    remount()
    assert_whole(mnt / "log")


def test_appends_find_the_end_that_others_have_moved(mnt):
    with opened(mnt / "log", os.O_CREAT | os.O_WRONLY | os.O_APPEND) as a, opened(mnt / "log") as b:
        os.write(a, b"one")
        os.pwrite(b, b"two", 5000)
        os.lseek(a, 0, os.SEEK_SET)
        os.write(a, b"three")
        os.ftruncate(b, 2)
        os.write(a, b"four")
    assert read_file(mnt / "log") == b"onfour"
