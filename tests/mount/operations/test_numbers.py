# SPDX-License-Identifier: MIT
"""Inode numbers: one each, the same over remounts, never given twice."""

import os

from helpers.files import opened, write_file


def test_inode_numbers_are_unique_and_last(mnt, remount):
    for i in range(20):
        os.mkdir(mnt / f"d{i}")
        for j in range(20):
            write_file(mnt / f"d{i}/f{j}", b"")
    paths = [os.path.join(top, n) for top, dirs, files in os.walk(mnt) for n in dirs + files]
    before = {p: os.lstat(p).st_ino for p in paths}
    assert len(set(before.values())) == len(before)
    remount()
    assert {p: os.lstat(p).st_ino for p in paths} == before


def test_inode_numbers_are_never_reused(mount):
    seen = set()
    for round_ in range(4):
        for i in range(150):
            path = mount.path / f"f{i}"
            write_file(path, b"x")
            ino = os.stat(path).st_ino
            assert ino not in seen
            seen.add(ino)
        for i in range(150):
            os.unlink(mount.path / f"f{i}")
        if round_ % 2:
            mount.remount()
        else:
            mount.sync()


def test_inode_number_stays_through_every_change(mnt):
    with opened(mnt / "f", os.O_CREAT | os.O_RDWR) as fd:
        ino = os.fstat(fd).st_ino
        os.write(fd, b"x" * 100_000)
        os.rename(mnt / "f", mnt / "g")
        os.truncate(mnt / "g", 0)
        os.link(mnt / "g", mnt / "h")
        os.unlink(mnt / "g")
        os.chmod(mnt / "h", 0o600)
        os.fsync(fd)
        assert os.fstat(fd).st_ino == os.stat(mnt / "h").st_ino == ino
    with os.scandir(mnt) as entries:
        assert {e.name: e.inode() for e in entries}["h"] == ino
