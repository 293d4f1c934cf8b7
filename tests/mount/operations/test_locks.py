# SPDX-License-Identifier: MIT
"""flock, POSIX record locks and open file description locks."""

import errno
import fcntl
import os
import struct

import pytest
from helpers.files import fails_with, in_child, opened, python, write_file
from helpers.libc import F_OFD_SETLK, F_OFD_SETLKW

BUSY = (errno.EAGAIN, errno.EACCES)


@pytest.fixture
def path(mnt):
    write_file(mnt / "f", bytes(1000))
    return mnt / "f"


def _flock(kind, start=0, length=0):
    return struct.pack("hhqqi4x", kind, os.SEEK_SET, start, length, 0)


def test_flock_excludes_another_open_file(path):
    with opened(path) as a, opened(path) as b:
        fcntl.flock(a, fcntl.LOCK_EX)
        with fails_with(*BUSY):
            fcntl.flock(b, fcntl.LOCK_SH | fcntl.LOCK_NB)
        fcntl.flock(a, fcntl.LOCK_SH)
        fcntl.flock(b, fcntl.LOCK_SH | fcntl.LOCK_NB)
        with fails_with(*BUSY):
            fcntl.flock(a, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(b, fcntl.LOCK_UN)
        fcntl.flock(a, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_flock_ends_with_close(path):
    with opened(path) as a:
        fcntl.flock(a, fcntl.LOCK_EX)
    with opened(path) as b:
        fcntl.flock(b, fcntl.LOCK_EX | fcntl.LOCK_NB)


TRY = """
import fcntl, sys, os
fd = os.open(sys.argv[1], os.O_RDWR)
try:
    fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, int(sys.argv[3]), int(sys.argv[2]))
    print("got")
except OSError as e:
    print("busy")
"""


def _another_process_gets(path, start, length):
    return python(TRY, path, str(start), str(length)).out.strip() == "got"


def test_posix_locks_cover_their_range_and_no_more(path):
    with opened(path) as fd:
        fcntl.lockf(fd, fcntl.LOCK_EX, 100, 200)
        assert not _another_process_gets(path, 250, 10)
        assert _another_process_gets(path, 0, 200)
        assert _another_process_gets(path, 300, 0)
        fcntl.lockf(fd, fcntl.LOCK_UN, 50, 200)
        assert _another_process_gets(path, 200, 50)
        assert not _another_process_gets(path, 249, 2)


def test_posix_locks_go_when_any_descriptor_of_the_process_is_closed(path):
    with opened(path) as fd:
        fcntl.lockf(fd, fcntl.LOCK_EX)
        assert not _another_process_gets(path, 0, 0)
        os.close(os.open(path, os.O_RDONLY))
        assert _another_process_gets(path, 0, 0)


def test_posix_lock_query_names_the_holder(path):
    with opened(path) as fd:
        fcntl.lockf(fd, fcntl.LOCK_EX, 10, 5)
        with in_child(_expect_holder, path, os.getpid()):
            pass


def _expect_holder(path, holder):
    with opened(path) as fd:
        found = struct.unpack("hhqqi4x", fcntl.fcntl(fd, fcntl.F_GETLK, _flock(fcntl.F_WRLCK)))
        assert found == (fcntl.F_WRLCK, os.SEEK_SET, 5, 10, holder)


def test_ofd_locks_belong_to_the_open_file(path):
    with opened(path) as a, opened(path) as b:
        fcntl.fcntl(a, F_OFD_SETLK, _flock(fcntl.F_WRLCK, 0, 100))
        with fails_with(*BUSY):
            fcntl.fcntl(b, F_OFD_SETLK, _flock(fcntl.F_WRLCK, 50, 100))
        fcntl.fcntl(b, F_OFD_SETLK, _flock(fcntl.F_WRLCK, 100, 100))
        os.close(os.open(path, os.O_RDONLY))
        with fails_with(*BUSY):
            fcntl.fcntl(b, F_OFD_SETLK, _flock(fcntl.F_RDLCK, 0, 1))


def test_waiting_for_a_lock_ends_when_it_is_released(path):
    with opened(path) as fd:
        fcntl.fcntl(fd, F_OFD_SETLK, _flock(fcntl.F_WRLCK))
        with in_child(_count_up_locked, path, 1):
            fcntl.fcntl(fd, F_OFD_SETLK, _flock(fcntl.F_UNLCK))


def _count_up_locked(path, times):
    for _ in range(times):
        with opened(path) as fd:
            fcntl.fcntl(fd, F_OFD_SETLKW, _flock(fcntl.F_WRLCK))
            value = int.from_bytes(os.pread(fd, 8, 0), "little")
            os.pwrite(fd, (value + 1).to_bytes(8, "little"), 0)


def test_counter_under_locks_loses_no_step(path):
    with in_child(_count_up_locked, path, 400), in_child(_count_up_locked, path, 400):
        _count_up_locked(path, 400)
    with opened(path) as fd:
        assert int.from_bytes(os.pread(fd, 8, 0), "little") == 1200
