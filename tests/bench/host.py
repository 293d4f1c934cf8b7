# SPDX-License-Identifier: MIT
"""What the benchmark needs of the machine: running commands with a limit, mounts, processes, caches, facts to print."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

COMMAND_TIMEOUT_S = 300


class BenchError(Exception):
    """A row or a step that could not be done; the text says which command failed and why."""


def command_run(argv: list[str], log: Path, timeout_s: float = COMMAND_TIMEOUT_S) -> str:
    """Runs a command to its end and returns its standard output.

    The output goes to files, not pipes: a daemon that a mount command leaves behind keeps them open, and a pipe would
    then never end.
    """
    out_path, err_path = log.with_suffix(".out"), log.with_suffix(".err")
    with open(out_path, "wb") as out, open(err_path, "wb") as err:
        try:
            # A session of its own, so that a pipeline can be ended as a whole.
            child = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True
            )
        except OSError as e:
            raise BenchError(f"{argv[0]}: {e.strerror}") from e
        try:
            status = child.wait(timeout_s)
        except subprocess.TimeoutExpired as e:
            _child_end(child)
            raise BenchError(f"{' '.join(argv[:3])}: no end after {timeout_s:.0f} s") from e
        except BaseException:
            _child_end(child)  # interrupted: a child that goes on would keep the mount busy
            raise
    if status != 0:
        lines = err_path.read_text(errors="replace").strip().splitlines() or ["no message"]
        raise BenchError(f"{' '.join(argv[:3])}: status {status}: {lines[-1]}")
    return out_path.read_text(errors="replace")


def _child_end(child: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait(5)
    except ProcessLookupError:
        pass
    except subprocess.TimeoutExpired:
        pass  # stuck in the kernel behind a daemon that hangs; the clean-up of the mount ends it


def mount_exists(mountpoint: Path) -> bool:
    """Reads the mount table: asking the mount point itself would wait for a daemon that hangs."""
    return any(line.split()[1] == str(mountpoint) for line in Path("/proc/mounts").read_text().splitlines())


def processes_of(image: Path) -> list[int]:
    """Live processes that were started with the path of our own image, which is unique to this run."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            command = (entry / "cmdline").read_bytes()
            state = (entry / "stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            continue
        if os.fsencode(image) in command.split(b"\0") and state not in "ZX":
            found.append(int(entry.name))
    return found


def processes_wait(image: Path, timeout_s: float) -> bool:
    """Waits until no daemon of the image is left: umount(8) returns before a FUSE daemon has written everything."""
    deadline = time.monotonic() + timeout_s
    while processes_of(image):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def caches_drop(image: Path) -> None:
    """Makes the image durable, so that none of its pages is dirty and stays, and empties the machine's caches."""
    fd = os.open(image, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)
    Path("/proc/sys/vm/drop_caches").write_text("3\n")


def ops_compile(source: Path, target: Path) -> None:
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if not compiler:
        raise BenchError("no C compiler found: install gcc, or name one in CC")
    flags = ["-O2", "-std=gnu11", "-Wall", "-Wextra", "-pthread"]
    command_run([*compiler.split(), *flags, str(source), "-o", str(target)], target.with_name("cc"))


def _version(argv: list[str]) -> str:
    """The version that the program itself tells, not the one of a library that it tells as well."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    name = re.escape(Path(argv[0]).name.split(".")[0])
    found = re.search(rf"(?m)^{name}\D*(\d+\.\d+[\w.+~-]*)", done.stdout + done.stderr)
    return found.group(1) if found else "unknown"


def _git_commit(tree: Path) -> str:
    argv = ["git", "-c", f"safe.directory={tree}", "-C", str(tree), "describe", "--always", "--dirty"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=10, check=False)
    return done.stdout.strip() or "unknown"


def _cpu_model() -> str:
    found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    return found.group(1) if found else os.uname().machine


def _filesystem_of(path: Path) -> str:
    argv = ["findmnt", "-n", "-o", "FSTYPE,SOURCE,OPTIONS", "-T", str(path)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=10, check=False)
    return " ".join(done.stdout.split()) or "unknown"


def _uring_enabled() -> str:
    try:
        return Path("/sys/module/fuse/parameters/enable_uring").read_text().strip()
    except OSError:
        return "absent"


def facts(directory: Path, tree: Path, mapfs: Path | None) -> dict[str, str]:
    """The machine and the versions, as printed above the table. Nothing here names the host."""
    memory = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())
    gib = int(memory.group(1)) / 2**20 if memory else 0
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "kernel": os.uname().release,
        "processor": f"{os.cpu_count()} cores, {_cpu_model()}",
        "memory": f"{gib:.0f} GiB",
        "host filesystem": _filesystem_of(directory),
        "fuse enable_uring": _uring_enabled(),
        "mapfs": f"{_version([str(mapfs), '--version'])}, source {_git_commit(tree)}" if mapfs else "not run",
        "fuse2fs": _version(["fuse2fs", "-V"]),
        "e2fsprogs": _version(["mke2fs", "-V"]),
        "fio": _version(["fio", "--version"]),
        "load average at start": "%.1f %.1f %.1f" % os.getloadavg(),
    }
