# SPDX-License-Identifier: MIT
"""getattr and setattr: modes, owners, times, sizes; which operation moves which time."""

import errno
import os
import stat
import time

import pytest
from helpers.commands import KERNEL
from helpers.files import attempt, fails_with, opened, pattern, read_file, write_file
from helpers.libc import birth_time, renameat2


@pytest.mark.parametrize("mode", [0o000, 0o644, 0o777, 0o4755, 0o2755, 0o1777, 0o7777])
def test_chmod_sets_every_bit_and_lasts(mnt, remount, mode):
    write_file(mnt / "f", b"")
    os.mkdir(mnt / "d")
    for name in ("f", "d"):
        os.chmod(mnt / name, mode)
        assert stat.S_IMODE(os.stat(mnt / name).st_mode) == mode
    remount()
    for name in ("f", "d"):
        assert stat.S_IMODE(os.stat(mnt / name).st_mode) == mode
        os.chmod(mnt / name, 0o700)


@pytest.mark.root
def test_chown_sets_owner_and_group_apart_and_lasts(mnt, remount):
    write_file(mnt / "f", b"")
    os.symlink("f", mnt / "link")
    os.chown(mnt / "f", 1234, -1)
    os.chown(mnt / "f", -1, 4_000_000_000)
    os.lchown(mnt / "link", 7, 8)
    remount()
    info = os.stat(mnt / "f")
    assert (info.st_uid, info.st_gid) == (1234, 4_000_000_000)
    info = os.lstat(mnt / "link")
    assert (info.st_uid, info.st_gid) == (7, 8)


@pytest.mark.root
def test_chown_strips_set_id_bits_of_a_program(mnt):
    write_file(mnt / "f", b"")
    os.chmod(mnt / "f", 0o6755)
    os.chown(mnt / "f", 1234, 1234)
    assert stat.S_IMODE(os.stat(mnt / "f").st_mode) == 0o755


@pytest.mark.root
def test_chown_strips_set_id_bits_of_all_but_directories(mnt):
    os.mkfifo(mnt / "fifo")
    os.mknod(mnt / "device", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    os.mkdir(mnt / "directory")
    for name, after in (("fifo", 0o755), ("device", 0o755), ("directory", 0o6755)):
        os.chmod(mnt / name, 0o6755)
        os.chown(mnt / name, 1234, 1234)
        assert stat.S_IMODE(os.stat(mnt / name).st_mode) == after


@pytest.mark.parametrize("cache", [pytest.param(cache, marks=pytest.mark.options(f"cache={cache}")) for cache in ("through", "writeback")])
def test_chown_to_nobody_else_strips_set_id_bits_too(mnt, cache):
    """chown(path, -1, -1): no owner changes, and the bits and ctime do."""
    write_file(mnt / "f", b"")
    for before, after in ((0o6755, 0o755), (0o4644, 0o644), (0o2755, 0o755), (0o755, 0o755)):
        os.chmod(mnt / "f", before)
        ctime = os.stat(mnt / "f").st_ctime_ns
        time.sleep(0.02)
        os.chown(mnt / "f", -1, -1)
        info = os.stat(mnt / "f")
        assert stat.S_IMODE(info.st_mode) == after and info.st_ctime_ns > ctime
    os.mkdir(mnt / "d")
    os.chmod(mnt / "d", 0o2755)
    os.chown(mnt / "d", -1, -1)
    assert stat.S_IMODE(os.stat(mnt / "d").st_mode) == 0o2755


@pytest.mark.root
def test_new_files_take_the_group_of_a_setgid_directory(mnt):
    os.mkdir(mnt / "d")
    os.chown(mnt / "d", 0, 4321)
    os.chmod(mnt / "d", 0o2775)
    write_file(mnt / "d" / "f", b"")
    os.mkdir(mnt / "d" / "e")
    assert os.stat(mnt / "d" / "f").st_gid == 4321
    assert os.stat(mnt / "d" / "e").st_gid == 4321
    assert os.stat(mnt / "d" / "e").st_mode & stat.S_ISGID


@pytest.mark.root
@pytest.mark.options("allow_other")
def test_setgid_directories_and_who_may_keep_the_bit(mnt):
    alice = 12_345
    os.chmod(mnt, 0o777)
    os.mkdir(mnt / "d")
    os.chown(mnt / "d", alice, 4321)
    os.chmod(mnt / "d", 0o2777)
    # Who is not in the group makes no program that runs with it.
    make = "os.umask(0); os.close(os.open(p, os.O_CREAT | os.O_WRONLY, 0o2775))"
    assert attempt(alice, make, mnt / "d/f") == "OK"
    info = os.stat(mnt / "d/f")
    assert (info.st_uid, info.st_gid, stat.S_IMODE(info.st_mode)) == (alice, 4321, 0o775)
    assert attempt(alice, "os.chmod(p, 0o2775)", mnt / "d/f") == "OK"
    assert stat.S_IMODE(os.stat(mnt / "d/f").st_mode) == 0o775
    assert attempt(alice, "os.mkdir(p); os.mkdir(p + '/below')", mnt / "d/e") == "OK"
    for name in ("d/e", "d/e/below"):
        info = os.stat(mnt / name)
        assert info.st_gid == 4321 and info.st_mode & stat.S_ISGID
    for name, make in (("p", "os.mkfifo(p)"), ("l", "os.symlink('x', p)")):
        assert attempt(alice, make, mnt / "d/e" / name) == "OK"
        assert os.lstat(mnt / "d/e" / name).st_gid == 4321
    os.chmod(mnt / "d/e", 0o775)
    assert attempt(alice, "os.mkdir(p)", mnt / "d/e/other") == "OK"
    assert os.stat(mnt / "d/e/other").st_gid == alice


@pytest.mark.parametrize(
    "when", [0, 1, 999_999_999, 1_700_000_000_123_456_789, -1, -2_000_000_000_000_000_001, 1 << 33]
)
def test_utimens_keeps_nanoseconds(mnt, remount, when):
    if when == 1 << 33:
        when = (1 << 33) * 1_000_000_000 + 5  # a date after 2038 (and after 2106)
    write_file(mnt / "f", b"data")
    os.utime(mnt / "f", ns=(when, when + 7))
    remount()
    info = os.stat(mnt / "f")
    assert (info.st_atime_ns, info.st_mtime_ns) == (when, when + 7)


SECOND = 1_000_000_000
# Where ext4's times end, in 2446, and where those of mapfs do, in 2486; both begin in 1901.
EXT4_LAST, LAST, FIRST = 15_032_385_535, 16_299_260_425, -(1 << 31)


@pytest.mark.parametrize("seconds", [EXT4_LAST, EXT4_LAST + 1, 16_000_000_000, LAST - 1, FIRST, FIRST + 1])
def test_utimens_keeps_nanoseconds_from_1901_to_2486(mount, seconds):
    path = mount.path / "f"
    write_file(path, b"")
    for i in range(2):
        when = seconds * SECOND + 999_999_990 + i
        os.utime(path, ns=(when, when + 5))
        assert (os.stat(path).st_atime_ns, os.stat(path).st_mtime_ns) == (when, when + 5)
    mount.remount()
    assert (os.stat(path).st_atime_ns, os.stat(path).st_mtime_ns) == (when, when + 5)


@pytest.mark.parametrize("seconds", [FIRST - 1, -(1 << 34), -(1 << 62), LAST + 1, 1 << 35, 1 << 62])
def test_times_out_of_range_become_the_nearest_that_can_be_kept(mount, seconds):
    """As on every Linux filesystem: no error, the first or last time instead."""
    path = mount.path / "f"
    write_file(path, b"")
    # utime() of Python takes no seconds of more than 64 bits in nanoseconds: a pair of floats would lose digits, these do not.
    os.utime(path, (seconds, seconds))
    nearest = FIRST if seconds < 0 else LAST
    for i in range(2):
        info = os.stat(path)
        assert (info.st_atime_ns // SECOND, info.st_mtime_ns // SECOND) == (nearest, nearest)
        if i == 0:
            mount.remount()


def test_time_of_birth_is_told_and_never_moves(mount):
    start = time.time_ns() - 20_000_000
    write_file(mount.path / "f", b"x")
    os.mkdir(mount.path / "d")
    os.symlink("f", mount.path / "link")
    paths = {n: mount.path / n for n in ("f", "d", "link")}
    births = {n: birth_time(p) for n, p in paths.items()}
    if KERNEL < (6, 6):
        assert set(births.values()) == {None}
        pytest.skip("Linux before 6.6 asks no FUSE daemon for the time of birth")
    assert all(start <= b <= time.time_ns() for b in births.values())
    _tick(mount.path)
    os.utime(mount.path / "f", ns=(5, 5))
    os.chmod(mount.path / "f", 0o600)
    _write(mount.path / "f", b"more", os.O_APPEND)
    write_file(mount.path / "d/g", b"")
    os.link(mount.path / "f", mount.path / "d/h")
    os.rename(mount.path / "f", mount.path / "f2")
    paths["f"] = mount.path / "f2"
    assert {n: birth_time(p) for n, p in paths.items()} == births
    mount.remount()
    assert {n: birth_time(p) for n, p in paths.items()} == births
    assert birth_time(mount.path / "d/g") > births["d"]


def test_utimens_of_a_symlink_does_not_touch_its_target(mnt):
    write_file(mnt / "f", b"")
    before = os.stat(mnt / "f").st_mtime_ns
    os.symlink("f", mnt / "link")
    os.utime(mnt / "link", ns=(5, 6), follow_symlinks=False)
    assert os.lstat(mnt / "link").st_mtime_ns == 6
    assert os.stat(mnt / "f").st_mtime_ns == before


def test_utimens_on_a_descriptor_that_was_written_to_lasts(mnt, remount):
    with opened(mnt / "f", os.O_CREAT | os.O_RDWR) as fd:
        os.write(fd, b"x" * 10_000)
        os.utime(fd, ns=(11, 22))
    assert os.stat(mnt / "f").st_mtime_ns == 22
    remount()
    assert os.stat(mnt / "f").st_mtime_ns == 22


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 10_000, 1 << 20])
def test_truncate_cuts_and_extends_with_zeros(mnt, remount, size):
    data = pattern(20_000)
    write_file(mnt / "f", data)
    os.truncate(mnt / "f", size)
    assert read_file(mnt / "f") == data[:size].ljust(size, b"\0")
    remount()
    assert read_file(mnt / "f") == data[:size].ljust(size, b"\0")


def test_truncate_down_and_up_again_shows_zeros_not_old_bytes(mnt, remount):
    data = pattern(3 * 4096)
    for cut in (1, 100, 4095, 4096, 4097, 8191, 8192):
        write_file(mnt / "f", data)
        os.truncate(mnt / "f", cut)
        os.truncate(mnt / "f", len(data))
        expected = data[:cut].ljust(len(data), b"\0")
        assert read_file(mnt / "f") == expected
    remount()
    assert read_file(mnt / "f") == expected


def test_truncate_of_a_directory_or_to_a_negative_size_fails(mnt):
    os.mkdir(mnt / "d")
    write_file(mnt / "f", b"abc")
    with fails_with(errno.EISDIR):
        os.truncate(mnt / "d", 0)
    with fails_with(errno.EINVAL):
        os.truncate(mnt / "f", -1)
    assert read_file(mnt / "f") == b"abc"


def test_ftruncate_on_a_descriptor_opened_read_only_fails(mnt):
    write_file(mnt / "f", b"abc")
    with opened(mnt / "f", os.O_RDONLY) as fd, fails_with(errno.EINVAL, errno.EBADF):
        os.ftruncate(fd, 0)
    assert read_file(mnt / "f") == b"abc"


def test_stat_counts_blocks_of_data_not_of_holes(mnt):
    write_file(mnt / "full", pattern(1 << 20))
    assert (1 << 20) // 512 <= os.stat(mnt / "full").st_blocks <= (1 << 20) // 512 + 64
    with opened(mnt / "holes", os.O_CREAT | os.O_RDWR) as fd:
        os.ftruncate(fd, 1 << 30)
    assert os.stat(mnt / "holes").st_blocks <= 16
    assert os.stat(mnt / "holes").st_size == 1 << 30


def _tick(mnt):
    """Waits until the clock that file times come from has moved on (it can be as coarse as 10 ms)."""
    time.sleep(0.025)


def _times(path):
    info = os.lstat(path)
    return info.st_mtime_ns, info.st_ctime_ns


# What each operation does to (mtime, ctime) of the file itself: + moves on, = stays.
FILE_CASES = {
    "write": (lambda p: _write(p, b"x"), "++"),
    "append": (lambda p: _write(p, b"x", os.O_APPEND), "++"),
    "truncate to another size": (lambda p: os.truncate(p, 3), "++"),
    "chmod": (lambda p: os.chmod(p, 0o600), "=+"),
    "link": (lambda p: os.link(p, f"{p}.link"), "=+"),
    "rename": (lambda p: os.rename(p, f"{p}.2") or os.rename(f"{p}.2", p), "=+"),
    "set xattr": (lambda p: os.setxattr(p, "user.a", b"1"), "=+"),
    "read": (lambda p: read_file(p), "=="),
    "stat": (lambda p: os.stat(p), "=="),
    "open for writing": (lambda p: os.close(os.open(p, os.O_WRONLY)), "=="),
    "open with O_TRUNC": (lambda p: os.close(os.open(p, os.O_WRONLY | os.O_TRUNC)), "++"),
}


def _write(path, data, flags=0):
    with opened(path, os.O_WRONLY | flags) as fd:
        os.write(fd, data)


def _moved(before, after):
    return "".join("=" if a == b else "+" if a > b else "-" for b, a in zip(before, after, strict=True))


@pytest.mark.parametrize("case", FILE_CASES)
def test_times_of_a_file_move_with_the_right_operations(mnt, case):
    path = os.fspath(mnt / "f")
    write_file(path, b"12345678")
    before = _times(path)
    _tick(mnt)
    action, expected = FILE_CASES[case]
    action(path)
    assert _moved(before, _times(path)) == expected


# Whether an operation on a name changes the directory that holds it.
PARENT_CASES = {
    "create": (lambda d: write_file(f"{d}/new", b""), "++"),
    "mkdir": (lambda d: os.mkdir(f"{d}/new"), "++"),
    "symlink": (lambda d: os.symlink("x", f"{d}/new"), "++"),
    "mkfifo": (lambda d: os.mkfifo(f"{d}/new"), "++"),
    "link": (lambda d: os.link(f"{d}/f", f"{d}/new"), "++"),
    "unlink": (lambda d: os.unlink(f"{d}/f"), "++"),
    "rmdir": (lambda d: os.rmdir(f"{d}/sub"), "++"),
    "rename in place": (lambda d: os.rename(f"{d}/f", f"{d}/g"), "++"),
    "rename away": (lambda d: os.rename(f"{d}/f", f"{d}/../g"), "++"),
    "rename into": (lambda d: os.rename(f"{d}/../h", f"{d}/h"), "++"),
    "exchange": (lambda d: renameat2(f"{d}/f", f"{d}/sub", 2), "++"),
    "write of a file in it": (lambda d: _write(f"{d}/f", b"new"), "=="),
    "chmod of a file in it": (lambda d: os.chmod(f"{d}/f", 0o600), "=="),
    "listing": (lambda d: os.listdir(d), "=="),
    "failed create": (lambda d: _fail(lambda: os.mkdir(f"{d}/f")), "=="),
    "failed unlink": (lambda d: _fail(lambda: os.unlink(f"{d}/none")), "=="),
}


def _fail(call):
    with fails_with(errno.EEXIST, errno.ENOENT):
        call()


@pytest.mark.parametrize("case", PARENT_CASES)
def test_times_of_a_directory_move_when_its_names_change(mnt, case):
    d = os.fspath(mnt / "d")
    os.mkdir(d)
    write_file(f"{d}/f", b"data")
    write_file(f"{d}/../h", b"data")
    os.mkdir(f"{d}/sub")
    before = _times(d)
    _tick(mnt)
    action, expected = PARENT_CASES[case]
    action(d)
    assert _moved(before, _times(d)) == expected


def test_unlink_of_one_link_moves_ctime_of_the_file(mnt):
    write_file(mnt / "a", b"")
    os.link(mnt / "a", mnt / "b")
    before = _times(mnt / "b")
    _tick(mnt)
    os.unlink(mnt / "a")
    assert _moved(before, _times(mnt / "b")) == "=+"


def test_new_files_have_the_time_of_now(mnt):
    start = time.time_ns() - 20_000_000
    write_file(mnt / "f", b"x")
    info = os.stat(mnt / "f")
    for value in (info.st_atime_ns, info.st_mtime_ns, info.st_ctime_ns):
        assert start <= value <= time.time_ns()


def test_times_last_over_a_remount(mnt, remount):
    write_file(mnt / "f", b"x")
    os.mkdir(mnt / "d")
    write_file(mnt / "d" / "g", b"x")
    before = [_times(mnt / n) for n in ("f", "d", "d/g")]
    remount()
    assert [_times(mnt / n) for n in ("f", "d", "d/g")] == before
