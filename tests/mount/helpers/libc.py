# SPDX-License-Identifier: MIT
"""System calls that Python has no wrapper for."""

import ctypes
import errno
import os
import struct

_libc = ctypes.CDLL(None, use_errno=True)

AT_FDCWD, AT_SYMLINK_FOLLOW, AT_EMPTY_PATH = -100, 0x400, 0x1000
RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT = 1, 2, 4
F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW = 36, 37, 38
SYS_GETDENTS64 = 217
SYS_RENAMEAT2 = 316

_libc.opendir.restype = ctypes.c_void_p
_libc.readdir.argtypes = _libc.closedir.argtypes = _libc.telldir.argtypes = _libc.rewinddir.argtypes = [ctypes.c_void_p]
_libc.readdir.restype = ctypes.c_void_p
_libc.telldir.restype = ctypes.c_long
_libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]


def _check(result):
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def renameat2(old, new, flags):
    old, new = os.fsencode(old), os.fsencode(new)
    _check(_libc.syscall(SYS_RENAMEAT2, AT_FDCWD, old, AT_FDCWD, new, ctypes.c_uint(flags)))


def linkat(fd, old, new, flags):
    """Gives what `old` means, seen from the directory (or with AT_EMPTY_PATH the file) fd, the name `new`."""
    _check(_libc.linkat(fd, os.fsencode(old), AT_FDCWD, os.fsencode(new), flags))


def birth_time(path):
    """statx(2): nanoseconds of the time of birth, or None when the filesystem tells none."""
    buffer = ctypes.create_string_buffer(256)
    # AT_SYMLINK_NOFOLLOW; STATX_BTIME
    _check(_libc.statx(AT_FDCWD, os.fsencode(path), 0x100, 0x800, buffer))
    mask = struct.unpack_from("<I", buffer, 0)[0]
    seconds, nanoseconds = struct.unpack_from("<qI", buffer, 80)
    return seconds * 1_000_000_000 + nanoseconds if mask & 0x800 else None


def file_handle(path):
    """name_to_handle_at(2): the handle, as bytes that open_handle() takes."""
    buffer = ctypes.create_string_buffer(8 + 128)
    struct.pack_into("<I", buffer, 0, 128)
    mount_id = ctypes.c_int()
    _check(_libc.name_to_handle_at(AT_FDCWD, os.fsencode(path), buffer, ctypes.byref(mount_id), 0))
    return buffer.raw[: 8 + struct.unpack_from("<I", buffer, 0)[0]]


def open_handle(mount_fd, handle, flags=os.O_RDONLY):
    return _check(_libc.open_by_handle_at(mount_fd, ctypes.create_string_buffer(handle, len(handle)), flags))


def lgetxattr_size(path, name):
    """The size that lgetxattr() tells when asked with a buffer of no bytes."""
    return _check(_libc.lgetxattr(os.fsencode(path), name.encode(), None, 0))


def lgetxattr_into(path, name, size):
    buffer = ctypes.create_string_buffer(size)
    return _check(_libc.lgetxattr(os.fsencode(path), name.encode(), buffer, size))


def llistxattr_into(path, size):
    buffer = ctypes.create_string_buffer(size)
    return _check(_libc.llistxattr(os.fsencode(path), buffer, size))


class DirStream:
    """opendir(3) and kin, for telldir and seekdir."""

    def __init__(self, path):
        self._dir = _libc.opendir(os.fsencode(path))
        if not self._dir:
            _check(-1)

    def read(self):
        """The next name, or None at the end."""
        ctypes.set_errno(0)
        entry = _libc.readdir(self._dir)
        if not entry:
            if ctypes.get_errno():
                _check(-1)
            return None
        # struct dirent: d_ino (8), d_off (8), d_reclen (2), d_type (1), d_name.
        return ctypes.string_at(entry + 19)

    def names(self):
        """All that is left, without . and .."""
        return [n for n in iter(self.read, None) if n not in (b".", b"..")]

    def tell(self):
        return _libc.telldir(self._dir)

    def seek(self, position):
        _libc.seekdir(self._dir, position)

    def rewind(self):
        _libc.rewinddir(self._dir)

    def close(self):
        _libc.closedir(self._dir)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def getdents(fd, size=4096):
    """One getdents64(2): list of (inode, offset, type, name); empty at the end."""
    buffer = ctypes.create_string_buffer(size)
    n = _check(_libc.syscall(SYS_GETDENTS64, fd, buffer, ctypes.c_size_t(size)))
    entries, at = [], 0
    while at < n:
        ino, off, length, kind = struct.unpack_from("<QqHB", buffer, at)
        entries.append((ino, off, kind, buffer.raw[at + 19 : at + length].split(b"\0")[0]))
        at += length
    return entries


def errno_name(error):
    return errno.errorcode.get(error.errno, str(error.errno))
