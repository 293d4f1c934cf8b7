# SPDX-License-Identifier: MIT
"""Making and removing names: files, directories, links, device nodes; names of every kind."""

import errno
import os
import socket
import stat

import pytest
from helpers.files import fails_with, opened, pattern, read_file, write_file


def test_created_file_is_found_and_is_empty(mnt):
    with opened(mnt / "f", os.O_CREAT | os.O_RDWR | os.O_EXCL, 0o640) as fd:
        info = os.fstat(fd)
        assert stat.S_ISREG(info.st_mode) and stat.S_IMODE(info.st_mode) == 0o640
        assert (info.st_size, info.st_nlink, info.st_blocks) == (0, 1, 0)
    assert os.listdir(mnt) == ["f"] or sorted(os.listdir(mnt)) == ["f", "lost+found"]
    assert read_file(mnt / "f") == b""


def test_lookup_of_missing_name_is_enoent_and_sees_it_once_made(mnt):
    for _ in range(3):
        with fails_with(errno.ENOENT):
            os.stat(mnt / "later")
    write_file(mnt / "later", b"x")
    assert os.stat(mnt / "later").st_size == 1
    os.unlink(mnt / "later")
    with fails_with(errno.ENOENT):
        os.stat(mnt / "later")


def test_path_through_a_file_is_enotdir(mnt):
    write_file(mnt / "f", b"")
    with fails_with(errno.ENOTDIR):
        os.stat(mnt / "f" / "below")


def test_exclusive_create_of_existing_name_is_eexist(mnt):
    write_file(mnt / "f", b"kept")
    with fails_with(errno.EEXIST):
        os.open(mnt / "f", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    os.symlink("nowhere", mnt / "dangling")
    with fails_with(errno.EEXIST):
        os.open(mnt / "dangling", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    assert read_file(mnt / "f") == b"kept"


def test_create_of_a_read_only_file_gives_a_writable_descriptor(mnt):
    with opened(mnt / "object", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o444) as fd:
        assert os.write(fd, b"data") == 4
        assert stat.S_IMODE(os.fstat(fd).st_mode) == 0o444
    assert read_file(mnt / "object") == b"data"


@pytest.mark.parametrize("umask", [0o000, 0o027, 0o077])
def test_umask_applies_to_new_files_directories_and_fifos(mnt, umask):
    old = os.umask(umask)
    try:
        os.close(os.open(mnt / "file", os.O_CREAT | os.O_WRONLY, 0o666))
        os.mkdir(mnt / "dir", 0o777)
        os.mkfifo(mnt / "fifo", 0o666)
    finally:
        os.umask(old)
    modes = [stat.S_IMODE(os.stat(mnt / n).st_mode) for n in ("file", "dir", "fifo")]
    assert modes == [0o666 & ~umask, 0o777 & ~umask, 0o666 & ~umask]


def test_fifo_carries_bytes_between_its_ends(mnt):
    os.mkfifo(mnt / "fifo", 0o600)
    assert stat.S_ISFIFO(os.stat(mnt / "fifo").st_mode)
    with opened(mnt / "fifo", os.O_RDONLY | os.O_NONBLOCK) as reader, opened(mnt / "fifo", os.O_WRONLY) as writer:
        os.write(writer, b"through")
        assert os.read(reader, 100) == b"through"


def test_socket_in_the_mount_can_be_connected_to(mnt):
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(os.fspath(mnt / "socket"))
        assert stat.S_ISSOCK(os.stat(mnt / "socket").st_mode)
        server.listen()
        client.connect(os.fspath(mnt / "socket"))
        client.sendall(b"hello")
        peer, _ = server.accept()
        assert peer.recv(10) == b"hello"
        peer.close()


@pytest.mark.root
def test_device_nodes_keep_their_numbers(mnt, remount):
    os.mknod(mnt / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    os.mknod(mnt / "disk", 0o600 | stat.S_IFBLK, os.makedev(4000, 1_000_000))
    remount()
    null, disk = os.stat(mnt / "null"), os.stat(mnt / "disk")
    assert stat.S_ISCHR(null.st_mode) and null.st_rdev == os.makedev(1, 3)
    assert stat.S_ISBLK(disk.st_mode) and disk.st_rdev == os.makedev(4000, 1_000_000)


def test_mkdir_counts_links_of_parent_and_child(mnt):
    before = os.stat(mnt).st_nlink
    os.mkdir(mnt / "d")
    assert os.stat(mnt / "d").st_nlink == 2
    assert os.stat(mnt).st_nlink == before + 1
    os.mkdir(mnt / "d" / "e")
    assert os.stat(mnt / "d").st_nlink == 3
    os.rmdir(mnt / "d" / "e")
    assert os.stat(mnt / "d").st_nlink == 2
    os.rmdir(mnt / "d")
    assert os.stat(mnt).st_nlink == before


def test_mkdir_over_existing_name_is_eexist(mnt):
    os.mkdir(mnt / "d")
    write_file(mnt / "f", b"")
    for name in ("d", "f"):
        with fails_with(errno.EEXIST):
            os.mkdir(mnt / name)


@pytest.mark.parametrize("length", [1, 59, 60, 100, 255, 256, 1000, 4094, 4095])
def test_symlink_of_any_length_reads_back(mnt, remount, length):
    target = ("x/" * 2048)[:length]
    os.symlink(target, mnt / "link")
    assert os.readlink(mnt / "link") == target
    assert os.lstat(mnt / "link").st_size == length
    remount()
    assert os.readlink(mnt / "link") == target


def test_symlink_longer_than_a_path_is_enametoolong(mnt):
    with fails_with(errno.ENAMETOOLONG):
        os.symlink("x" * 4096, mnt / "link")


def test_symlinks_are_followed_and_loops_end(mnt):
    os.mkdir(mnt / "d")
    write_file(mnt / "d" / "f", b"there")
    os.symlink("d/../d/f", mnt / "link")
    os.symlink("b", mnt / "a")
    os.symlink("a", mnt / "b")
    assert read_file(mnt / "link") == b"there"
    with fails_with(errno.ELOOP):
        os.stat(mnt / "a")


def test_unlink_of_a_directory_and_rmdir_of_a_file_fail(mnt):
    os.mkdir(mnt / "d")
    write_file(mnt / "f", b"")
    with fails_with(errno.EISDIR, errno.EPERM):
        os.unlink(mnt / "d")
    with fails_with(errno.ENOTDIR):
        os.rmdir(mnt / "f")
    for call in (os.unlink, os.rmdir):
        with fails_with(errno.ENOENT):
            call(mnt / "missing")


def test_rmdir_of_a_full_directory_is_enotempty(mnt):
    os.mkdir(mnt / "d")
    write_file(mnt / "d" / "f", b"")
    with fails_with(errno.ENOTEMPTY):
        os.rmdir(mnt / "d")
    os.unlink(mnt / "d" / "f")
    os.rmdir(mnt / "d")
    assert not (mnt / "d").exists()


def test_nothing_can_be_made_in_a_removed_directory(mnt):
    os.mkdir(mnt / "d")
    with opened(mnt / "d", os.O_RDONLY | os.O_DIRECTORY) as fd:
        os.rmdir(mnt / "d")
        assert os.listdir(fd) == []
        with fails_with(errno.ENOENT):
            os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=fd)
        with fails_with(errno.ENOENT):
            os.mkdir("e", dir_fd=fd)
        assert os.fstat(fd).st_nlink == 0


def test_hard_links_share_one_inode(mnt, remount):
    write_file(mnt / "a", b"one")
    os.mkdir(mnt / "d")
    os.link(mnt / "a", mnt / "d" / "b")
    a, b = os.stat(mnt / "a"), os.stat(mnt / "d" / "b")
    assert (a.st_ino, a.st_nlink) == (b.st_ino, 2)
    write_file(mnt / "d" / "b", b"changed")
    assert read_file(mnt / "a") == b"changed"
    os.unlink(mnt / "a")
    assert os.stat(mnt / "d" / "b").st_nlink == 1
    remount()
    assert read_file(mnt / "d" / "b") == b"changed"
    assert os.stat(mnt / "d" / "b").st_ino == a.st_ino


def test_many_hard_links_are_counted(mnt):
    write_file(mnt / "a", b"x")
    for i in range(1000):
        os.link(mnt / "a", mnt / f"link-{i}")
    assert os.stat(mnt / "a").st_nlink == 1001
    for i in range(1000):
        os.unlink(mnt / f"link-{i}")
    assert os.stat(mnt / "a").st_nlink == 1


def test_link_of_a_directory_and_over_a_name_fail(mnt):
    os.mkdir(mnt / "d")
    write_file(mnt / "f", b"")
    write_file(mnt / "g", b"")
    with fails_with(errno.EPERM):
        os.link(mnt / "d", mnt / "e")
    with fails_with(errno.EEXIST):
        os.link(mnt / "f", mnt / "g")


def test_hard_link_of_a_symlink_is_a_symlink(mnt):
    os.symlink("target", mnt / "a")
    os.link(mnt / "a", mnt / "b", follow_symlinks=False)
    assert os.readlink(mnt / "b") == "target"
    assert os.lstat(mnt / "a").st_nlink == 2


WEIRD = [
    b"a",
    b" ",
    b"...",
    b"-rf",
    b"new\nline",
    b"tab\tand\x01\x7f",
    "ünïcödé-名前-🙂".encode(),
    b"\xff\xfe\x80",
    b"\\x00",
    b"*?[]",
    b"x" * 254,
    b"y" * 255,
    "é".encode() * 127,
]


@pytest.mark.parametrize("name", WEIRD, ids=repr)
def test_any_name_of_bytes_can_be_made_listed_renamed_and_removed(mnt, remount, name):
    path = os.path.join(os.fsencode(mnt), name)
    write_file(path, name)
    remount()
    assert name in os.listdir(os.fsencode(mnt))
    assert read_file(path) == name
    with fails_with(errno.ENOENT):
        os.stat(path[:-1] + b"\x02")
    os.mkdir(os.fsencode(mnt) + b"/dir")
    os.rename(path, os.fsencode(mnt) + b"/dir/" + name)
    assert os.listdir(os.fsencode(mnt) + b"/dir") == [name]
    os.unlink(os.fsencode(mnt) + b"/dir/" + name)


def test_names_longer_than_255_bytes_are_enametoolong(mnt):
    for call in (os.stat, os.mkdir, os.unlink, lambda p: os.open(p, os.O_CREAT | os.O_WRONLY)):
        with fails_with(errno.ENAMETOOLONG):
            call(mnt / ("z" * 256))


def test_names_that_differ_in_case_only_are_two_files(mnt):
    write_file(mnt / "Name", b"upper")
    write_file(mnt / "name", b"lower")
    assert (read_file(mnt / "Name"), read_file(mnt / "name")) == (b"upper", b"lower")


def test_deep_directories_work_down_to_the_bottom(mnt, remount):
    depth, fd = 300, os.open(mnt, os.O_RDONLY)
    for i in range(depth):
        os.mkdir(f"level-{i}", dir_fd=fd)
        below = os.open(f"level-{i}", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    with os.fdopen(os.open("bottom", os.O_CREAT | os.O_WRONLY, dir_fd=fd), "wb") as f:
        f.write(b"deep")
    os.close(fd)
    remount()
    fd = os.open(mnt, os.O_RDONLY)
    for i in range(depth):
        below = os.open(f"level-{i}", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    with os.fdopen(os.open("bottom", os.O_RDONLY, dir_fd=fd), "rb") as f:
        assert f.read() == b"deep"
    up = os.open("..", os.O_RDONLY, dir_fd=fd)
    assert os.listdir(up) == [f"level-{depth - 1}"]
    os.close(up)
    os.close(fd)


def test_contents_of_thousand_small_files_stay_apart(mnt, remount):
    for i in range(1000):
        write_file(mnt / f"f{i}", pattern(i, i))
    remount()
    for i in range(1000):
        assert read_file(mnt / f"f{i}") == pattern(i, i)
