# SPDX-License-Identifier: MIT
"""A mounted image: starting, stopping, killing and judging its daemon."""

import contextlib
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from helpers.commands import SLOW, run


def wait_for(condition, what, timeout=20, step=0.02):
    """Waits until condition() holds; returns what it returned."""
    end = time.monotonic() + timeout * SLOW
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            pytest.fail(f"waited {timeout * SLOW:.0f} s for: {what}")
        time.sleep(step)


def process_state(pid):
    """The state letter of a process, or None when it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()[0]


def is_running(pid):
    return process_state(pid) not in (None, "Z", "X")


def daemons_of(image):
    """Pids of the running mapfs processes that have the image's path in their command line."""
    wanted = os.fsencode(os.path.realpath(image))
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            argv = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        program = os.path.basename(argv[0])
        if wanted in argv and program.endswith(b"mapfs") and is_running(int(entry.name)):
            found.append(int(entry.name))
    return found


def mount_entry(path):
    """(type, source, options) of the mount at path, or None; reads the table, so a dead daemon cannot block it."""
    wanted = os.path.realpath(os.path.dirname(path)) + "/" + os.path.basename(path)
    found = None
    for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").split("\n")[:-1]:
        left, _, right = line.partition(" - ")
        fields = left.split(" ")
        if _unescaped(fields[4]) == wanted:
            fstype, source, super_options = right.split(" ")
            found = fstype, _unescaped(source), f"{fields[5]},{super_options}"
    return found


def _unescaped(text):
    """Undoes the kernel's octal escapes of blanks, line ends and backslashes."""
    return re.sub(r"\\([0-7]{3})", lambda m: chr(int(m.group(1), 8)), text)


class Mount:
    """One image at one mount point."""

    def __init__(self, build, image, path, *, options="", uid=None, limit=120):
        self.build, self.image, self.path = build, Path(image), Path(path)
        self.options, self.uid, self.limit = options, uid, limit
        self.pid = None
        self.expect_trouble = False  # the test damages the image or its host: teardown asks for no more than an end
        self._watchdog = None

    @property
    def log(self):
        return self.build.logs / "mount.log"

    def try_start(self, *more, timeout=30):
        """Runs `mapfs mount`; returns its result, whatever it is."""
        args = ["-o", self.options] if self.options else []
        result = self.build.run(
            "mapfs", "mount", *args, *more, self.image, self.path, check=False, timeout=timeout, uid=self.uid
        )
        with self.log.open("a") as log:
            log.write(f"{result}\n")
        if result.status == 0:
            self.note_daemon()
        return result

    def start(self, *more):
        result = self.try_start(*more)
        if result.status != 0:
            pytest.fail(f"mount failed:\n{result}")
        assert mount_entry(self.path), f"mapfs mount returned 0, but nothing is mounted:\n{result}"
        return self

    def forget(self):
        """The daemon has ended by the test's own doing."""
        self._stop_watchdog()
        self.pid = None

    def note_daemon(self):
        """Finds the daemon that serves this mount, and sets a watchdog on it."""
        before = self.pid  # it may still be ending: a sanitizer looks for leaks after the image is let go

        def new_daemons():
            return [pid for pid in daemons_of(self.image) if pid != before]

        self.pid = wait_for(new_daemons, "a daemon with the image's path in its command line", timeout=5)[0]
        self._stop_watchdog()
        # Another process, since a page fault of this one can hang with the interpreter's lock held.
        script = 'sleep "$1"; grep -qF -e "$2" "/proc/$3/cmdline" && kill -9 "$3"'
        arguments = [str(self.limit * SLOW), os.fspath(self.image), str(self.pid)]
        self._watchdog = subprocess.Popen(
            ["sh", "-c", script, "watchdog", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _stop_watchdog(self):
        if self._watchdog is None:
            return
        if self._watchdog.poll() is not None:
            self._watchdog = None
            pytest.fail(f"the mount did not come to an end in {self.limit * SLOW:.0f} s: its daemon was killed")
        self._end_watchdog()

    def _end_watchdog(self):
        os.killpg(self._watchdog.pid, signal.SIGKILL)
        self._watchdog.wait()
        self._watchdog = None

    @property
    def is_alive(self):
        return self.pid is not None and is_running(self.pid)

    @property
    def is_mounted(self):
        return mount_entry(self.path) is not None

    def stop(self, timeout=60):
        """`mapfs umount`: returns when all is durable and the daemon gone, which is checked at once."""
        result = self.build.run("mapfs", "umount", self.path, check=False, timeout=timeout, uid=self.uid)
        if result.status != 0:
            pytest.fail(f"umount failed:\n{result}")
        assert not self.is_mounted, "mapfs umount returned 0 with the mount still there"
        assert not is_running(self.pid), "mapfs umount returned 0 with the daemon still running"
        self._stop_watchdog()
        self.pid = None

    def stop_with_trouble(self):
        """An unmount of which nothing is known but that the daemon ends and says on the way that not all is durable."""
        result = self.build.run("mapfs", "umount", self.path, check=False, timeout=60)
        assert result.status != 0, "mapfs umount says that all is durable"
        wait_for(lambda: not is_running(self.pid), f"the daemon {self.pid} to end")
        self.forget()

    def remount(self):
        self.stop()
        return self.start()

    def sync(self):
        self.build.run("mapfs", "sync", self.path, uid=self.uid)

    def kill(self, before_detach=lambda: None):
        """kill -9 of the daemon, as a test of crashes; the mount point is free again afterwards.

        before_detach() waits for those who work in the mount: they must not go on in the directory below it.
        """
        assert self.is_alive, "the daemon died before it was killed"
        self._stop_watchdog()
        pid, self.pid = self.pid, None
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not is_running(pid), f"the killed daemon {pid} to end")
        before_detach()
        self.detach()

    def detach(self):
        while self.is_mounted:
            command = ["umount", "-l"] if os.geteuid() == 0 else ["fusermount3", "-u", "-z"]
            run([*command, self.path], timeout=20)

    def fsck(self):
        self.build.fsck(self.image, uid=self.uid)

    def finish(self):
        """The end of every test that mounts: unmount, then the checker must find nothing."""
        if self.expect_trouble:
            self._end_by_force()
            return
        try:
            died = self.pid is not None and not self.is_alive
            if died:
                self.pid = None
                self.detach()
                pytest.fail("the daemon died during the test")
            if self.pid is not None:
                self.stop()
        except BaseException:
            self._end_by_force()
            raise
        self.fsck()

    def _end_by_force(self):
        if self.is_mounted:
            self.build.run("mapfs", "umount", self.path, check=False, timeout=30, uid=self.uid)
        if self._watchdog is not None:
            self._end_watchdog()
        for pid in daemons_of(self.image):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            wait_for(lambda pid=pid: not is_running(pid), f"the killed daemon {pid} to end")
        self.pid = None
        self.detach()
