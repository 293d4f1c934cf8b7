# SPDX-License-Identifier: MIT
"""Runs commands: those of the build under test and others, always with a time limit."""

import atexit
import functools
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

# Sanitizer builds and busy machines need more time: every limit is multiplied by this.
SLOW = float(os.environ.get("MAPFS_TEST_SLOW", "1"))
KERNEL = tuple(int(number) for number in re.findall(r"\d+", os.uname().release)[:2])


class Result:
    """What a finished command left: status, out, err."""

    def __init__(self, argv, status, out, err):
        self.argv, self.status, self.out, self.err = argv, status, out, err

    def __repr__(self):
        line = " ".join(shlex.quote(str(a)) for a in self.argv)
        return f"$ {line}\nexit status {self.status}\n--- stdout\n{self.out}\n--- stderr\n{self.err}"


def run(argv, *, timeout=60, check=True, env=None, cwd=None, uid=None, stdin=None):
    """Runs a command. Output goes through files, since a pipe would stay open as long as a daemon that inherited it."""
    argv = [os.fsdecode(a) for a in argv]
    who = {} if uid is None else {"user": uid, "group": uid, "extra_groups": []}
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        try:
            status = subprocess.run(
                argv,
                stdin=subprocess.DEVNULL if stdin is None else stdin,
                stdout=out,
                stderr=err,
                timeout=timeout * SLOW,
                env=env,
                cwd=cwd,
                **who,
            ).returncode
        except subprocess.TimeoutExpired:
            status = "none: timed out"
        out.seek(0)
        err.seek(0)
        result = Result(argv, status, out.read().decode(errors="replace"), err.read().decode(errors="replace"))
    if status == "none: timed out":
        pytest.fail(f"took longer than {timeout * SLOW:.0f} s:\n{result}", pytrace=False)
    if check and status != 0:
        pytest.fail(f"command failed:\n{result}")
    return result


@functools.cache
def _is_sanitized(program):
    code = Path(program).read_bytes()
    return b"__asan_init" in code or b"__tsan_init" in code


# No reports: a thread had just ended, or was killed, when the leak checker looked.
NOTE_OF_LEAK_CHECKER = re.compile(
    r"^==\d+==(Unable to get registers from thread \d+|Running thread \d+ was not suspended\. False leaks are possible)\.$",
    re.MULTILINE,
)


PROGRAMS = ("mapfs", "mkfs.mapfs", "fsck.mapfs", "mount.mapfs", "mount.fuse.mapfs")


def _is_open_to_all(directory):
    return all(d.stat().st_mode & 0o001 for d in (directory, *directory.parents))


@functools.cache
def for_all_users(directory, names):
    """Where ordinary users can run the programs of a directory: there, or from copies, where it lies in one that is closed to them, as home
    directories are."""
    if os.geteuid() != 0 or _is_open_to_all(directory):
        return directory
    copies = Path(tempfile.mkdtemp(prefix="mapfs-programs-"))
    atexit.register(shutil.rmtree, copies, ignore_errors=True)
    copies.chmod(0o755)
    for name in names:
        if (directory / name).exists():
            shutil.copy2(directory / name, copies / name, follow_symlinks=False)
    return copies


class Build:
    """The programs of one build directory. Sanitizer reports of all that it starts are collected in `logs`."""

    def __init__(self, directory, logs):
        self.directory = Path(directory).resolve()
        self.programs = for_all_users(self.directory, PROGRAMS)
        self.logs = Path(logs)
        self.logs.mkdir(mode=0o777, exist_ok=True)
        self.logs.chmod(0o777)

    def program(self, name):
        path = self.programs / name
        if not path.exists():
            pytest.exit(f"{self.directory / name} is not there: build first, or name the build with --build-dir", returncode=2)
        return path

    def env(self, **more):
        """The environment of a command: sanitizers write their reports where reports() finds them."""
        env = dict(os.environ)
        for kind in ("ASAN", "UBSAN", "TSAN", "LSAN"):
            given = env.get(f"{kind}_OPTIONS", "")
            options = [given] if given else []
            options += [f"log_path={self.logs}/sanitizer", "exitcode=99"]
            if kind == "UBSAN":
                options.append("print_stacktrace=1")
            env[f"{kind}_OPTIONS"] = ":".join(options)
        if _is_sanitized(self.program("mapfs")):
            # GLib's slices go from thread to thread under locks that a sanitizer does not see.
            env["G_SLICE"] = "always-malloc"
        env.update(more)
        return env

    def reports(self):
        texts = [p.read_text(errors="replace") for p in sorted(self.logs.glob("sanitizer*"))]
        return [t for t in texts if NOTE_OF_LEAK_CHECKER.sub("", t).strip()]

    def run(self, name, *args, check=True, timeout=60, uid=None, env=None, cwd=None):
        """Runs a command of the build; death by a signal or a sanitizer fails the test, whatever `check` says."""
        result = run([self.program(name), *args], check=False, timeout=timeout, uid=uid, env=env or self.env(), cwd=cwd)
        if result.status < 0 or result.status == 99:
            pytest.fail(f"command crashed:\n{result}\n" + "\n".join(self.reports()))
        if check and result.status != 0:
            pytest.fail(f"command failed:\n{result}")
        return result

    def mkfs(self, image, *args, size=None, **kw):
        size_args = ["-s", size] if size else []
        return self.run("mkfs.mapfs", *size_args, *args, image, **kw)

    def fsck(self, image, *args, **kw):
        """The full check, which must find nothing."""
        result = self.run("fsck.mapfs", "-n", *args, image, check=False, timeout=120, **kw)
        if result.status != 0:
            pytest.fail(f"the checker found something:\n{result}", pytrace=False)
        return result
