# SPDX-License-Identifier: MIT
"""fallocate(2), and random operations on one file beside a model of its bytes."""

import contextlib
import ctypes
import errno
import mmap
import os

from helpers.files import pattern

KEEP_SIZE, PUNCH_HOLE, COLLAPSE, ZERO_RANGE, INSERT, UNSHARE = 0x01, 0x02, 0x08, 0x10, 0x20, 0x40
MODES = (0, KEEP_SIZE, PUNCH_HOLE | KEEP_SIZE, ZERO_RANGE, ZERO_RANGE | KEEP_SIZE)

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]


def fallocate(fd, mode, offset, length):
    if _libc.fallocate(fd, mode, offset, length) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def punch(fd, offset, length):
    fallocate(fd, PUNCH_HOLE | KEEP_SIZE, offset, length)


def zero(fd, offset, length, keep_size=False):
    fallocate(fd, ZERO_RANGE | (KEEP_SIZE if keep_size else 0), offset, length)


def segments(fd):
    """What SEEK_DATA and SEEK_HOLE tell: (start, end) of each stretch of data."""
    found, at, size = [], 0, os.fstat(fd).st_size
    while at < size:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            assert error.errno == errno.ENXIO, error
            break
        at = os.lseek(fd, start, os.SEEK_HOLE)
        assert start < at <= size, (start, at, size)
        found.append((start, at))
    return found


class RangeFile:
    """One file of up to `limit` bytes, and what it should hold."""

    def __init__(self, path, rng, limit=200_000):
        self.path, self.rng, self.limit = path, rng, limit
        self.data = bytearray()
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        self.steps = 0
        self.note = ""

    def close(self):
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = -1

    def reopen(self):
        self.close()
        self.fd = os.open(self.path, os.O_RDWR)

    def _range(self):
        """A place and a length, often on the edge of a block or of the file."""
        rng = self.rng
        spots = (0, len(self.data), rng.randrange(self.limit), rng.randrange(self.limit) & ~4095, len(self.data) & ~4095)
        offset = min(rng.choice(spots), self.limit - 1)
        length = rng.choice((1, 7, 100, 2000, 4096, 8192, rng.randrange(1, 20_000), rng.randrange(1, self.limit)))
        return offset, min(length, self.limit - offset)

    def _grow(self, size):
        self.data.extend(bytes(max(0, size - len(self.data))))

    def write(self):
        offset, length = self._range()
        new = pattern(length, self.steps)
        self.note = f"write {offset} {length}"
        assert os.pwrite(self.fd, new, offset) == length
        self._grow(offset)
        self.data[offset : offset + length] = new

    def truncate(self):
        size = self._range()[0]
        self.note = f"truncate {size}"
        os.ftruncate(self.fd, size)
        del self.data[size:]
        self._grow(size)

    def allocate(self):
        mode = self.rng.choice(MODES)
        offset, length = self._range()
        self.note = f"fallocate {mode:#x} {offset} {length}"
        fallocate(self.fd, mode, offset, length)
        if not mode & KEEP_SIZE:
            self._grow(offset + length)
        if mode & (PUNCH_HOLE | ZERO_RANGE):
            end = min(offset + length, len(self.data))
            self.data[offset:end] = bytes(max(0, end - offset))

    def store(self):
        """Stores through a shared mapping."""
        if not self.data:
            return
        offset = self.rng.randrange(len(self.data))
        length = min(self.rng.choice((1, 50, 5000, 30_000)), len(self.data) - offset)
        self.note = f"mmap store {offset} {length}"
        new = pattern(length, self.steps)
        with mmap.mmap(self.fd, len(self.data)) as memory:
            memory[offset : offset + length] = new
            if self.rng.random() < 0.5:
                memory.flush()
        self.data[offset : offset + length] = new

    def read(self):
        offset, length = self._range()
        self.note = f"read {offset} {length}"
        assert os.pread(self.fd, length, offset) == self.data[offset : offset + length]

    def drop(self):
        self.note = "drop caches"
        os.fsync(self.fd)
        os.posix_fadvise(self.fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def sync(self):
        self.note = "fsync"
        os.fsync(self.fd)

    def seek(self):
        """Nothing but zeros outside of what is told to be data."""
        self.note = "seek"
        os.fsync(self.fd)  # what was stored through a mapping is data once it is written back
        at = 0
        for start, end in [*segments(self.fd), (len(self.data), len(self.data))]:
            assert not any(self.data[at:start]), f"data in what is told to be a hole, {at} to {start}"
            at = end

    def check(self):
        assert os.fstat(self.fd).st_size == len(self.data)
        found = os.pread(self.fd, self.limit + 1, 0)
        if found != self.data:
            at = next((i for i, (a, b) in enumerate(zip(found, self.data, strict=False)) if a != b), -1)
            raise AssertionError(f"after step {self.steps}, {self.note}: other bytes from {at} on")

    def step(self, store=True):
        choices = [self.write] * 6 + [self.allocate] * 8 + [self.truncate] * 2 + [self.read, self.seek, self.drop]
        if store:
            choices += [self.store] * 3
        self.steps += 1
        self.rng.choice(choices)()


@contextlib.contextmanager
def range_file(path, rng, limit=200_000):
    file = RangeFile(path, rng, limit)
    try:
        yield file
    except Exception as error:
        raise AssertionError(f"step {file.steps}, {file.note}: {error}") from error
    finally:
        file.close()
