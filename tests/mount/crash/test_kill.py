# SPDX-License-Identifier: MIT
"""kill -9 of the daemon in the middle of work: promises are kept, the rest is a prefix, the checker finds nothing.

The tests of this file kill 62 daemons.
"""

import contextlib
import os
import random
import signal
import subprocess
import time

import pytest
from helpers.commands import SLOW
from helpers.crashwork import KINDS
from helpers.files import pattern, read_file, write_file
from helpers.mounts import daemons_of, is_running, process_state, wait_for


class Crew:
    """Worker processes, one for each kind of work."""

    def __init__(self, mount, work, kinds):
        self.works = []
        for kind in kinds:
            directory = mount.path / kind
            directory.mkdir()
            self.works.append(KINDS[kind](directory, work / f"acknowledged-{kind}", mount.build))
        mount.sync()
        self.pids = {}

    def start(self):
        for one in self.works:
            pid = os.fork()
            if pid == 0:
                status = 1
                try:
                    one.run()
                    status = 0
                finally:
                    os._exit(status)
            self.pids[pid] = type(one).__name__

    def join(self):
        """Every worker ends once its mount is gone; none may have met any other error."""
        wait_for(lambda: all(process_state(pid) in ("Z", None) for pid in self.pids), "the workers to end", timeout=30)
        failed = [name for pid, name in self.pids.items() if os.waitpid(pid, 0)[1] != 0]
        self.pids = {}
        assert not failed, f"these met an error that no kill explains (stderr says which): {failed}"

    def check(self):
        for one in self.works:
            one.check()


def _kill_repeatedly(mount, work, kinds, times, seed):
    rng = random.Random(seed)
    crew = Crew(mount, work, kinds)
    promised = -1
    for n in range(times):
        crew.start()
        time.sleep(rng.uniform(0.05, 0.6) * min(SLOW, 3))
        if n == times - 1:
            wait_for(lambda: promised > 0 or any(one.acknowledged() > 0 for one in crew.works), "a sync that is acknowledged")
        mount.kill(before_detach=crew.join)
        mount.fsck()
        mount.start()
        try:
            crew.check()
        except (AssertionError, OSError) as failure:
            pytest.fail(f"after kill {n} (seed {seed}, {kinds}): {type(failure).__name__}: {failure}")
        promised = max(one.acknowledged() for one in crew.works)
        if n % 3 == 2:
            mount.stop()
            mount.fsck()
            mount.start()
            crew.check()
    assert promised > 0, "no sync was acknowledged, so nothing was tested"


@pytest.mark.limit(200)
@pytest.mark.parametrize("kind", KINDS)
def test_acknowledged_work_outlives_kills(mount, work, kind):
    _kill_repeatedly(mount, work, [kind], 4, seed=f"one {kind}")


@pytest.mark.heavy
@pytest.mark.limit(200)
@pytest.mark.options("commit=1")
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_acknowledged_work_of_all_kinds_at_once_outlives_kills(mount, work, seed):
    _kill_repeatedly(mount, work, list(KINDS), 5, seed=f"all {seed}")


@pytest.mark.image(size="24M")
@pytest.mark.limit(200)
def test_acknowledged_work_outlives_kills_where_blocks_are_soon_reused(mount, work):
    _kill_repeatedly(mount, work, ["overwrite", "rename", "names"], 5, seed="small")


def _kill_all(image):
    """Kills the mount command and the daemon that it becomes; returns those that were still there."""
    pids = daemons_of(image)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return pids


@pytest.mark.parametrize("seed", range(5))
def test_kill_during_the_mount_after_a_kill_loses_nothing(mount, work, seed):
    """Recovery itself is interrupted, twice."""
    rng = random.Random(seed)
    crew = Crew(mount, work, ["fsync", "names", "overwrite"])
    crew.start()
    time.sleep(0.4 * min(SLOW, 3))
    mount.kill(before_detach=crew.join)
    for _ in range(2):
        command = [mount.build.program("mapfs"), "mount", mount.image, mount.path]
        with open(mount.log, "a") as log:
            mounting = subprocess.Popen(command, stdout=log, stderr=log, env=mount.build.env())
        time.sleep(rng.uniform(0, 0.05) * SLOW)
        wait_for(lambda: not _kill_all(mount.image), "the killed daemons to end")
        mounting.wait()
        mount.detach()
        mount.fsck()
    mount.start()
    crew.check()


@pytest.mark.parametrize("seed", range(3))
def test_kill_while_space_is_given_back_loses_neither_space_nor_files(mount, seed):
    rng = random.Random(seed)
    free = os.statvfs(mount.path).f_bfree
    write_file(mount.path / "stays", pattern(300_000))
    for i in range(6):
        write_file(mount.path / f"f{i}", pattern(3_000_000, i))
    mount.sync()
    for i in range(6):
        os.unlink(mount.path / f"f{i}")
    time.sleep(rng.uniform(0, 0.2))
    mount.kill()
    mount.fsck()
    mount.start()
    assert read_file(mount.path / "stays") == pattern(300_000)
    for name in os.listdir(mount.path):
        if name.startswith("f"):
            assert read_file(mount.path / name) == pattern(3_000_000, int(name[1:]))
            os.unlink(mount.path / name)
    os.unlink(mount.path / "stays")

    def all_free():
        mount.sync()
        return os.statvfs(mount.path).f_bfree >= free - 64

    wait_for(all_free, "the space of the removed files to come back", step=0.1)


def test_killed_daemon_leaves_an_image_that_another_mounts_at_once(mount):
    write_file(mount.path / "f", b"x")
    mount.sync()
    pid = mount.pid
    mount.kill()
    assert not is_running(pid)
    start = time.monotonic()
    mount.start()
    assert time.monotonic() - start < 20 * SLOW
    assert read_file(mount.path / "f") == b"x"
