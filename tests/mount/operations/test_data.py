# SPDX-License-Identifier: MIT
"""Reading and writing of file data, with every open flag."""

import errno
import mmap
import os
import random
import threading

import pytest
from helpers.files import drop_caches, fails_with, in_child, opened, pattern, read_file, write_all, write_file

SIZES = [0, 1, 59, 100, 1000, 4095, 4096, 4097, 8192, 65_537, 1 << 20, (1 << 20) + 1, 5_000_001]


@pytest.mark.parametrize("size", SIZES)
def test_written_bytes_read_back_before_and_after_a_remount(mnt, remount, size):
    data = pattern(size)
    write_file(mnt / "f", data)
    assert read_file(mnt / "f") == data
    drop_caches(mnt / "f")
    assert read_file(mnt / "f") == data
    remount()
    assert read_file(mnt / "f") == data
    assert os.stat(mnt / "f").st_size == size


@pytest.mark.parametrize("piece", [1, 7, 511, 1023, 4093, 4096, 70_001])
def test_sequential_writes_of_any_piece_size_add_up(mnt, remount, piece):
    data = pattern(min(piece * 300, 2_000_000))
    with opened(mnt / "f", os.O_CREAT | os.O_WRONLY) as fd:
        for at in range(0, len(data), piece):
            write_all(fd, data[at : at + piece])
    remount()
    assert read_file(mnt / "f") == data


@pytest.mark.parametrize("offset", [1, 4095, 4096, 4097, 12_345, 1_000_003])
@pytest.mark.parametrize("length", [1, 100, 4096, 9001])
def test_overwrite_at_odd_offset_changes_those_bytes_alone(mnt, offset, length):
    data = bytearray(pattern(1_050_000))
    write_file(mnt / "f", data)
    new = pattern(length, 1)
    with opened(mnt / "f") as fd:
        assert os.pwrite(fd, new, offset) == length
        assert os.pread(fd, length, offset) == new
    data[offset : offset + length] = new
    drop_caches(mnt / "f")
    assert read_file(mnt / "f") == data


def test_reads_at_odd_offsets_and_past_the_end_are_short(mnt):
    data = pattern(10_001)
    write_file(mnt / "f", data)
    with opened(mnt / "f", os.O_RDONLY) as fd:
        for offset in (0, 1, 4095, 4097, 9999, 10_000, 10_001, 20_000, 1 << 40):
            for length in (0, 1, 17, 4096, 20_000):
                assert os.pread(fd, length, offset) == data[offset : offset + length]


def test_random_writes_match_a_model_in_memory(mnt, remount):
    rng = random.Random(42)
    with opened(mnt / "f", os.O_CREAT | os.O_RDWR) as fd:
        model = bytearray()
        for step in range(600):
            offset = rng.choice((rng.randrange(300_000), rng.randrange(74) * 4096))
            what = rng.random()
            if what < 0.6:
                new = pattern(rng.choice((1, 100, 4096, 8192, rng.randrange(1, 50_000))), step)
                os.pwrite(fd, new, offset)
                model.extend(bytes(max(0, offset - len(model))))
                model[offset : offset + len(new)] = new
            elif what < 0.75:
                os.ftruncate(fd, offset)
                model = model[:offset].ljust(offset, b"\0")
            elif what < 0.8:
                os.fsync(fd)
            else:
                assert os.pread(fd, 40_000, offset) == model[offset : offset + 40_000], f"step {step}"
        assert os.fstat(fd).st_size == len(model)
    remount()
    assert read_file(mnt / "f") == model


def test_append_goes_to_the_end_whatever_the_position(mnt):
    write_file(mnt / "f", b"start")
    with opened(mnt / "f", os.O_RDWR | os.O_APPEND) as fd:
        os.lseek(fd, 0, os.SEEK_SET)
        os.write(fd, b"-one")
        os.truncate(mnt / "f", 7)
        os.write(fd, b"-two")
    assert read_file(mnt / "f") == b"start-o-two"


def test_appends_of_several_processes_are_all_there(mnt):
    write_file(mnt / "f", b"")
    with in_child(_append_lines, mnt / "f", b"a"), in_child(_append_lines, mnt / "f", b"b"):
        _append_lines(mnt / "f", b"c")
    lines = read_file(mnt / "f").split(b"\n")[:-1]
    for who in (b"a", b"b", b"c"):
        assert [line for line in lines if line[:1] == who] == [b"%s%d" % (who, i) for i in range(500)]


def _append_lines(path, who):
    with opened(path, os.O_WRONLY | os.O_APPEND) as fd:
        for i in range(500):
            os.write(fd, b"%s%d\n" % (who, i))


def test_open_with_truncate_empties_the_file_for_all(mnt, remount):
    write_file(mnt / "f", pattern(100_000))
    with opened(mnt / "f", os.O_RDONLY) as reader:
        with opened(mnt / "f", os.O_WRONLY | os.O_TRUNC) as fd:
            assert os.fstat(reader).st_size == 0
            assert os.pread(reader, 10, 0) == b""
            os.pwrite(fd, b"Z", 5000)
        assert os.pread(reader, 10_000, 0) == bytes(5000) + b"Z"
    remount()
    assert read_file(mnt / "f") == bytes(5000) + b"Z"


@pytest.mark.parametrize("flag", ["O_SYNC", "O_DSYNC"])
def test_synchronous_writes_read_back(mnt, remount, flag):
    with opened(mnt / "f", os.O_CREAT | os.O_WRONLY | getattr(os, flag)) as fd:
        for i in range(20):
            os.pwrite(fd, pattern(3000, i), i * 3000)
    remount()
    assert read_file(mnt / "f") == b"".join(pattern(3000, i) for i in range(20))


def _aligned(data):
    buffer = mmap.mmap(-1, max(len(data), 4096))
    buffer[: len(data)] = data
    return buffer


@pytest.mark.parametrize("length", [4096, 65_536, 3 << 20])
def test_direct_writes_and_reads_agree_with_cached_ones(mnt, length):
    data = pattern(length)
    with opened(mnt / "f", os.O_CREAT | os.O_RDWR | os.O_DIRECT) as fd, opened(mnt / "f", os.O_RDONLY) as cached:
        assert os.pread(cached, 10, 0) == b""
        assert os.pwritev(fd, [memoryview(_aligned(data))[:length]], 0) == length
        assert read_file(mnt / "f") == data
        with opened(mnt / "f", os.O_WRONLY) as writer:
            os.pwrite(writer, b"cached", 100)
        back = mmap.mmap(-1, length)
        assert os.preadv(fd, [back], 0) == length
        assert back[:] == data[:100] + b"cached" + data[106:]


def test_direct_and_synchronous_appends_extend_the_file(mnt, remount):
    with opened(mnt / "f", os.O_CREAT | os.O_WRONLY | os.O_DIRECT | os.O_SYNC) as fd:
        for i in range(8):
            assert os.writev(fd, [memoryview(_aligned(pattern(4096, i)))[:4096]]) == 4096
    remount()
    assert read_file(mnt / "f") == b"".join(pattern(4096, i) for i in range(8))


def test_descriptors_refuse_what_they_were_not_opened_for(mnt):
    write_file(mnt / "f", b"abc")
    with opened(mnt / "f", os.O_RDONLY) as fd, fails_with(errno.EBADF):
        os.write(fd, b"x")
    with opened(mnt / "f", os.O_WRONLY) as fd, fails_with(errno.EBADF):
        os.read(fd, 1)
    with opened(mnt, os.O_RDONLY) as fd, fails_with(errno.EISDIR):
        os.read(fd, 1)
    with fails_with(errno.EISDIR):
        os.open(mnt, os.O_WRONLY)


def test_two_descriptors_see_each_others_writes(mnt):
    with opened(mnt / "f", os.O_CREAT | os.O_RDWR) as a, opened(mnt / "f") as b:
        for i in range(100):
            os.pwrite(a if i % 2 else b, pattern(5000, i), i * 37)
            assert os.pread(b if i % 2 else a, 5000, i * 37) == pattern(5000, i)
            assert os.fstat(a).st_size == os.fstat(b).st_size == i * 37 + 5000


def test_threads_that_write_different_files_do_not_mix_them(mnt, remount):
    errors = []

    def work(number):
        try:
            with opened(mnt / f"f{number}", os.O_CREAT | os.O_RDWR) as fd:
                for i in range(60):
                    write_all(fd, pattern(20_000, (number, i)), i * 20_000)
                    if i % 20 == number:
                        os.fsync(fd)
        except OSError as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    remount()
    for n in range(6):
        assert read_file(mnt / f"f{n}") == b"".join(pattern(20_000, (n, i)) for i in range(60))


def test_threads_that_write_one_file_leave_whole_pieces(mnt, remount):
    piece, count = 12_288, 40

    def work(number):
        with opened(mnt / "f") as fd:
            for i in range(count):
                write_all(fd, bytes([number]) * piece, ((i * 7 + number) % count) * piece)

    write_file(mnt / "f", bytes(piece * count))
    threads = [threading.Thread(target=work, args=(n,)) for n in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    before = read_file(mnt / "f")
    remount()
    data = read_file(mnt / "f")
    assert data == before
    for at in range(0, len(data), 4096):
        block = data[at : at + 4096]
        assert block == block[:1] * 4096 and block[0] != 0


def test_copy_within_the_mount_gives_the_same_bytes(mnt, remount):
    data = pattern(3_000_000)
    write_file(mnt / "a", data)
    with opened(mnt / "a", os.O_RDONLY) as source, opened(mnt / "b", os.O_CREAT | os.O_WRONLY) as target:
        done = 0
        while done < len(data):
            n = os.copy_file_range(source, target, len(data) - done)
            assert n > 0
            done += n
    with opened(mnt / "b") as fd:
        os.pwrite(fd, b"only in b", 1_000_000)
    remount()
    assert read_file(mnt / "a") == data
    assert read_file(mnt / "b") == data[:1_000_000] + b"only in b" + data[1_000_009:]


def test_seek_finds_data_and_holes_or_treats_the_file_as_data(mnt):
    with opened(mnt / "f", os.O_CREAT | os.O_RDWR) as fd:
        os.pwrite(fd, b"x" * 8192, 1 << 20)
        os.ftruncate(fd, 3 << 20)
        os.fsync(fd)
        data = os.lseek(fd, 0, os.SEEK_DATA)
        hole = os.lseek(fd, 1 << 20, os.SEEK_HOLE)
        assert data in (0, 1 << 20)
        assert hole in ((1 << 20) + 8192, 3 << 20)
        with fails_with(errno.ENXIO):
            os.lseek(fd, 4 << 20, os.SEEK_DATA)
