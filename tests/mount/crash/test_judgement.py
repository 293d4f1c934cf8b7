# SPDX-License-Identifier: MIT
"""The judges of the crash tests: they accept what a stopped worker leaves, and notice what a filesystem might lose."""

import os
import signal
import time

import pytest
from helpers.crashwork import KINDS

# What to do to the directory of a worker so that a promise is broken.
HARM = {
    "fsync": lambda d: os.truncate(f"{d}/appended", 1000),
    "o_sync": lambda d: os.truncate(f"{d}/appended with O_SYNC", 1000),
    "o_dsync": lambda d: _flip(f"{d}/appended with O_DSYNC", 5000),
    "rename": lambda d: os.truncate(f"{d}/document-2", 8),
    "overwrite": lambda d: _flip(f"{d}/versions", 4096 * 3 + 2000),
    "names": lambda d: _remove(f"{d}/{sorted(os.listdir(d), key=int)[20]}"),
    "counters": lambda d: os.truncate(f"{d}/counter-1", 0),
}


def _flip(path, offset):
    with open(path, "r+b") as f:
        f.seek(offset)
        byte = f.read(1)
        f.seek(offset)
        f.write(bytes([byte[0] ^ 1]))


def _remove(path):
    os.rmdir(path) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)


@pytest.mark.parametrize("kind", HARM)
def test_judge_accepts_a_stopped_worker_and_notices_harm(work, kind):
    directory = work / "d"
    directory.mkdir()
    for _ in range(3):
        one = KINDS[kind](directory, work / "log")
        pid = os.fork()
        if pid == 0:
            try:
                one.run()
            finally:
                os._exit(1)
        while one.acknowledged() < 60:
            time.sleep(0.01)
        time.sleep(0.05)
        os.kill(pid, signal.SIGKILL)
        assert os.waitpid(pid, 0)[1] == signal.SIGKILL, "the worker ended by itself"
        one.check()
    HARM[kind](directory)
    with pytest.raises(AssertionError):
        one.check()
