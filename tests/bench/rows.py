# SPDX-License-Identifier: MIT
"""The rows of the table and how each is measured.

Rows come in groups. A group starts on a fresh image and its rows follow from one another (files are created, written,
read, renamed, removed), so asking for one row runs those of its group before it as well. Before every row called cold
the filesystem is unmounted, its image made durable, the caches of the machine are emptied (/proc/sys/vm/drop_caches)
and the filesystem is mounted again.
"""

from __future__ import annotations

import json
import os
import sqlite3
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import host
from host import BenchError, command_run
from peers import FileSystem

MIB = 2**20
GIB = 2**30
TIB = 2**40


@dataclass(frozen=True)
class Row:
    name: str
    group: str
    unit: str  # "us/op", "ms": less is better; "MB/s": more is better
    # Held to five times fuse2fs. Not so readdir: a large reply of it costs every FUSE filesystem the same.
    metadata: bool
    title: str


ROWS = [
    Row("create", "directory", "us/op", True, "create: open(O_CREAT), close"),
    Row("write-4k", "directory", "us/op", True, "open, write 4 KiB, close"),
    Row("stat-cold", "directory", "us/op", True, "stat, cold"),
    Row("stat-warm", "directory", "us/op", True, "stat, cached"),
    Row("readdir-cold", "directory", "us/op", False, "readdir, cold, per entry"),
    Row("readdir-warm", "directory", "us/op", False, "readdir, cached, per entry"),
    Row("list-cold", "directory", "us/op", True, "readdir with stat, cold, per entry"),
    Row("read-4k-cold", "directory", "us/op", True, "open, read 4 KiB, close, cold"),
    Row("read-4k-warm", "directory", "us/op", True, "open, read 4 KiB, close, cached"),
    Row("rename", "directory", "us/op", True, "rename in the directory"),
    Row("unlink", "directory", "us/op", True, "unlink"),
    Row("tree-unpack", "tree", "us/op", True, "source tree: tar x, per file"),
    Row("tree-read-cold", "tree", "us/op", False, "source tree: tar c, cold, per file"),
    Row("tree-remove", "tree", "us/op", True, "source tree: rm -rf, per file"),
    Row("seq-write", "fio", "MB/s", False, "fio write 1 MiB, end_fsync"),
    Row("seq-read-cold", "fio", "MB/s", False, "fio read 1 MiB, cold"),
    Row("seq-read-warm", "fio", "MB/s", False, "fio read 1 MiB, cached"),
    Row("rand-read-cold", "fio", "us/op", False, "fio randread 4 KiB, cold"),
    Row("rand-read-warm", "fio", "us/op", False, "fio randread 4 KiB, cached"),
    Row("rand-write", "fio", "us/op", False, "fio randwrite 4 KiB, end_fsync"),
    Row("append-fsync", "sync", "us/op", False, "append 4 KiB, fsync"),
    Row("overwrite-fdatasync", "sync", "us/op", False, "overwrite 4 KiB, fdatasync"),
    Row("append-fsync-stream", "stream", "us/op", False, "append 4 KiB, fsync, beside a streaming writer"),
    Row("copy-db", "database", "MB/s", False, "copy of a database file, cp and fsync"),
    Row("sqlite-wal", "database", "us/op", False, "SQLite WAL, one insert a transaction, synchronous=FULL"),
    Row("mount-1t", "mount", "ms", False, "mount of a 1 TiB image until it answers, cold"),
]
GROUPS = list(dict.fromkeys(row.group for row in ROWS))


@dataclass(frozen=True)
class Sizes:
    """How much work a row does; the same for every filesystem of a run."""

    files: int = 10_000
    tree_files: int = 8_000
    fio_mib: int = 512
    rand_mib: int = 64
    syncs: int = 1_000
    stream_syncs: int = 200
    db_mib: int = 256
    inserts: int = 1_000
    image_bytes: int = 4 * GIB

    def quick(self) -> Sizes:
        return Sizes(1_000, 800, 64, 8, 100, 20, 32, 100, self.image_bytes)


@dataclass
class Session:
    """One group on one filesystem in one round: what it needs and what it found."""

    fs: FileSystem
    sizes: Sizes
    ops: Path
    tar: Path
    last_row: str
    values: dict[str, float] = field(default_factory=dict)
    extras: dict[str, dict[str, float]] = field(default_factory=dict)

    def record(self, row: str, value: float, **extras: float) -> None:
        self.values[row] = value
        if extras:
            self.extras[row] = extras
        if row == self.last_row:
            raise GroupDone

    def loop(self, row: str, name: str, directory: Path, count: int) -> None:
        """Runs one loop of ops.c and records its mean, with the tail as extras."""
        text = command_run([str(self.ops), name, str(directory), str(count)], self.fs.log)
        found = json.loads(text)
        extras = {"p50": found["p50_ns"] / 1000, "p99": found["p99_ns"] / 1000, "max": found["max_ns"] / 1000}
        if found["stream_bytes_per_s"]:
            extras["stream MB/s"] = found["stream_bytes_per_s"] / 1e6
        if found["n"] != count:
            extras["done"] = found["n"]
        self.record(row, found["total_ns"] / found["n"] / 1000, **extras)

    def timed(self, argv: list[str]) -> float:
        start = time.monotonic()
        command_run(argv, self.fs.log)
        return time.monotonic() - start


class GroupDone(Exception):
    """No later row of the group was asked for."""


def measure_directory(session: Session) -> None:
    fs, n = session.fs, session.sizes.files
    directory = fs.mountpoint / "dir"
    directory.mkdir()
    session.loop("create", "create", directory, n)
    session.loop("write-4k", "write", directory, n)
    fs.remount_cold()
    session.loop("stat-cold", "stat", directory, n)
    session.loop("stat-warm", "stat", directory, n)
    fs.remount_cold()
    session.loop("readdir-cold", "readdir", directory, n)
    session.loop("readdir-warm", "readdir", directory, n)
    fs.remount_cold()
    session.loop("list-cold", "list", directory, n)
    fs.remount_cold()
    session.loop("read-4k-cold", "read", directory, n)
    session.loop("read-4k-warm", "read", directory, n)
    session.loop("rename", "rename", directory, n)
    session.loop("unlink", "unlink", directory, n)


def measure_tree(session: Session) -> None:
    fs, n = session.fs, session.sizes.tree_files
    mountpoint = str(fs.mountpoint)
    session.record("tree-unpack", session.timed(["tar", "-x", "-f", str(session.tar), "-C", mountpoint]) / n * 1e6)
    fs.remount_cold()
    # GNU tar reads nothing when it sees that the archive is /dev/null, so the bytes go through a pipe.
    read = f"tar -c -f - -C '{mountpoint}' tree | cat >/dev/null"
    session.record("tree-read-cold", session.timed(["sh", "-c", read]) / n * 1e6)
    session.record("tree-remove", session.timed(["rm", "-rf", str(fs.mountpoint / "tree")]) / n * 1e6)


def _fio(session: Session, mode: str, block: str, io_mib: int) -> dict[str, float]:
    argv = ["fio", "--name=bench", f"--filename={session.fs.mountpoint}/fio", f"--rw={mode}", f"--bs={block}"]
    argv += [f"--size={session.sizes.fio_mib}M", f"--io_size={io_mib}M", "--ioengine=psync", "--direct=0"]
    # The row decides what is cached: fio itself must neither empty caches nor preallocate.
    argv += ["--invalidate=0", "--fallocate=none", "--norandommap=1", "--randseed=1", "--thread"]
    if "write" in mode:
        argv.append("--end_fsync=1")
    job = json.loads(command_run([*argv, "--output-format=json"], session.fs.log))["jobs"][0]
    found = job["write" if "write" in mode else "read"]
    if job["error"] or not found["total_ios"]:
        raise BenchError(f"fio {mode}: error {job['error']} after {found['total_ios']} operations")
    # The runtime is in whole milliseconds and contains the final fsync.
    return {"MB/s": found["io_bytes"] / 1e3 / found["runtime"], "us/op": found["runtime"] * 1e3 / found["total_ios"]}


def measure_fio(session: Session) -> None:
    fs, mib, rand_mib = session.fs, session.sizes.fio_mib, session.sizes.rand_mib
    session.record("seq-write", _fio(session, "write", "1M", mib)["MB/s"])
    fs.remount_cold()
    session.record("seq-read-cold", _fio(session, "read", "1M", mib)["MB/s"])
    session.record("seq-read-warm", _fio(session, "read", "1M", mib)["MB/s"])
    fs.remount_cold()
    session.record("rand-read-cold", _fio(session, "randread", "4k", rand_mib // 2)["us/op"])
    _fio(session, "read", "1M", mib)
    session.record("rand-read-warm", _fio(session, "randread", "4k", rand_mib * 4)["us/op"])
    session.record("rand-write", _fio(session, "randwrite", "4k", rand_mib)["us/op"])


def measure_sync(session: Session) -> None:
    sizes, directory = session.sizes, session.fs.mountpoint
    session.loop("append-fsync", "append-fsync", directory, sizes.syncs)
    session.loop("overwrite-fdatasync", "overwrite-fdatasync", directory, sizes.syncs)


def measure_stream(session: Session) -> None:
    session.loop("append-fsync-stream", "append-fsync-stream", session.fs.mountpoint, session.sizes.stream_syncs)


def _database_make(path: Path, n_bytes: int) -> None:
    """A file of that size which is no hole anywhere and does not compress, durable."""
    chunk = os.urandom(MIB)
    with open(path, "wb") as file:
        for at in range(0, n_bytes, MIB):
            file.write(at.to_bytes(8, "little") + chunk[8:])
        file.flush()
        os.fsync(file.fileno())


def _sqlite_insert(path: Path, count: int) -> float:
    """Microseconds for one insert in a transaction of its own. The database is checked afterwards."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        if mode != "wal":
            raise BenchError(f"sqlite: no WAL on this filesystem, journal_mode is {mode}")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, payload TEXT)")
        start = time.monotonic()
        for i in range(count):
            connection.execute("INSERT INTO t VALUES (?, ?)", (i, "x" * 200))
        took_s = time.monotonic() - start
        verdict = connection.execute("PRAGMA integrity_check").fetchone()[0]
        rows = connection.execute("SELECT count(*) FROM t").fetchone()[0]
    except sqlite3.Error as e:
        raise BenchError(f"sqlite: {e}") from e
    finally:
        connection.close()
    if verdict != "ok" or rows != count:
        raise BenchError(f"sqlite: integrity_check says {verdict}, {rows} rows instead of {count}")
    return took_s / count * 1e6


def measure_database(session: Session) -> None:
    fs, n_bytes = session.fs, session.sizes.db_mib * MIB
    source, copy = fs.mountpoint / "database", fs.mountpoint / "copy"
    _database_make(source, n_bytes)
    script = f"cp '{source}' '{copy}' && sync '{copy}'"
    session.record("copy-db", n_bytes / 1e6 / session.timed(["sh", "-c", script]))
    session.record("sqlite-wal", _sqlite_insert(fs.mountpoint / "wal.db", session.sizes.inserts))


def measure_mount(session: Session) -> None:
    """The middle of three cold mounts. The group starts with the image mounted.

    Emptying the caches also drops the programs and their libraries, which is no matter of the filesystem: each program
    is run once to say its version before the clock starts.
    """
    fs, took_s = session.fs, []
    for _ in range(3):
        fs.umount()
        host.caches_drop(fs.image)
        command_run([fs.mount_command()[0], fs.version_option], fs.log)
        took_s.append(fs.mount())
    session.record("mount-1t", statistics.median(took_s) * 1e3)


MEASURES: dict[str, Callable[[Session], None]] = {
    "directory": measure_directory,
    "tree": measure_tree,
    "fio": measure_fio,
    "sync": measure_sync,
    "stream": measure_stream,
    "database": measure_database,
    "mount": measure_mount,
}


def group_measure(session: Session, group: str) -> str | None:
    """Runs one group from mkfs to unmount. Returns why it stopped early, or None; found values are kept either way."""
    fs = session.fs
    try:
        fs.make(TIB if group == "mount" else session.sizes.image_bytes)
        fs.mount()
        MEASURES[group](session)
    except GroupDone:
        pass
    except (BenchError, OSError) as e:
        return str(e)
    finally:
        fs.clean()
    return None
