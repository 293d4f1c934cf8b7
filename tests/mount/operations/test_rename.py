# SPDX-License-Identifier: MIT
"""rename in all its forms."""

import errno
import os
import stat

import pytest
from helpers.files import fails_with, in_child, opened, read_file, write_file
from helpers.libc import RENAME_EXCHANGE, RENAME_NOREPLACE, RENAME_WHITEOUT, renameat2


@pytest.fixture
def d(mnt):
    """Directories a and b, with the files a/f and b/g."""
    for name in "ab":
        os.mkdir(mnt / name)
    write_file(mnt / "a" / "f", b"content of f")
    write_file(mnt / "b" / "g", b"content of g")
    return mnt


def test_rename_moves_a_file_within_and_between_directories(d, remount):
    ino = os.stat(d / "a/f").st_ino
    os.rename(d / "a/f", d / "a/f2")
    os.rename(d / "a/f2", d / "b/f3")
    assert os.listdir(d / "a") == []
    assert sorted(os.listdir(d / "b")) == ["f3", "g"]
    remount()
    assert os.stat(d / "b/f3").st_ino == ino
    assert read_file(d / "b/f3") == b"content of f"


def test_rename_over_a_file_replaces_it(d):
    os.rename(d / "a/f", d / "b/g")
    assert read_file(d / "b/g") == b"content of f"
    assert not (d / "a/f").exists()


def test_rename_over_open_file_keeps_data(d):
    with opened(d / "b/g", os.O_RDWR) as fd:
        os.rename(d / "a/f", d / "b/g")
        assert os.pread(fd, 100, 0) == b"content of g"
        assert os.pwrite(fd, b"CHANGED", 0) == 7
        assert os.pread(fd, 100, 0) == b"CHANGED of g"
        assert os.fstat(fd).st_nlink == 0
    assert read_file(d / "b/g") == b"content of f"


def test_rename_of_an_open_file_keeps_the_descriptor(d):
    with opened(d / "a/f", os.O_RDWR) as fd:
        os.rename(d / "a/f", d / "b/moved")
        os.pwrite(fd, b"written after", 0)
    assert read_file(d / "b/moved") == b"written after"


def test_rename_over_an_empty_directory_replaces_it(d):
    os.mkdir(d / "empty")
    links = os.stat(d).st_nlink
    os.rename(d / "a", d / "empty")
    assert read_file(d / "empty/f") == b"content of f"
    assert os.stat(d).st_nlink == links - 1


def test_rename_over_a_full_directory_is_enotempty(d):
    with fails_with(errno.ENOTEMPTY, errno.EEXIST):
        os.rename(d / "a", d / "b")
    assert read_file(d / "b/g") == b"content of g"


def test_rename_between_kinds_fails(d):
    with fails_with(errno.EISDIR):
        os.rename(d / "a/f", d / "b")
    with fails_with(errno.ENOTDIR):
        os.rename(d / "b", d / "a/f")


def test_rename_of_a_directory_into_its_own_child_is_einval(d):
    os.makedirs(d / "a/x/y")
    for target in ("a/new", "a/x/new", "a/x/y/new"):
        with fails_with(errno.EINVAL):
            os.rename(d / "a", d / target)
    with fails_with(errno.ENOTEMPTY, errno.EEXIST):
        os.rename(d / "a/x", d / "a")


def test_rename_of_a_directory_changes_dotdot_and_link_counts(d, remount):
    os.mkdir(d / "a/sub")
    write_file(d / "a/sub/deep", b"deep")
    a, b = os.stat(d / "a").st_nlink, os.stat(d / "b").st_nlink
    with opened(d / "a/sub", os.O_RDONLY) as fd:
        os.rename(d / "a/sub", d / "b/sub")
        assert os.stat("..", dir_fd=fd).st_ino == os.stat(d / "b").st_ino
    assert (os.stat(d / "a").st_nlink, os.stat(d / "b").st_nlink) == (a - 1, b + 1)
    remount()
    assert os.stat(d / "b/sub/..").st_ino == os.stat(d / "b").st_ino
    assert read_file(d / "b/sub/deep") == b"deep"


def test_rename_of_a_name_onto_itself_or_its_hard_link_does_nothing(d):
    os.rename(d / "a/f", d / "a/f")
    os.link(d / "a/f", d / "a/same")
    os.rename(d / "a/f", d / "a/same")
    assert sorted(os.listdir(d / "a")) == ["f", "same"]
    assert os.stat(d / "a/f").st_nlink == 2


def test_rename_of_a_missing_name_is_enoent(d):
    with fails_with(errno.ENOENT):
        os.rename(d / "a/none", d / "a/new")
    with fails_with(errno.ENOENT):
        os.rename(d / "a/f", d / "none/new")


def test_rename_over_one_of_two_links_leaves_the_other(d):
    os.link(d / "b/g", d / "b/other")
    os.rename(d / "a/f", d / "b/g")
    assert read_file(d / "b/other") == b"content of g"
    assert os.stat(d / "b/other").st_nlink == 1


def test_rename_without_replacing_refuses_an_existing_name(d):
    with fails_with(errno.EEXIST):
        renameat2(d / "a/f", d / "b/g", RENAME_NOREPLACE)
    renameat2(d / "a/f", d / "b/new", RENAME_NOREPLACE)
    assert read_file(d / "b/new") == b"content of f"
    assert read_file(d / "b/g") == b"content of g"


def test_rename_exchange_swaps_files_and_directories(d, remount):
    renameat2(d / "a/f", d / "b/g", RENAME_EXCHANGE)
    assert (read_file(d / "a/f"), read_file(d / "b/g")) == (b"content of g", b"content of f")
    os.mkdir(d / "a/sub")
    os.mkdir(d / "a/sub/inner")
    renameat2(d / "a/sub", d / "b/g", RENAME_EXCHANGE)
    remount()
    assert read_file(d / "a/sub") == b"content of f"
    assert os.listdir(d / "b/g") == ["inner"]
    assert (os.stat(d / "a").st_nlink, os.stat(d / "b").st_nlink) == (2, 3)
    assert os.stat(d / "b/g/..").st_ino == os.stat(d / "b").st_ino
    with fails_with(errno.ENOENT):
        renameat2(d / "a/f", d / "b/none", RENAME_EXCHANGE)


def assert_whiteout(path):
    info = os.lstat(path)
    assert (info.st_mode, info.st_rdev, info.st_nlink) == (stat.S_IFCHR, 0, 1)


@pytest.mark.root
@pytest.mark.parametrize("flags", [RENAME_WHITEOUT, RENAME_WHITEOUT | RENAME_NOREPLACE])
def test_rename_with_whiteout_leaves_a_device_at_the_old_name(d, remount, flags):
    os.mkdir(d / "a/sub")
    renameat2(d / "a/f", d / "b/new", flags)
    renameat2(d / "b/new", d / "b/newer", flags)
    renameat2(d / "a/sub", d / "b/sub", flags)
    for check in range(2):
        for name in ("a/f", "a/sub", "b/new"):
            assert_whiteout(d / name)
        assert read_file(d / "b/newer") == b"content of f"
        assert sorted(os.listdir(d / "b")) == ["g", "new", "newer", "sub"]
        assert (os.stat(d / "a").st_nlink, os.stat(d / "b").st_nlink) == (2, 3)
        if check == 0:
            remount()
    os.unlink(d / "a/f")
    os.rename(d / "b/newer", d / "a/f")
    assert read_file(d / "a/f") == b"content of f"


@pytest.mark.root
def test_rename_with_whiteout_replaces_and_refuses_as_without(d):
    with fails_with(errno.EEXIST):
        renameat2(d / "a/f", d / "b/g", RENAME_WHITEOUT | RENAME_NOREPLACE)
    with fails_with(errno.EINVAL):
        renameat2(d / "a/f", d / "b/g", RENAME_WHITEOUT | RENAME_EXCHANGE)
    with fails_with(errno.ENOENT):
        renameat2(d / "a/none", d / "b/x", RENAME_WHITEOUT)
    with fails_with(errno.ENOTEMPTY, errno.EEXIST):
        renameat2(d / "a", d / "b", RENAME_WHITEOUT)
    assert os.listdir(d / "a") == ["f"]
    renameat2(d / "a/f", d / "b/g", RENAME_WHITEOUT)
    assert_whiteout(d / "a/f")
    assert read_file(d / "b/g") == b"content of f"


@pytest.mark.root
@pytest.mark.image(size="1M")
def test_rename_with_whiteout_on_a_full_image_is_enospc_or_whole(mount, d):
    assert mount.path == d
    with fails_with(errno.ENOSPC):
        for i in range(100_000):
            write_file(d / f"fill-{i:050}", b"x" * 1000)
    done = None
    with fails_with(errno.ENOSPC):
        for i in range(10_000):
            renameat2(d / f"fill-{i:050}", d / f"b/moved-{i:050}", RENAME_WHITEOUT)
            done = i
    last = 0 if done is None else done + 1
    assert read_file(d / f"fill-{last:050}") == b"x" * 1000
    assert not (d / f"b/moved-{last:050}").exists()
    for i in range(last):
        assert_whiteout(d / f"fill-{i:050}")
    for name in os.listdir(d):
        if name.startswith("fill-"):
            os.unlink(d / name)
    renameat2(d / "a/f", d / "b/new", RENAME_WHITEOUT)


def test_readers_of_a_replaced_name_see_either_file_whole(d):
    """The way editors save: each read must find one of the versions, never nothing and never a mixture."""
    with in_child(_read_versions, d / "b/g"):
        for i in range(150):
            write_file(d / "b/new", bytes([i % 250]) * 5000)
            os.rename(d / "b/new", d / "b/g")


def _read_versions(path):
    for _ in range(2000):
        data = read_file(path)
        assert data == b"content of g" or data == data[:1] * 5000, data[:100]
