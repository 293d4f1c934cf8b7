# SPDX-License-Identifier: MIT
"""Work to be interrupted by a kill -9, and the judgement of what is left.

Each kind is a class with work(), which runs in a process of its own until the mount is gone and tells a log outside of
the mount what it was promised, and check(), which compares the mount with that promise. All of them also
check the shape: a state must be that of a prefix of what was asked for, so a later step is never there without the
earlier one.
"""

import errno
import os
import subprocess

from helpers.files import pattern, read_file, write_all

# What system calls give when the daemon has gone.
GONE = (errno.ENOTCONN, errno.ECONNABORTED, errno.EIO, errno.ENODEV)


class Work:
    """One worker: its directory in the mount, and its log of acknowledgements outside."""

    def __init__(self, directory, log, build=None):
        self.directory, self.log, self.build = os.fspath(directory), os.fspath(log), build
        self._fd = None

    def acknowledge(self, number):
        """Everything up to `number` was promised to be durable."""
        os.write(self._fd, b"%d\n" % number)

    def acknowledged(self):
        try:
            lines = read_file(self.log).split(b"\n")[:-1]
        except FileNotFoundError:
            return -1
        return int(lines[-1]) if lines else -1

    def run(self):
        """The body of the worker's process."""
        self._fd = os.open(self.log, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o644)
        try:
            self.work()
        except OSError as error:
            if error.errno not in GONE:
                raise

    def path(self, name):
        return os.path.join(self.directory, name)

    def work(self):
        raise NotImplementedError

    def check(self):
        raise NotImplementedError


class Appender(Work):
    """Appends numbered records to one file, fsync after every few. Also with O_SYNC, where each write is a promise."""

    flags, every, name = 0, 7, "appended"

    def record(self, n):
        return pattern(50 + n * 997 % 6000, n)

    def start(self, fd):
        """The number of the first record that is missing, after cutting a partial one off."""
        n = at = 0
        size = os.fstat(fd).st_size
        while at + len(self.record(n)) <= size:
            at += len(self.record(n))
            n += 1
        os.ftruncate(fd, at)
        os.lseek(fd, 0, os.SEEK_END)
        return n

    def work(self):
        fd = os.open(self.path(self.name), os.O_CREAT | os.O_RDWR | self.flags, 0o644)
        n = self.start(fd)
        while True:
            write_all(fd, self.record(n))
            if self.every and n % self.every == 0:
                os.fsync(fd)
            if not self.every or n % self.every == 0:
                self.acknowledge(n)
            n += 1

    def check(self):
        acknowledged = self.acknowledged()
        try:
            data = read_file(self.path(self.name))
        except FileNotFoundError:
            assert acknowledged < 0, "a file whose fsync was acknowledged is missing"
            return
        n = at = 0
        while at < len(data):
            piece = self.record(n)
            found = data[at : at + len(piece)]
            assert found == piece[: len(found)], f"record {n} of {self.name} at {at} holds other bytes"
            at += len(piece)
            n += len(found) == len(piece)
        assert n > acknowledged, f"{self.name}: record {acknowledged} was acknowledged, only {n} are there"


class SyncAppender(Appender):
    flags, every, name = os.O_SYNC, 0, "appended with O_SYNC"


class DataSyncAppender(Appender):
    flags, every, name = os.O_DSYNC, 0, "appended with O_DSYNC"


class Replacer(Work):
    """Saves files as editors do: write a new one, rename it over the old; fsync of the directory now and then."""

    def content(self, n):
        return b"%08d" % n * (1 + n * 31 % 3000)

    def work(self):
        n = self.acknowledged() + 1
        directory = os.open(self.directory, os.O_RDONLY)
        while True:
            name = f"document-{n % 5}"
            fd = os.open(self.path("new"), os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o644)
            write_all(fd, self.content(n))
            os.close(fd)
            os.rename(self.path("new"), self.path(name))
            if n % 4 == 0:
                os.fsync(directory)
                self.acknowledge(n)
            n += 1

    def check(self):
        acknowledged, numbers = self.acknowledged(), []
        for slot in range(5):
            try:
                data = read_file(self.path(f"document-{slot}"))
            except FileNotFoundError:
                assert acknowledged < slot, f"document-{slot} is missing"
                continue
            n = int(data[:8])
            assert data == self.content(n), f"document-{slot} is not whole"
            assert n % 5 == slot
            assert n > acknowledged - 5, f"document-{slot} is version {n}, {acknowledged} was acknowledged"
            numbers.append(n)
        # Version n never came without n-1.
        if len(numbers) == 5:
            assert sorted(numbers) == list(range(min(numbers), min(numbers) + 5)), f"versions {numbers}"


class Overwriter(Work):
    """Writes version after version over the same blocks, in order."""

    blocks, size = 40, 4096

    def block(self, version, i):
        return b"%08d" % version + pattern(self.size - 8, (version % 16, i))

    def work(self):
        fd = os.open(self.path("versions"), os.O_CREAT | os.O_RDWR, 0o644)
        version = max(self.versions(), default=self.acknowledged()) + 1
        while True:
            for i in range(self.blocks):
                write_all(fd, self.block(version, i), i * self.size)
            if version % 2 == 0:
                os.fdatasync(fd)
                self.acknowledge(version)
            version += 1

    def versions(self):
        """The version that each block holds; every block must be whole."""
        try:
            data = read_file(self.path("versions"))
        except FileNotFoundError:
            return []
        found = []
        for i in range(len(data) // self.size):
            block = data[i * self.size : (i + 1) * self.size]
            found.append(int(block[:8]))
            assert block == self.block(found[-1], i), f"block {i} is a mixture of versions"
        return found

    def check(self):
        acknowledged, found = self.acknowledged(), self.versions()
        if acknowledged >= 0:
            assert len(found) == self.blocks, f"{len(found)} blocks are left"
            assert min(found) >= acknowledged, f"versions {found}, {acknowledged} was acknowledged"
        assert found == sorted(found, reverse=True), f"versions {found}"


class Window(Work):
    """Makes numbered names and removes the one fifty before: what is there is always one window of numbers."""

    width = 50

    def work(self):
        names = os.listdir(self.directory)
        n = max((int(name) for name in names), default=-1) + 1
        for old in sorted(int(name) for name in names):
            if old < n - self.width:
                self.remove(old)
        directory = os.open(self.directory, os.O_RDONLY)
        while True:
            kind = n % 3
            if kind == 0:
                os.close(os.open(self.path(str(n)), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
            elif kind == 1:
                os.mkdir(self.path(str(n)))
            else:
                os.symlink(str(n), self.path(str(n)))
            if n >= self.width:
                self.remove(n - self.width)
            if n % 20 == 0:
                os.fsync(directory)
                self.acknowledge(n)
            n += 1

    def remove(self, n):
        path = self.path(str(n))
        os.rmdir(path) if n % 3 == 1 else os.unlink(path)

    def check(self):
        numbers = sorted(int(name) for name in os.listdir(self.directory))
        acknowledged = self.acknowledged()
        if not numbers:
            assert acknowledged < 0
            return
        assert numbers == list(range(numbers[0], numbers[-1] + 1)), "names are missing in between"
        assert numbers[-1] >= acknowledged, f"{acknowledged} was acknowledged, the last is {numbers[-1]}"
        assert numbers[0] == 0 or self.width <= len(numbers) <= self.width + 1, f"{len(numbers)} names"
        for n in numbers:
            if n % 3 == 2:
                assert os.readlink(self.path(str(n))) == str(n)


class Counters(Work):
    """Writes the same number to one file after the other: an earlier one is never behind a later one."""

    files = 6

    def values(self):
        """What each file holds: -1 for none, 0 for an empty one."""
        found = []
        for i in range(self.files):
            try:
                found.append(int(read_file(self.path(f"counter-{i}")) or b"0"))
            except FileNotFoundError:
                found.append(-1)
        return found

    def work(self):
        n = max(*self.values(), 0) + 1
        fds = [os.open(self.path(f"counter-{i}"), os.O_CREAT | os.O_RDWR, 0o644) for i in range(self.files)]
        while True:
            for fd in fds:
                os.pwrite(fd, b"%010d" % n, 0)
            if n % 10 == 0:
                os.fsync(fds[n // 10 % self.files])
                self.acknowledge(n)
            n += 1

    def check(self):
        values = self.values()
        assert min(values) >= self.acknowledged(), f"{values}, {self.acknowledged()} was acknowledged"
        assert values == sorted(values, reverse=True), f"{values}"


class SyncCommand(Work):
    """Changes without any fsync, and `mapfs sync` now and then."""

    def work(self):
        n = self.acknowledged() + 1
        point = os.path.dirname(self.directory)
        while True:
            for i in range(10):
                with open(self.path(f"file-{n}-{i}"), "wb", buffering=0) as f:
                    f.write(pattern(3000, (n, i)))
            program = [os.fspath(self.build.program("mapfs")), "sync", point]
            status = subprocess.run(program, env=self.build.env(), capture_output=True, timeout=120).returncode
            if status != 0:
                return
            self.acknowledge(n)
            n += 1

    def check(self):
        for n in range(self.acknowledged() + 1):
            for i in range(10):
                assert read_file(self.path(f"file-{n}-{i}")) == pattern(3000, (n, i)), f"file-{n}-{i}"


KINDS = {
    "fsync": Appender,
    "o_sync": SyncAppender,
    "o_dsync": DataSyncAppender,
    "rename": Replacer,
    "overwrite": Overwriter,
    "names": Window,
    "counters": Counters,
    "sync command": SyncCommand,
}
