# SPDX-License-Identifier: MIT
"""POSIX access control lists: mode and list are two views of one thing, and new files inherit default lists."""

import errno
import os
import stat
import struct

import pytest
from helpers.commands import KERNEL, run
from helpers.files import attempt, fails_with, read_file, write_file

ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
NOBODY = 0xFFFFFFFF


def acl(*entries):
    """The kernel's form of a list of (tag, permissions[, id])."""
    packed = [struct.pack("<HHI", tag, perm, rest[0] if rest else NOBODY) for tag, perm, *rest in entries]
    return struct.pack("<I", 2) + b"".join(packed)


def mode(path):
    return stat.S_IMODE(os.stat(path).st_mode)


def new_file(mnt):
    write_file(mnt / "f", b"x")
    os.chmod(mnt / "f", 0o600)
    return mnt / "f"


@pytest.fixture
def lists(mnt):
    """The mount, if access control lists can be set there."""
    probe = mnt / "probe"
    probe.mkdir()
    try:
        os.setxattr(probe, DEFAULT, acl((USER_OBJ, 7), (GROUP_OBJ, 5), (OTHER, 5)))
    except OSError as error:
        assert error.errno == errno.EOPNOTSUPP, error
        pytest.skip("this filesystem refuses access control lists (EOPNOTSUPP)")
    probe.rmdir()
    return mnt


@pytest.fixture
def path(lists):
    return new_file(lists)


def test_list_is_either_refused_or_changes_the_mode(mnt):
    """What is stored but not honoured would be worse than nothing: cp -a trusts it to set the mode."""
    path = new_file(mnt)
    try:
        os.setxattr(path, ACCESS, acl((USER_OBJ, 7), (GROUP_OBJ, 5), (OTHER, 4)))
    except OSError as error:
        assert error.errno == errno.EOPNOTSUPP
        assert mode(path) == 0o600
    else:
        assert mode(path) == 0o754


def test_cp_and_setfacl_leave_the_right_modes(mnt):
    path = new_file(mnt)
    os.chmod(path, 0o754)
    run(["cp", "-a", path, mnt / "copy"])
    run(["cp", "-p", path, mnt / "copy2"])
    assert (mode(mnt / "copy"), mode(mnt / "copy2")) == (0o754, 0o754)


def test_list_that_says_no_more_than_a_mode_becomes_the_mode(path, remount):
    """What cp -a does to give a file its mode."""
    os.setxattr(path, ACCESS, acl((USER_OBJ, 7), (GROUP_OBJ, 5), (OTHER, 4)))
    assert mode(path) == 0o754
    assert ACCESS not in os.listxattr(path)
    remount()
    assert mode(path) == 0o754


def test_list_changes_the_mode_with_its_mask_as_group_bits(path, remount):
    entries = acl((USER_OBJ, 6), (USER, 6, 1234), (GROUP_OBJ, 0), (MASK, 6), (OTHER, 4))
    os.setxattr(path, ACCESS, entries)
    assert mode(path) == 0o664
    remount()
    assert mode(path) == 0o664
    assert os.getxattr(path, ACCESS) == entries


def test_chmod_changes_mask_and_entries_of_the_list(path, remount):
    os.setxattr(path, ACCESS, acl((USER_OBJ, 6), (USER, 6, 1234), (GROUP_OBJ, 4), (MASK, 6), (OTHER, 0)))
    os.chmod(path, 0o715)
    remount()
    assert mode(path) == 0o715
    assert os.getxattr(path, ACCESS) == acl((USER_OBJ, 7), (USER, 6, 1234), (GROUP_OBJ, 4), (MASK, 1), (OTHER, 5))


def test_removal_of_the_list_leaves_the_mode(path):
    os.setxattr(path, ACCESS, acl((USER_OBJ, 6), (USER, 6, 1234), (GROUP_OBJ, 4), (MASK, 4), (OTHER, 0)))
    os.removexattr(path, ACCESS)
    assert mode(path) == 0o640
    with fails_with(errno.ENODATA):
        os.getxattr(path, ACCESS)


def test_default_list_is_inherited_by_new_files_and_directories(lists, remount):
    """The mode asked for limits what is inherited; the umask does not count where there is a default list."""
    os.mkdir(lists / "d")
    default = acl((USER_OBJ, 7), (USER, 7, 1234), (GROUP_OBJ, 5), (MASK, 7), (OTHER, 0))
    os.setxattr(lists / "d", DEFAULT, default)
    old = os.umask(0o077)
    try:
        os.close(os.open(lists / "d/file", os.O_CREAT | os.O_WRONLY, 0o666))
        os.mkdir(lists / "d/sub", 0o777)
    finally:
        os.umask(old)
    remount()
    assert os.getxattr(lists / "d/sub", DEFAULT) == default
    assert os.getxattr(lists / "d/sub", ACCESS) == default
    assert mode(lists / "d/sub") == 0o770
    expected = acl((USER_OBJ, 6), (USER, 7, 1234), (GROUP_OBJ, 5), (MASK, 6), (OTHER, 0))
    assert os.getxattr(lists / "d/file", ACCESS) == expected
    assert mode(lists / "d/file") == 0o660
    with fails_with(errno.ENODATA):
        os.getxattr(lists / "d/file", DEFAULT)


def test_default_list_without_named_entries_gives_plain_modes(lists):
    os.mkdir(lists / "d")
    os.setxattr(lists / "d", DEFAULT, acl((USER_OBJ, 7), (GROUP_OBJ, 5), (OTHER, 1)))
    old = os.umask(0o077)
    try:
        os.close(os.open(lists / "d/file", os.O_CREAT | os.O_WRONLY, 0o666))
    finally:
        os.umask(old)
    assert mode(lists / "d/file") == 0o640
    assert ACCESS not in os.listxattr(lists / "d/file")


def test_setfacl_and_getfacl_agree(lists):
    os.mkdir(lists / "d", 0o750)
    run(["setfacl", "-m", "u:1234:rwx,g:4321:r,d:u:1234:rw", lists / "d"])
    shown = run(["getfacl", "-pcn", lists / "d"]).out.split()
    assert {"user:1234:rwx", "group:4321:r--", "mask::rwx", "default:user:1234:rw-"} <= set(shown)
    run(["setfacl", "-b", lists / "d"])
    assert run(["getfacl", "-pcn", lists / "d"]).out.split() == ["user::rwx", "group::r-x", "other::---"]


@pytest.mark.root
@pytest.mark.options("allow_other")
def test_kernel_lets_those_in_whom_the_list_names(lists):
    write_file(lists / "f", b"shared")
    os.chmod(lists / "f", 0o600)
    assert attempt(1234, "os.open(p, os.O_RDWR)", lists / "f") == "EACCES"
    os.setxattr(lists / "f", ACCESS, acl((USER_OBJ, 6), (USER, 6, 1234), (GROUP_OBJ, 0), (MASK, 6), (OTHER, 0)))
    assert attempt(1234, "os.open(p, os.O_RDWR)", lists / "f") == "OK"
    assert attempt(1235, "os.open(p, os.O_RDONLY)", lists / "f") == "EACCES"
    os.chmod(lists / "f", 0o640)
    assert attempt(1234, "os.open(p, os.O_RDWR)", lists / "f") == "EACCES"
    assert attempt(1234, "os.open(p, os.O_RDONLY)", lists / "f") == "OK"
    assert read_file(lists / "f") == b"shared"


def test_lists_that_are_not_there_are_removed_all_the_same(lists):
    path, directory = new_file(lists), lists / "d"
    directory.mkdir()
    for name in (ACCESS, DEFAULT):
        os.removexattr(directory, name)
        os.removexattr(path, name)
    if KERNEL >= (6, 2):  # before, the kernel itself refuses what is no list
        os.setxattr(directory, ACCESS, b"")
        os.setxattr(directory, DEFAULT, b"")
        os.setxattr(path, ACCESS, b"")
    os.setxattr(path, ACCESS, acl((USER_OBJ, 6), (USER, 7, 1234), (GROUP_OBJ, 4), (MASK, 7), (OTHER, 0)))
    os.removexattr(path, ACCESS)
    os.removexattr(path, ACCESS)
    assert os.listxattr(path) == []
    os.symlink("f", lists / "link")
    with fails_with(errno.EOPNOTSUPP):
        os.removexattr(lists / "link", ACCESS, follow_symlinks=False)
