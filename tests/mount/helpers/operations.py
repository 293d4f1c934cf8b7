# SPDX-License-Identifier: MIT
"""Random operations, applied alike to several directories.

An operation is a tuple (name, arguments...); a Chooser makes it from a seed and from what paths there are, and
Root.apply() performs it below one root. Its outcome (a value, or the name of the error) must be the same on every
filesystem.
"""

import contextlib
import os
import random

from helpers.files import pattern, write_all
from helpers.libc import RENAME_EXCHANGE, RENAME_NOREPLACE, errno_name, renameat2

DIRECTORIES = ["d1", "d2", "ü"]
FILES = ["a", "b", "c", "e", "f", "g", "x" * 255]
XATTRS = ["user.one", "user.two", "user.three"]
OFFSETS = [0, 1, 100, 4095, 4096, 4097, 10_000, 65_536, 300_001, 5_000_000]
LENGTHS = [1, 10, 100, 3000, 4096, 8192, 20_000, 150_000]
MODES = [0o600, 0o644, 0o755, 0o700, 0o444]


class Chooser:
    """Makes random operations: paths mostly of what is there (below `root`), and sometimes of anything."""

    offsets, lengths = OFFSETS, LENGTHS

    def __init__(self, seed, root, *, handles=True, xattrs=True):
        self.rng = random.Random(seed)
        self.root = os.fspath(root)
        self.kinds = [self._file, self._file, self._making, self._moving, self._attribute]
        if handles:
            self.kinds.append(self._handle)
        self.xattrs = xattrs
        self.directories, self.files = [], []

    def next(self):
        self._look()
        while True:
            operation = self.rng.choice(self.kinds)()
            if self.xattrs or "xattr" not in operation[0]:
                return operation

    def _look(self):
        self.directories, self.files = [""], []
        for top, directories, files in os.walk(self.root):
            below = os.path.relpath(top, self.root)
            prefix = "" if below == "." else below + "/"
            self.directories += [prefix + d for d in sorted(directories)]
            self.files += [prefix + f for f in sorted(files)]
        self.directories.sort()
        self.files.sort()

    def new_path(self, leaves=FILES):
        parent = self.rng.choice([d for d in self.directories if d.count("/") < 2])
        return f"{parent}/{self.rng.choice(leaves)}".lstrip("/")

    def directory(self):
        if self.rng.random() < 0.1 or len(self.directories) == 1:
            return self.any()
        return self.rng.choice(self.directories[1:])

    def file(self):
        return self.any() if self.rng.random() < 0.1 or not self.files else self.rng.choice(self.files)

    def any(self):
        return "/".join(self.rng.choice(DIRECTORIES + FILES) for _ in range(self.rng.choice((1, 1, 2))))

    def _bytes(self):
        """Offset, length and seed of a piece of data."""
        return self.rng.choice(self.offsets), self.rng.choice(self.lengths), self.rng.randrange(1 << 30)

    def _file(self):
        path, bytes_ = self.file(), self._bytes()
        return self.rng.choice(
            [
                ("write", path, *bytes_),
                ("write", path, *bytes_),
                ("append", path, *bytes_[1:]),
                ("truncate", path, bytes_[0]),
                ("read", path, *bytes_[:2]),
                ("fsync", path),
            ]
        )

    def _making(self):
        rng = self.rng
        return rng.choice(
            [
                ("create", self.new_path(), rng.choice(MODES)),
                ("create", self.new_path(), rng.choice(MODES)),
                ("create", self.new_path(), rng.choice(MODES)),
                ("mkdir", self.new_path(DIRECTORIES), rng.choice((0o755, 0o700))),
                ("mkdir", self.new_path(DIRECTORIES), 0o755),
                ("symlink", self.new_path(), rng.choice((self.any(), "nowhere", "t" * 200))),
                ("mkfifo", self.new_path()),
                ("link", self.file(), self.new_path()),
            ]
        )

    def _moving(self):
        old, new = self.rng.choice(
            [
                (self.file(), self.new_path()),
                (self.file(), self.file()),
                (self.directory(), self.new_path(DIRECTORIES)),
                (self.directory(), self.directory()),
                (self.file(), self.directory()),
            ]
        )
        return self.rng.choice(
            [
                ("rename", old, new),
                ("rename", old, new),
                ("rename_noreplace", old, new),
                ("exchange", old, new),
                ("unlink", self.file()),
                ("rmdir", self.directory()),
                ("list", self.directory()),
            ]
        )

    def _attribute(self):
        path, rng = self.rng.choice((self.file, self.directory))(), self.rng
        return rng.choice(
            [
                ("chmod", path, rng.choice(MODES)),
                ("utime", path, rng.randrange(1 << 60)),
                ("setxattr", path, rng.choice(XATTRS), rng.randrange(200), rng.choice((0, 0, 1, 2))),
                ("removexattr", path, rng.choice(XATTRS)),
                ("stat", path),
            ]
        )

    def _handle(self):
        slot, bytes_ = self.rng.randrange(4), self._bytes()
        return self.rng.choice(
            [
                ("open", slot, self.file()),
                ("handle_write", slot, *bytes_),
                ("handle_read", slot, *bytes_[:2]),
                ("handle_truncate", slot, bytes_[0]),
                ("close", slot),
            ]
        )


class Root:
    """A directory that operations are applied to, with the files that they hold open."""

    def __init__(self, path):
        self.path = os.fspath(path)
        self.handles = {}

    def apply(self, operation):
        """The outcome: a value that can be compared, or the name of the error."""
        name, *args = operation
        try:
            return getattr(self, f"_do_{name}")(*args)
        except OSError as error:
            return errno_name(error)

    def close_all(self):
        for fd in self.handles.values():
            os.close(fd)
        self.handles.clear()

    def _at(self, path):
        return os.path.join(self.path, path)

    @contextlib.contextmanager
    def _opened(self, path, flags):
        # Not blocking: the name may be that of a fifo.
        fd = os.open(self._at(path), flags | os.O_NONBLOCK | os.O_NOFOLLOW)
        try:
            yield fd
        finally:
            os.close(fd)

    def _do_write(self, path, offset, length, seed):
        with self._opened(path, os.O_WRONLY) as fd:
            write_all(fd, pattern(length, seed), offset)

    def _do_append(self, path, length, seed):
        with self._opened(path, os.O_WRONLY | os.O_APPEND) as fd:
            write_all(fd, pattern(length, seed))

    def _do_truncate(self, path, size):
        with self._opened(path, os.O_RDWR) as fd:
            os.ftruncate(fd, size)

    def _do_read(self, path, offset, length):
        with self._opened(path, os.O_RDONLY) as fd:
            return os.pread(fd, length, offset)

    def _do_fsync(self, path):
        with self._opened(path, os.O_RDONLY) as fd:
            os.fsync(fd)

    def _do_create(self, path, mode):
        os.close(os.open(self._at(path), os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, mode))

    def _do_mkdir(self, path, mode):
        os.mkdir(self._at(path), mode)

    def _do_symlink(self, path, target):
        os.symlink(target, self._at(path))

    def _do_mkfifo(self, path):
        os.mkfifo(self._at(path), 0o600)

    def _do_link(self, path, new):
        os.link(self._at(path), self._at(new), follow_symlinks=False)

    def _do_rename(self, path, new):
        os.rename(self._at(path), self._at(new))

    def _do_rename_noreplace(self, path, new):
        renameat2(self._at(path), self._at(new), RENAME_NOREPLACE)

    def _do_exchange(self, path, new):
        renameat2(self._at(path), self._at(new), RENAME_EXCHANGE)

    def _do_unlink(self, path):
        os.unlink(self._at(path))

    def _do_rmdir(self, path):
        os.rmdir(self._at(path))

    def _do_list(self, path):
        return sorted(os.listdir(self._at(path)))

    def _do_chmod(self, path, mode):
        if not os.path.islink(self._at(path)):
            os.chmod(self._at(path), mode | 0o600)

    def _do_utime(self, path, when):
        os.utime(self._at(path), ns=(when, when), follow_symlinks=False)
        return os.lstat(self._at(path)).st_mtime_ns

    def _do_setxattr(self, path, name, length, flags):
        os.setxattr(self._at(path), name, pattern(length, name), flags, follow_symlinks=False)

    def _do_removexattr(self, path, name):
        os.removexattr(self._at(path), name, follow_symlinks=False)

    def _do_stat(self, path):
        info = os.lstat(self._at(path))
        size = 0 if os.path.isdir(self._at(path)) else info.st_size
        return info.st_mode, info.st_nlink, size

    def _do_open(self, slot, path):
        if slot in self.handles:
            os.close(self.handles.pop(slot))
        self.handles[slot] = os.open(self._at(path), os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW)

    def _do_handle_write(self, slot, offset, length, seed):
        if slot in self.handles:
            write_all(self.handles[slot], pattern(length, seed), offset)

    def _do_handle_read(self, slot, offset, length):
        if slot in self.handles:
            data = os.pread(self.handles[slot], length, offset)
            info = os.fstat(self.handles[slot])
            return data, info.st_size, info.st_nlink

    def _do_handle_truncate(self, slot, size):
        if slot in self.handles:
            os.ftruncate(self.handles[slot], size)

    def _do_close(self, slot):
        if slot in self.handles:
            os.close(self.handles.pop(slot))


def reference_keeps_xattrs(path):
    """Whether the directory that serves as the model has user attributes (tmpfs of old kernels has not)."""
    try:
        os.setxattr(path, "user.probe", b"")
        os.removexattr(path, "user.probe")
    except OSError:
        return False
    return True
