# SPDX-License-Identifier: MIT
"""SQLite on the mount: both journal modes, several connections and processes, killed daemons."""

import os
import sqlite3

import pytest
from helpers.commands import SLOW
from helpers.files import in_child
from helpers.mounts import is_running


def connect(path, mode="wal"):
    connection = sqlite3.connect(path, timeout=60 * SLOW, isolation_level=None)
    assert connection.execute(f"pragma journal_mode={mode}").fetchone()[0] == mode
    connection.execute("pragma synchronous=full")
    return connection


def _make(path, mode="wal"):
    connection = connect(path, mode)
    connection.execute("create table t (id integer primary key, who text, value text)")
    connection.execute("create index by_value on t (value)")
    return connection


def _insert(path, who, count, mode="wal"):
    connection = connect(path, mode)
    for i in range(count):
        connection.execute("begin immediate")
        for j in range(5):
            connection.execute("insert into t (who, value) values (?, ?)", (who, f"{who}-{i}-{j}" * 10))
        connection.execute("commit")
    connection.close()


def _check(path, expected, mode="wal"):
    connection = connect(path, mode)
    assert connection.execute("pragma integrity_check").fetchall() == [("ok",)]
    assert connection.execute("select count(*) from t").fetchone()[0] == expected
    connection.close()


@pytest.mark.parametrize("mode", ["wal", "delete", "truncate", "persist"])
def test_database_is_sound_after_transactions_and_a_remount(mnt, remount, mode):
    _make(mnt / "db", mode).close()
    _insert(mnt / "db", "one", 100, mode)
    _check(mnt / "db", 500, mode)
    remount()
    _check(mnt / "db", 500, mode)


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_processes_that_write_at_once_lose_nothing(mnt, remount, mode):
    _make(mnt / "db", mode).close()
    with in_child(_insert, mnt / "db", "a", 40, mode), in_child(_insert, mnt / "db", "b", 40, mode):
        _insert(mnt / "db", "c", 40, mode)
    _check(mnt / "db", 600, mode)
    remount()
    _check(mnt / "db", 600, mode)


def test_readers_beside_a_writer_see_whole_transactions(mnt):
    _make(mnt / "db").close()
    with in_child(_insert, mnt / "db", "writer", 120):
        connection = connect(mnt / "db")
        last = 0
        for _ in range(200):
            count = connection.execute("select count(*) from t").fetchone()[0]
            assert count % 5 == 0 and count >= last
            last = count
        connection.close()
    _check(mnt / "db", 600)


def test_vacuum_and_large_blobs_work(mnt, remount):
    connection = _make(mnt / "db")
    for i in range(20):
        connection.execute("insert into t (who, value) values (?, ?)", ("blob", os.urandom(200_000)))
    connection.execute("delete from t where id % 2")
    connection.execute("vacuum")
    connection.execute("pragma wal_checkpoint(truncate)")
    connection.close()
    remount()
    _check(mnt / "db", 10)


def _insert_and_report(path, report):
    """Commits row after row, each told to `report` (on the host) once SQLite says that it is durable."""
    connection = connect(path)
    fd = os.open(report, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    try:
        for i in range(100_000):
            connection.execute("insert into t (who, value) values ('k', ?)", (f"row {i}" * 20,))
            os.write(fd, b"%d\n" % i)
    except sqlite3.Error:
        pass
    # The mount is dead: closing the connection would try to write to it.
    os._exit(0)


@pytest.mark.parametrize("round_", range(3))
def test_committed_rows_outlive_a_killed_daemon(mount, work, round_):
    _make(mount.path / "db").close()
    mount.sync()
    report = work / "report"
    with in_child(_insert_and_report, mount.path / "db", report):
        while not report.exists() or report.stat().st_size < 200 * (round_ + 1):
            assert is_running(mount.pid)
        mount.kill()
    mount.fsck()
    mount.start()
    rows = len(report.read_bytes().split(b"\n")) - 1
    connection = connect(mount.path / "db")
    assert connection.execute("pragma integrity_check").fetchall() == [("ok",)]
    assert connection.execute("select count(*) from t").fetchone()[0] in (rows, rows + 1)
    connection.close()
