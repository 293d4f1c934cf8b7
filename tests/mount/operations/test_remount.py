# SPDX-License-Identifier: MIT
"""What is in the filesystem survives an unmount and a mount, unchanged; a read-only mount changes nothing."""

import errno
import hashlib
import os

import pytest
from helpers.files import fails_with, opened, pattern, read_file, write_file
from helpers.mounts import mount_entry
from helpers.trees import describe, differences, make_sample


def test_whole_tree_is_the_same_after_remounts(mount):
    for i in range(3):
        os.mkdir(mount.path / f"copy-{i}")
        make_sample(mount.path / f"copy-{i}")
    before = describe(mount.path, times=True)
    for _ in range(3):
        mount.remount()
        assert differences(before, describe(mount.path, times=True)) == []


def test_read_only_mount_shows_all_and_changes_not_a_byte(mount):
    make_sample(mount.path)
    before = describe(mount.path, times=True)
    mount.stop()
    digest = hashlib.sha256(mount.image.read_bytes()).digest()
    mount.options = "ro"
    mount.start()
    assert "ro" in mount_entry(mount.path)[2].split(",")
    assert differences(before, describe(mount.path, times=True)) == []
    for call in (
        lambda: write_file(mount.path / "new", b""),
        lambda: os.mkdir(mount.path / "new"),
        lambda: os.unlink(mount.path / "dir/small"),
        lambda: os.rename(mount.path / "dir", mount.path / "dir2"),
        lambda: os.chmod(mount.path / "dir", 0o777),
        lambda: os.truncate(mount.path / "dir/small", 0),
        lambda: os.setxattr(mount.path / "dir/small", "user.b", b""),
    ):
        with fails_with(errno.EROFS):
            call()
    mount.stop()
    assert hashlib.sha256(mount.image.read_bytes()).digest() == digest


def test_mount_table_shows_the_image_and_the_type(mount):
    fstype, source, options = mount_entry(mount.path)
    assert fstype == "fuse.mapfs"
    assert source == os.path.realpath(mount.image)
    assert "rw" in options.split(",")


def test_image_named_by_a_relative_path_is_shown_by_its_absolute_one(build, image, new_mount):
    mount = new_mount(image)
    build.run("mapfs", "mount", image.name, "mnt", cwd=image.parent)
    assert mount_entry(mount.path)[1] == os.path.realpath(image)
    build.run("mapfs", "umount", "mnt", cwd=image.parent)
    assert not mount.is_mounted


@pytest.mark.parametrize("name", ["with space", "new\nline", "comma,and=sign", "back\\slash", "ü"])
def test_image_and_mount_point_may_have_odd_names(build, work, new_mount, name):
    image = work / f"{name}.img"
    build.mkfs(image, size="64M")
    mount = new_mount(image, name=name).start()
    write_file(mount.path / "f", b"x")
    mount.remount()
    assert read_file(mount.path / "f") == b"x"


def test_two_images_are_mounted_side_by_side(build, work, new_mount):
    mounts = []
    for n in (1, 2):
        build.mkfs(work / f"image-{n}", size="64M")
        mounts.append(new_mount(work / f"image-{n}", name=f"mnt-{n}").start())
        write_file(mounts[-1].path / "f", b"%d" % n)
    assert [read_file(m.path / "f") for m in mounts] == [b"1", b"2"]
    mounts[0].remount()
    assert [read_file(m.path / "f") for m in mounts] == [b"1", b"2"]


def test_image_larger_than_any_disk_is_mounted_quickly(build, work, new_mount):
    build.mkfs(work / "huge", size="1T")
    mount = new_mount(work / "huge").start()
    write_file(mount.path / "f", pattern(100_000))
    mount.remount()
    assert read_file(mount.path / "f") == pattern(100_000)
    info = os.statvfs(mount.path)
    assert 0.9 * (1 << 40) < info.f_blocks * info.f_frsize <= 1 << 40


def test_image_can_be_moved_and_copied_while_unmounted(build, mount, work, new_mount):
    make_sample(mount.path)
    before = describe(mount.path, times=True)
    mount.stop()
    copy = work / "copy"
    with opened(mount.image, os.O_RDONLY) as source:
        copy.write_bytes(os.pread(source, os.fstat(source).st_size, 0))
    other = new_mount(copy, name="mnt-copy").start()
    assert differences(before, describe(other.path, times=True)) == []
