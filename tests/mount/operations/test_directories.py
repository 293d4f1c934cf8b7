# SPDX-License-Identifier: MIT
"""Listing of directories: large ones, changing ones, positions within them."""

import os
import shutil
import stat
import threading

import pytest
from helpers.files import opened, write_file
from helpers.libc import DirStream, getdents

MANY = 5000


@pytest.fixture
def big(mnt):
    """A directory of many empty files."""
    path = mnt / "big"
    path.mkdir()
    fd = os.open(path, os.O_RDONLY)
    for i in range(MANY):
        os.close(os.open(f"entry-{i:05}", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    os.close(fd)
    return path


NAMES = {f"entry-{i:05}" for i in range(MANY)}


def test_listing_of_many_entries_is_complete(big, remount):
    found = os.listdir(big)
    assert len(found) == MANY and set(found) == NAMES
    remount()
    found = os.listdir(big)
    assert len(found) == MANY and set(found) == NAMES


def test_listing_has_dot_dotdot_types_and_inode_numbers(mnt):
    os.mkdir(mnt / "d")
    os.mkdir(mnt / "d/dir")
    write_file(mnt / "d/file", b"")
    os.symlink("x", mnt / "d/link")
    os.mkfifo(mnt / "d/fifo")
    with opened(mnt / "d", os.O_RDONLY) as fd:
        entries = {name: (ino, kind) for ino, _, kind, name in getdents(fd)}
        assert getdents(fd) == []
    assert entries.keys() == {b".", b"..", b"dir", b"file", b"link", b"fifo"}
    for name, kind in (
        (b"dir", stat.S_IFDIR),
        (b"file", stat.S_IFREG),
        (b"link", stat.S_IFLNK),
        (b"fifo", stat.S_IFIFO),
    ):
        assert entries[name] == (os.lstat(mnt / "d" / os.fsdecode(name)).st_ino, kind >> 12)
    assert entries[b"."][0] == os.stat(mnt / "d").st_ino


def test_listing_with_attributes_agrees_with_stat(big, remount):
    for i in range(0, MANY, 50):
        with opened(big / f"entry-{i:05}") as fd:
            os.write(fd, b"x" * i)
    remount()
    with os.scandir(big) as entries:
        sizes = {e.name: e.stat(follow_symlinks=False).st_size for e in entries}
    assert sizes == {f"entry-{i:05}": i if i % 50 == 0 else 0 for i in range(MANY)}


@pytest.mark.parametrize("size", [64, 300, 4096, 100_000])
def test_listing_works_with_small_and_large_buffers(mnt, size):
    for i in range(300):
        os.mkdir(mnt / f"d{i}")
    found = []
    with opened(mnt, os.O_RDONLY) as fd:
        while entries := getdents(fd, size):
            found += [e[3] for e in entries if e[3] not in (b".", b"..", b"lost+found")]
    assert len(found) == 300 and set(found) == {b"d%d" % i for i in range(300)}


def test_positions_survive_inserts_and_removals(big):
    """telldir before each entry; seekdir there later must go on with that very entry, whatever came and went."""
    with DirStream(big) as stream:
        positions = []
        while True:
            position = stream.tell()
            name = stream.read()
            if name is None:
                break
            positions.append((position, name))
        for i in range(0, MANY, 3):
            os.unlink(big / f"entry-{i:05}")
        for i in range(500):
            write_file(big / f"new-{i}", b"")
        remaining = [(p, n) for p, n in positions if n not in (b".", b"..") and int(n[6:]) % 3 != 0]
        for position, name in remaining[:: len(remaining) // 60]:
            stream.rewind()
            stream.seek(position)
            # New names may have come in before it, stable ones may not.
            following = stream.read()
            while following.startswith(b"new-"):
                following = stream.read()
            assert following == name


def test_positions_survive_a_remount(big, remount):
    """What an NFS server relies on that has been started anew: the entry after a position is still the one after it."""
    with DirStream(big) as stream:
        order, positions = [], []
        while (name := stream.read()) is not None:
            order.append(name)
            positions.append(stream.tell())
    removed = set(order[1000:1200])
    for name in removed - {b".", b".."}:
        os.unlink(os.fsencode(big) + b"/" + name)
    remount()
    left = [(i, n) for i, n in enumerate(order) if n not in removed]
    with DirStream(big) as stream:
        for at, _ in left[:: len(left) // 40]:
            stream.rewind()
            stream.seek(positions[at])
            assert [n for n in iter(stream.read, None)] == [n for i, n in left if i > at]
    with DirStream(big) as stream:
        stream.seek(positions[1100])  # that entry is gone, its place is not
        assert stream.read() == next(n for i, n in left if i > 1100)


@pytest.mark.heavy
@pytest.mark.limit(300)
def test_directory_of_100000_entries_is_complete_and_shrinks_while_it_is_listed(mount):
    """Links of one file: its link count goes beyond the 65,000 of ext4 as well."""
    count, path = 100_000, mount.path / "huge"
    path.mkdir()
    write_file(path / "0", b"one file")
    with opened(path, os.O_RDONLY) as fd:
        for i in range(1, count):
            os.link("0", str(i), src_dir_fd=fd, dst_dir_fd=fd)
    assert os.stat(path / "0").st_nlink == count
    mount.remount()
    assert os.stat(path / str(count - 1)).st_nlink == count
    assert not (path / str(count)).exists()
    seen, removed = set(), 0
    with opened(path, os.O_RDONLY) as fd:
        while entries := getdents(fd, 65_536):
            for name in (e[3] for e in entries if e[3] not in (b".", b"..")):
                assert name not in seen, "an entry was listed twice"
                seen.add(name)
                if int(name) % 2:
                    os.unlink(name, dir_fd=fd)
                    removed += 1
    assert len(seen) == count and removed == count // 2
    mount.remount()
    assert {int(n) for n in os.listdir(path)} == set(range(0, count, 2))
    assert os.stat(path / "0").st_nlink == count // 2


def test_rewind_shows_what_was_made_since(mnt):
    with DirStream(mnt) as stream:
        before = stream.names()
        write_file(mnt / "later", b"")
        stream.rewind()
        assert sorted(stream.names()) == sorted([*before, b"later"])


def test_stable_entries_are_listed_once_while_others_come_and_go(big):
    """Names that are there all the time must appear exactly once in each listing."""
    stop = threading.Event()
    trouble = []

    def churn():
        generation = 0
        try:
            while not stop.is_set():
                for i in range(40):
                    write_file(big / f"churn-{generation}-{i}", b"")
                for i in range(40):
                    os.unlink(big / f"churn-{generation}-{i}")
                generation += 1
        except OSError as error:
            trouble.append(error)

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for size in (1000, 4096, 4096, 32_768, 32_768, 32_768):
            found = []
            with opened(big, os.O_RDONLY) as fd:
                while entries := getdents(fd, size):
                    found += [e[3] for e in entries if e[3].startswith(b"entry-")]
            assert len(found) == len(set(found)), "an entry was listed twice"
            assert len(found) == MANY, "an entry was left out"
    finally:
        stop.set()
        thread.join()
    assert not trouble


def test_entries_removed_while_listing_leave_the_rest_complete(big):
    """What rm -r does: read a buffer, remove what it holds, read the next."""
    seen = set()
    with opened(big, os.O_RDONLY) as fd:
        while entries := getdents(fd, 2000):
            for _, _, _, name in entries:
                if name in (b".", b".."):
                    continue
                assert name not in seen
                seen.add(name)
                os.unlink(name, dir_fd=fd)
    assert {n.decode() for n in seen} == NAMES
    os.rmdir(big)


def test_big_directory_shrinks_and_can_be_filled_again(big, remount):
    for i in range(MANY):
        os.unlink(big / f"entry-{i:05}")
    assert os.listdir(big) == []
    remount()
    assert os.listdir(big) == []
    for i in range(100):
        write_file(big / f"again-{i}", b"")
    assert len(os.listdir(big)) == 100


def test_big_trees_can_be_removed(mnt, remount):
    for i in range(40):
        os.mkdir(mnt / f"d{i}")
        for j in range(40):
            write_file(mnt / f"d{i}/f{j}", b"x" * (j * 300))
    for i in range(40):
        shutil.rmtree(mnt / f"d{i}")
    remount()
    assert [n for n in os.listdir(mnt) if n != "lost+found"] == []


def test_renames_in_a_big_directory_keep_it_complete(big):
    for i in range(0, MANY, 2):
        os.rename(big / f"entry-{i:05}", big / f"renamed-{i:05}")
    expected = {f"{'renamed' if i % 2 == 0 else 'entry'}-{i:05}" for i in range(MANY)}
    found = os.listdir(big)
    assert len(found) == MANY and set(found) == expected


def test_two_streams_on_one_directory_do_not_disturb_each_other(big):
    with DirStream(big) as a, DirStream(big) as b:
        first = [a.read() for _ in range(1000)]
        whole = b.names()
        rest = a.names()
    assert sorted(n for n in first + rest if n not in (b".", b"..")) == sorted(whole)
    assert len(whole) == MANY


def test_statfs_tells_size_and_use(mount):
    mnt = mount.path
    before = os.statvfs(mnt)
    assert before.f_namemax == 255
    assert before.f_bsize >= 4096 or before.f_frsize >= 512
    assert 0 < before.f_bavail <= before.f_bfree <= before.f_blocks
    write_file(mnt / "f", os.urandom(4 << 20))
    with opened(mnt / "f") as fd:
        os.fsync(fd)
    used = (before.f_bfree - os.statvfs(mnt).f_bfree) * before.f_frsize
    assert 4 << 20 <= used <= 8 << 20
