# SPDX-License-Identifier: MIT
"""Small helpers for file contents and errors."""

import contextlib
import errno
import hashlib
import os
import sys
import traceback

import pytest

from helpers.commands import run


def pattern(length, seed=0):
    """Bytes that differ at every offset and for every seed, always the same ones."""
    return hashlib.shake_128(f"mapfs {seed}".encode()).digest(length)


def write_file(path, data, mode=0o644):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        write_all(fd, data)
    finally:
        os.close(fd)


def write_all(fd, data, offset=None):
    view = memoryview(data)
    while view:
        n = os.write(fd, view) if offset is None else os.pwrite(fd, view, offset)
        view = view[n:]
        offset = None if offset is None else offset + n


def read_file(path):
    with open(path, "rb", buffering=0) as f:
        return f.readall()


@contextlib.contextmanager
def opened(path, flags=os.O_RDWR, mode=0o644):
    fd = os.open(path, flags, mode)
    try:
        yield fd
    finally:
        with contextlib.suppress(OSError):
            os.close(fd)


@contextlib.contextmanager
def fails_with(*codes):
    """The block must fail with one of these errors."""
    names = "/".join(errno.errorcode[c] for c in codes)
    try:
        yield
    except OSError as error:
        assert error.errno in codes, f"expected {names}, got {error}"
    else:
        pytest.fail(f"expected {names}, but it worked")


def drop_caches(path):
    """Forgets the cached pages of a file, so that the next read reaches the daemon."""
    with opened(path, os.O_RDONLY) as fd:
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


def python(code, *args, uid=None, check=True, timeout=60):
    """Runs Python code in another process, as another user if asked to."""
    return run([sys.executable, "-c", code, *args], uid=uid, check=check, timeout=timeout, cwd="/")


@contextlib.contextmanager
def in_child(function, *args):
    """Runs function(*args) in a forked process beside the block; an exception there fails the test."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            function(*args)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    try:
        yield pid
    finally:
        status = os.waitpid(pid, 0)[1]
    assert status == 0, f"{function.__name__} failed in the child process (its stderr says why)"


# Runs one call of os as another user and prints OK or the name of the error.
_ATTEMPT = """
import os, sys, errno
try:
    exec(sys.argv[1], {"os": os, "p": sys.argv[2]})
    print("OK")
except OSError as e:
    print(errno.errorcode[e.errno])
"""


def attempt(uid, code, path):
    """What a user gets who tries `code` (which sees os and the path as p): "OK", or the name of the error."""
    return python(_ATTEMPT, code, str(path), uid=uid).out.strip()
