# SPDX-License-Identifier: MIT
"""Files of the mount mapped by programs."""

import mmap
import os
import shutil
import stat

import pytest
from helpers.commands import run
from helpers.files import drop_caches, in_child, opened, pattern, read_file, write_file


def test_shared_mapping_reads_what_was_written(mnt, remount):
    data = pattern(1_000_001)
    write_file(mnt / "f", data)
    remount()
    with opened(mnt / "f", os.O_RDONLY) as fd, mmap.mmap(fd, 0, prot=mmap.PROT_READ) as mapped:
        assert mapped[:] == data


def test_mapped_store_is_seen_by_read_and_lasts_after_msync(mnt, remount):
    data = bytearray(pattern(100_000))
    write_file(mnt / "f", data)
    with opened(mnt / "f") as fd, mmap.mmap(fd, 0) as mapped:
        for offset in (0, 4095, 50_000, 99_990):
            mapped[offset : offset + 10] = b"0123456789"
            data[offset : offset + 10] = b"0123456789"
            assert os.pread(fd, 10, offset) == b"0123456789"
        mapped.flush()
        drop_caches(mnt / "f")
        assert read_file(mnt / "f") == data
    remount()
    assert read_file(mnt / "f") == data


def test_mapped_store_lasts_without_msync_too(mnt, remount):
    write_file(mnt / "f", bytes(200_000))
    with opened(mnt / "f") as fd, mmap.mmap(fd, 0) as mapped:
        for i in range(0, 200_000, 4096):
            mapped[i] = 7
    remount()
    assert read_file(mnt / "f") == bytes(7 if i % 4096 == 0 else 0 for i in range(200_000))


def test_write_is_seen_in_a_mapping_of_another_process(mnt):
    write_file(mnt / "f", bytes(8192))
    with opened(mnt / "f") as fd, mmap.mmap(fd, 8192) as mapped:
        with in_child(_write_into, mnt / "f"):
            pass
        assert mapped[5000:5010] == b"from child"
        mapped[0:6] = b"parent"
        with in_child(_expect_start, mnt / "f"):
            pass


def _write_into(path):
    with opened(path) as fd:
        os.pwrite(fd, b"from child", 5000)


def _expect_start(path):
    assert read_file(path)[:6] == b"parent"


def test_processes_share_one_mapping(mnt):
    write_file(mnt / "f", bytes(4096))
    with opened(mnt / "f") as fd, mmap.mmap(fd, 4096) as mapped:
        with in_child(_store_mapped, mnt / "f"):
            pass
        assert mapped[100:105] == b"child"


def _store_mapped(path):
    with opened(path) as fd, mmap.mmap(fd, 4096) as mapped:
        mapped[100:105] = b"child"


def test_private_mapping_changes_nothing_in_the_file(mnt):
    data = pattern(20_000)
    write_file(mnt / "f", data)
    with opened(mnt / "f", os.O_RDONLY) as fd, mmap.mmap(fd, 0, access=mmap.ACCESS_COPY) as mapped:
        mapped[0:7] = b"private"
        mapped[9000:9007] = b"private"
        assert mapped[0:7] == b"private"
    assert read_file(mnt / "f") == data


def test_store_into_a_hole_allocates_it(mnt, remount):
    with opened(mnt / "f", os.O_CREAT | os.O_RDWR) as fd:
        os.ftruncate(fd, 1 << 30)
        with mmap.mmap(fd, 1 << 30) as mapped:
            mapped[500_000_000:500_000_004] = b"hole"
            assert mapped[500_000_004:500_000_008] == bytes(4)
            mapped.flush()
    remount()
    with opened(mnt / "f", os.O_RDONLY) as fd:
        assert os.pread(fd, 12, 499_999_996) == b"\0\0\0\0hole\0\0\0\0"
    assert os.stat(mnt / "f").st_blocks <= 512


def test_bytes_of_the_last_page_beyond_the_end_do_not_reach_the_file(mnt, remount):
    write_file(mnt / "f", b"short")
    with opened(mnt / "f") as fd, mmap.mmap(fd, 0) as mapped:
        mapped[0:5] = b"SHORT"
        mapped.flush()
    os.truncate(mnt / "f", 5000)
    remount()
    assert read_file(mnt / "f") == b"SHORT" + bytes(4995)


def test_mapping_outlives_unlink_and_close(mnt):
    write_file(mnt / "f", pattern(50_000))
    with opened(mnt / "f") as fd:
        mapped = mmap.mmap(fd, 0)
    os.unlink(mnt / "f")
    with mapped:
        assert mapped[:] == pattern(50_000)
        mapped[100:104] = b"gone"
        mapped.flush()
        assert mapped[100:104] == b"gone"


@pytest.mark.limit(60)
def test_large_mapping_written_at_random_reads_back(mnt, remount):
    size = 16 << 20
    with opened(mnt / "f", os.O_CREAT | os.O_RDWR) as fd:
        os.ftruncate(fd, size)
        with mmap.mmap(fd, size) as mapped:
            for i in range(0, 4096):
                at = (i * 2_654_435_761) % (size - 8)
                mapped[at : at + 8] = b"%08d" % i
            expected = mapped[:]
    remount()
    assert read_file(mnt / "f") == expected


def test_programs_run_from_the_mount(mnt, remount):
    shutil.copy("/bin/cat", mnt / "program")
    os.chmod(mnt / "program", 0o755)
    write_file(mnt / "input", b"fed to the program\n")
    write_file(mnt / "script", b"#!/bin/sh\necho script ran: $1\n", 0o755)
    remount()
    assert run([mnt / "program", mnt / "input"]).out == "fed to the program\n"
    assert run([mnt / "script", "yes"]).out == "script ran: yes\n"
    os.chmod(mnt / "script", stat.S_IRUSR)
    assert run(["sh", "-c", f"'{mnt}/script'"], check=False).status == 126


def test_shared_libraries_load_from_the_mount(mnt):
    libc = next(p for p in (line.split()[-1] for line in open("/proc/self/maps")) if "libc.so" in p)
    shutil.copy(libc, mnt / "libcopy.so")
    code = f"import ctypes; print(ctypes.CDLL('{mnt}/libcopy.so').abs(-5))"
    assert run(["python3", "-c", code]).out == "5\n"
