# SPDX-License-Identifier: MIT
"""Extended attributes."""

import errno
import os

import pytest
from helpers.files import fails_with, pattern, write_file
from helpers.libc import lgetxattr_into, lgetxattr_size, llistxattr_into

KINDS = ["file", "dir"]


@pytest.fixture(params=KINDS)
def path(mnt, request):
    path = mnt / request.param
    if request.param == "dir":
        path.mkdir()
    else:
        write_file(path, b"content")
    return path


@pytest.mark.parametrize("size", [0, 1, 59, 100, 1000, 3000])
def test_attribute_of_any_bytes_reads_back_and_lasts(path, remount, size):
    os.setxattr(path, "user.a", pattern(size))
    assert os.getxattr(path, "user.a") == pattern(size)
    remount()
    assert os.getxattr(path, "user.a") == pattern(size)
    assert os.listxattr(path) == ["user.a"]


@pytest.mark.parametrize("size", [4096, 10_000, 65_535, 65_536])
def test_attributes_are_stored_up_to_64_kib(mount, size):
    write_file(mount.path / "f", b"")
    os.setxattr(mount.path / "f", "user.large", pattern(size))
    mount.remount()
    assert os.getxattr(mount.path / "f", "user.large") == pattern(size)
    os.setxattr(mount.path / "f", "user.large", b"small now")
    mount.remount()
    assert os.getxattr(mount.path / "f", "user.large") == b"small now"


def test_attribute_above_64_kib_is_refused_by_the_kernel(mnt):
    write_file(mnt / "f", b"")
    with fails_with(errno.E2BIG):
        os.setxattr(mnt / "f", "user.large", bytes(65_537))
    assert os.listxattr(mnt / "f") == []


def test_list_shows_each_attribute_once_and_remove_takes_it_away(path, remount):
    names = [f"user.name-{i}" for i in range(40)]
    for name in names:
        os.setxattr(path, name, name.encode())
    assert sorted(os.listxattr(path)) == sorted(names)
    for name in names[::2]:
        os.removexattr(path, name)
    remount()
    assert sorted(os.listxattr(path)) == sorted(names[1::2])
    for name in names[1::2]:
        assert os.getxattr(path, name) == name.encode()


def test_create_and_replace_flags_are_honoured(path):
    with fails_with(errno.ENODATA):
        os.setxattr(path, "user.a", b"1", os.XATTR_REPLACE)
    os.setxattr(path, "user.a", b"2", os.XATTR_CREATE)
    with fails_with(errno.EEXIST):
        os.setxattr(path, "user.a", b"3", os.XATTR_CREATE)
    assert os.getxattr(path, "user.a") == b"2"
    os.setxattr(path, "user.a", b"four", os.XATTR_REPLACE)
    assert os.getxattr(path, "user.a") == b"four"


def test_missing_attribute_is_enodata(path):
    with fails_with(errno.ENODATA):
        os.getxattr(path, "user.none")
    with fails_with(errno.ENODATA):
        os.removexattr(path, "user.none")


def test_buffers_of_every_size_get_size_data_or_erange(path):
    os.setxattr(path, "user.a", pattern(100))
    assert lgetxattr_size(path, "user.a") == 100
    assert lgetxattr_into(path, "user.a", 100) == 100
    assert lgetxattr_into(path, "user.a", 5000) == 100
    with fails_with(errno.ERANGE):
        lgetxattr_into(path, "user.a", 99)
    listed = llistxattr_into(path, 5000)
    assert listed >= len("user.a") + 1
    with fails_with(errno.ERANGE):
        llistxattr_into(path, listed - 1)


def test_names_up_to_255_bytes_work(path, remount):
    name = "user." + "n" * 250
    os.setxattr(path, name, b"v")
    remount()
    assert os.listxattr(path) == [name]
    with fails_with(errno.ERANGE):
        os.setxattr(path, name + "n", b"v")


def test_user_attributes_of_symlinks_and_fifos_are_refused(mnt):
    os.symlink("x", mnt / "link")
    os.mkfifo(mnt / "fifo")
    with fails_with(errno.EPERM):
        os.setxattr(mnt / "link", "user.a", b"", follow_symlinks=False)
    with fails_with(errno.EPERM):
        os.setxattr(mnt / "fifo", "user.a", b"")


def test_attributes_go_with_the_file_and_not_with_the_name(mnt, remount):
    write_file(mnt / "a", b"")
    os.setxattr(mnt / "a", "user.of", b"first")
    os.link(mnt / "a", mnt / "b")
    os.rename(mnt / "a", mnt / "c")
    write_file(mnt / "a", b"")
    remount()
    assert os.listxattr(mnt / "a") == []
    assert os.getxattr(mnt / "b", "user.of") == os.getxattr(mnt / "c", "user.of") == b"first"


@pytest.mark.root
def test_trusted_and_security_attributes_work_for_root(mnt, remount):
    write_file(mnt / "f", b"")
    os.setxattr(mnt / "f", "trusted.overlay.opaque", b"y")
    remount()
    assert os.getxattr(mnt / "f", "trusted.overlay.opaque") == b"y"
    assert "trusted.overlay.opaque" in os.listxattr(mnt / "f")
    os.removexattr(mnt / "f", "trusted.overlay.opaque")
    assert os.listxattr(mnt / "f") == []
