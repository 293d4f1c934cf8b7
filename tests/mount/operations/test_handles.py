# SPDX-License-Identifier: MIT
"""File handles (name_to_handle_at, open_by_handle_at), as NFS servers keep them: good for one file, as long as it is there."""

import errno
import os
import struct

import pytest
from helpers.files import fails_with, opened, read_file, write_file
from helpers.libc import file_handle, open_handle

pytestmark = pytest.mark.root


def forget_inodes():
    """Makes the kernel drop every inode that is not in use, so that a handle is all that is left of it."""
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w") as f:
        f.write("2")


def content(mnt, handle):
    with opened(mnt, os.O_RDONLY) as mount_fd:
        fd = open_handle(mount_fd, handle)
    try:
        return os.pread(fd, 1000, 0)
    finally:
        os.close(fd)


def place(mnt, handle):
    """The path that the kernel finds for a handle, below the mount."""
    with opened(mnt, os.O_RDONLY) as mount_fd:
        fd = open_handle(mount_fd, handle, os.O_PATH)
    try:
        return os.path.relpath(os.readlink(f"/proc/self/fd/{fd}"), mnt)
    finally:
        os.close(fd)


@pytest.fixture
def tree(mount):
    """Directories a/b/c with a file in each."""
    os.makedirs(mount.path / "a/b/c")
    for name in ("a/f", "a/b/g", "a/b/c/h"):
        write_file(mount.path / name, name.encode())
    return mount


FILES = ("a/f", "a/b/g", "a/b/c/h")
DIRECTORIES = (".", "a", "a/b", "a/b/c")


@pytest.mark.parametrize("forget", ["drop caches", "remount", "crash"])
def test_handles_outlive_caches_and_mounts(tree, forget):
    mnt = tree.path
    handles = {name: file_handle(mnt / name) for name in FILES + DIRECTORIES}
    if forget == "drop caches":
        forget_inodes()
    elif forget == "remount":
        tree.remount()
    else:
        tree.sync()
        tree.kill()
        tree.start()
    assert place(mnt, handles["a/b/c"]) == "a/b/c"  # nothing above it is known yet
    for name in DIRECTORIES:
        assert place(mnt, handles[name]) == name
    for name in FILES:
        assert content(mnt, handles[name]) == name.encode()
    assert {name: file_handle(mnt / name) for name in handles} == handles


def test_handle_follows_a_file_through_renames_and_changes(tree):
    mnt = tree.path
    handle, directory = file_handle(mnt / "a/f"), file_handle(mnt / "a/b/c")
    os.rename(mnt / "a/f", mnt / "moved")
    os.rename(mnt / "a/b/c", mnt / "c")
    write_file(mnt / "moved", b"changed")
    os.chmod(mnt / "moved", 0o600)
    tree.remount()
    assert content(mnt, handle) == b"changed"
    assert place(mnt, directory) == "c"


@pytest.mark.parametrize("forget", [False, True])
def test_handle_of_a_deleted_file_is_stale(tree, forget):
    mnt = tree.path
    handles = [file_handle(mnt / name) for name in ("a/f", "a/b/c/h", "a/b/c")]
    os.unlink(mnt / "a/f")
    os.unlink(mnt / "a/b/c/h")
    os.rmdir(mnt / "a/b/c")
    write_file(mnt / "a/f", b"another")
    if forget:
        tree.remount()
    for handle in handles:
        with opened(mnt, os.O_RDONLY) as mount_fd, fails_with(errno.ESTALE):
            os.close(open_handle(mount_fd, handle))
    assert read_file(mnt / "a/f") == b"another"


@pytest.mark.options("commit=300")
def test_handle_of_a_file_that_a_crash_has_undone_leads_to_no_other(tree):
    """Inode numbers that were given out after the last sync are given out again after a crash."""
    mnt = tree.path
    tree.sync()
    write_file(mnt / "lost", b"lost")
    handle, ino = file_handle(mnt / "lost"), os.stat(mnt / "lost").st_ino
    tree.kill()
    tree.start()
    assert not (mnt / "lost").exists()
    write_file(mnt / "other", b"other")
    assert os.stat(mnt / "other").st_ino == ino, "the test wants the same number"
    with opened(mnt, os.O_RDONLY) as mount_fd, fails_with(errno.ESTALE):
        os.close(open_handle(mount_fd, handle))
    assert content(mnt, file_handle(mnt / "other")) == b"other"


@pytest.mark.parametrize("node", [0, 999, 1 << 47, 1 << 48, (1 << 63) + 1, (1 << 63) + (1 << 62) + 3, (1 << 64) - 1])
def test_handles_of_no_file_are_stale(tree, node):
    mnt = tree.path
    handle = file_handle(mnt / "a/f")
    # struct file_handle: length, type; FUSE's own: node (upper half first), generation, with a parent the same again.
    forged = handle[:8] + struct.pack("<II", node >> 32, node & 0xFFFFFFFF) + handle[16:]
    assert forged != handle
    with opened(mnt, os.O_RDONLY) as mount_fd, fails_with(errno.ESTALE):
        os.close(open_handle(mount_fd, forged))
    forged = handle[:16] + struct.pack("<I", struct.unpack_from("<I", handle, 16)[0] ^ 1) + handle[20:]
    with opened(mnt, os.O_RDONLY) as mount_fd, fails_with(errno.ESTALE):
        os.close(open_handle(mount_fd, forged))
    assert read_file(mnt / "a/f") == b"a/f"
