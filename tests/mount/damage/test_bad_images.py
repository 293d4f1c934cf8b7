# SPDX-License-Identifier: MIT
"""What is not a sound image is refused with a clear error, by every command, and never crashes one."""

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
from helpers.commands import run
from helpers.files import fails_with, read_file, write_file
from helpers.superblock import BLOCK, index_node, patch, read_slots
from helpers.trees import describe, differences, make_sample

README = Path(__file__).resolve().parents[3] / "README.md"


def _zero(path):
    write_file(path, bytes(1 << 20))


def _missing(path):
    del path


def _ext4(path):
    write_file(path, b"")
    os.truncate(path, 4 << 20)
    run(["mkfs.ext4", "-q", "-F", path])


FOREIGN = {
    "missing": _missing,
    "empty": lambda p: write_file(p, b""),
    "one byte": lambda p: write_file(p, b"m"),
    "zeros": _zero,
    "an ext4 filesystem": _ext4,
    "text": lambda p: write_file(p, b"This is no filesystem.\n" * 500),
    "a png": lambda p: write_file(p, b"\x89PNG\r\n\x1a\n" + os.urandom(60_000)),
    "noise": lambda p: write_file(p, os.urandom(2 << 20)),
    "a directory": lambda p: os.mkdir(p),
    "a fifo": lambda p: os.mkfifo(p),
    "a socket's absence behind a symlink": lambda p: os.symlink("nowhere", p),
}


def _one_clear_error(result, *words):
    lines = result.err.strip().splitlines()
    assert 1 <= len(lines) <= 2, f"not one clear line:\n{result}"
    for word in words:
        assert str(word) in result.err, f"the error does not name {word}:\n{result}"


@pytest.mark.parametrize("kind", FOREIGN)
def test_mount_of_what_is_no_image_fails_with_one_line_that_names_it(build, work, new_mount, kind):
    path = work / "victim"
    FOREIGN[kind](path)
    mount = new_mount(path)
    mount.expect_trouble = True
    result = mount.try_start(timeout=15)
    assert result.status != 0, f"{kind} was mounted"
    assert not mount.is_mounted
    _one_clear_error(result, path)


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("command", ["fsck", "info"])
def test_other_commands_refuse_what_is_no_image(build, work, kind, command):
    path = work / "victim"
    FOREIGN[kind](path)
    argv = ["fsck.mapfs", "-n", path] if command == "fsck" else ["mapfs", "info", path]
    result = build.run(*argv, check=False, timeout=15)
    assert result.status != 0
    if command == "fsck":
        assert result.status & ~(4 | 8 | 16) == 0, f"the exit status is not one of fsck(8):\n{result}"
    assert str(path) in result.err + result.out


@pytest.mark.parametrize("kind", FOREIGN)
def test_dump_of_what_is_no_image_says_so(build, work, kind):
    """A developer's tool looks at the worst: it may go on, but has to say what it sees."""
    path = work / "victim"
    FOREIGN[kind](path)
    result = build.run("mapfs", "dump", path, check=False, timeout=15)
    assert result.status != 0 or "foreign" in result.out or "empty" in result.out, result


@pytest.mark.parametrize("left", [4095, 4096, 8192, 100_000, 1 << 20, (64 << 20) - 4096, (64 << 20) - 1])
def test_truncated_image_is_refused_or_gives_errors_but_does_no_harm(build, work, new_mount, left):
    image = work / "image"
    build.mkfs(image, size="64M")
    os.truncate(image, left)
    mount = new_mount(image)
    mount.expect_trouble = True
    result = mount.try_start(timeout=15)
    assert result.status != 0, "an image shorter than its superblock says was mounted for writing"
    _one_clear_error(result, image)
    assert build.run("fsck.mapfs", "-n", image, check=False).status & (4 | 8)
    assert os.path.getsize(image) == left


@pytest.mark.image(size="64M")
def test_wrong_format_version_is_refused_by_its_number(build, image, new_mount):
    patch(image, version=77)
    mount = new_mount(image)
    mount.expect_trouble = True
    result = mount.try_start()
    assert result.status != 0
    _one_clear_error(result, image, "77")
    assert build.run("fsck.mapfs", "-n", image, check=False).status & (4 | 8)


@pytest.mark.image(size="64M")
def test_wrong_block_size_is_refused_by_its_number(image, new_mount):
    patch(image, block_size=65_536)
    mount = new_mount(image)
    mount.expect_trouble = True
    result = mount.try_start()
    assert result.status != 0
    _one_clear_error(result, image, "65536")


@pytest.mark.image(size="64M")
def test_unknown_incompatible_feature_is_refused(image, new_mount):
    patch(image, feature_incompat=1 << 40)
    mount = new_mount(image)
    mount.expect_trouble = True
    for options in ("", "ro"):
        mount.options = options
        result = mount.try_start()
        assert result.status != 0
        _one_clear_error(result, image, "feature")


@pytest.mark.parametrize("fields", [{"version": 77}, {"feature_incompat": 1 << 40}], ids=["version", "feature"])
@pytest.mark.parametrize("which", [0, 1], ids=["older", "newest"])
def test_one_slot_of_a_newer_program_is_refused_by_all_although_the_other_is_valid(build, image, mount, fields, which):
    write_file(mount.path / "f", b"x")
    mount.stop()
    mount.expect_trouble = True
    slots = sorted(read_slots(image).items(), key=lambda item: item[1]["generation"])
    assert len(slots) == 2
    patch(image, only=slots[which][0], **fields)
    refused = mount.try_start().err
    reason = refused.partition(": ")[2]
    assert str(image) in reason and ("77" in reason or "0x10000000000" in reason)
    for argv in (["mapfs", "info", image], ["fsck.mapfs", "-n", image]):
        result = build.run(*argv, check=False)
        assert result.status in (1, 8) and result.out == ""
        assert result.err.partition(": ")[2] == reason
    assert build.run("mapfs", "dump", image, check=False).status == 1


@pytest.mark.image(size="64M")
def test_unknown_ro_compat_feature_allows_reading_alone(build, image, new_mount):
    patch(image, feature_ro_compat=1 << 40)
    mount = new_mount(image)
    mount.expect_trouble = True
    result = mount.try_start()
    assert result.status != 0
    named = "(superblock: has features that this version can only read (ro_compat 0x10000000000))"
    _one_clear_error(result, image, named)
    checked = build.run("fsck.mapfs", "-n", image, check=False)
    assert checked.status == 8
    _one_clear_error(checked, image, named)
    mount.options = "ro"
    mount.start()
    assert os.listdir(mount.path) in ([], ["lost+found"])
    mount.stop()


@pytest.mark.image(size="64M")
def test_unknown_compat_feature_is_ignored(image, new_mount):
    patch(image, feature_compat=1 << 40)
    mount = new_mount(image).start()
    write_file(mount.path / "f", b"x")
    mount.remount()
    assert read_file(mount.path / "f") == b"x"
    assert all(s["feature_compat"] == 1 << 40 for s in read_slots(image).values())


@pytest.mark.parametrize(
    "fields",
    [
        {"n_blocks": 1 << 60},
        {"n_blocks": 0},
        {"log_start": 1 << 50},
        {"log_start": 0},
        {"log_blocks": (1 << 64) - 1},
        {"root_address": 1 << 47},
        {"root_address": 1},
        {"generation": 0},
        {"next_ino": 0},
    ],
    ids=str,
)
@pytest.mark.image(size="64M")
def test_superblock_with_impossible_numbers_is_refused(build, image, new_mount, fields):
    patch(image, **fields)
    mount = new_mount(image)
    mount.expect_trouble = True
    result = mount.try_start(timeout=15)
    assert result.status != 0
    _one_clear_error(result, image)
    assert build.run("fsck.mapfs", "-n", image, check=False, timeout=15).status & (4 | 8)


def test_one_broken_superblock_slot_is_no_loss(mount):
    """The other slot holds the state before: at most the last checkpoint is gone, never the filesystem."""
    make_sample(mount.path)
    mount.stop()
    mount.start()
    write_file(mount.path / "later", b"x")
    before = describe(mount.path)
    mount.stop()
    mount.expect_trouble = True  # the checker may name the broken slot
    newest = max(read_slots(mount.image).items(), key=lambda item: item[1]["generation"])[0]
    with open(mount.image, "r+b") as f:
        f.seek(newest * 4096 + 1000)
        f.write(b"broken")
    mount.start()
    after = describe(mount.path)
    assert [
        line for line in differences(before, after) if b"later" not in line.encode() and not line.startswith("b'':")
    ] == []
    mount.stop()


def test_both_superblock_slots_broken_is_refused(build, image, new_mount):
    with open(image, "r+b") as f:
        for slot in (0, 1):
            f.seek(slot * 4096 + 1000)
            f.write(b"broken")
    mount = new_mount(image)
    mount.expect_trouble = True
    result = mount.try_start()
    assert result.status != 0
    _one_clear_error(result, image)
    assert build.run("fsck.mapfs", "-n", image, check=False).status & (4 | 8)


def test_image_file_without_write_permission_can_be_mounted_read_only_by_a_user(user_mount, user):
    mount = user_mount
    mount.stop()
    os.chmod(mount.image, 0o444)
    if os.geteuid() == 0:
        os.chown(mount.image, 0, 0)
    result = mount.try_start()
    assert result.status != 0, "an image that its user may not write was mounted for writing"
    _one_clear_error(result, mount.image)
    mount.options = "ro"
    mount.start()
    assert mount.build.run("mapfs", "info", mount.path, uid=user).status == 0
    mount.stop()


@pytest.mark.root
def test_image_on_a_read_only_filesystem_can_be_mounted_read_only(build, work, new_mount):
    host = work / "host"
    host.mkdir()
    run(["mount", "-t", "tmpfs", "tmpfs", host])
    try:
        build.mkfs(host / "image", size="64M")
        run(["mount", "-o", "remount,ro", host])
        mount = new_mount(host / "image")
        result = mount.try_start()
        assert result.status != 0
        _one_clear_error(result, mount.image)
        mount.options = "ro"
        mount.start()
        assert os.statvfs(mount.path).f_blocks > 0
        mount.stop()
        mount.finish()
        mount.expect_trouble = True
    finally:
        run(["umount", host])


def test_missing_mount_point_and_one_that_is_no_directory_are_named(build, image, work):
    write_file(work / "file", b"")
    for point in (work / "none", work / "file"):
        result = build.run("mapfs", "mount", image, point, check=False)
        assert result.status != 0
        _one_clear_error(result, point)


@pytest.mark.parametrize("option", ["frobnicate", "commit=soon", "view=sideways", "huge=3M", "offset=-4096"])
def test_bad_mount_option_is_named(build, image, new_mount, option):
    mount = new_mount(image, options=f"nodev,{option}")
    result = mount.try_start()
    assert result.status != 0
    assert not mount.is_mounted
    _one_clear_error(result, option.split("=")[0])


def test_generic_mount_options_are_accepted(image, new_mount):
    mount = new_mount(image, options="rw,nosuid,nodev,noexec,noatime,_netdev,nofail,x-systemd.automount,lazytime,sync")
    mount.start()
    write_file(mount.path / "script", b"#!/bin/sh\n", 0o755)
    assert run(["sh", "-c", f"'{mount.path}/script'"], check=False).status == 126


@pytest.mark.parametrize("option", ["populate", "lock=all", "huge=2M", "io_uring=on", "size=1G", "private_limit=1M"])
def test_option_of_a_feature_that_is_not_there_is_refused_and_a_limit_in_the_readme(build, image, work, option):
    result = build.run("mapfs", "mount", "-o", option, image, work, check=False)
    assert result.status == 2
    _one_clear_error(result, option, "this version of mapfs does not have it")
    limits = README.read_text().split("## Limits")[1]
    name = option if option == "io_uring=on" else option.partition("=")[0]
    assert f"`{name}" in limits


@pytest.mark.image(size="16M")
def test_options_for_the_threads_of_libfuse_are_accepted(image, new_mount):
    mount = new_mount(image, options="clone_fd,max_idle_threads=4,max_threads=16").start()
    write_file(mount.path / "f", b"x")
    assert read_file(mount.path / "f") == b"x"


def test_too_few_and_too_many_arguments_are_usage_errors(build, image, work):
    for argv in (
        ["mount"],
        ["mount", image],
        ["mount", image, work, "more"],
        ["umount"],
        ["sync"],
        ["info"],
        ["nonsense"],
        [],
    ):
        result = build.run("mapfs", *argv, check=False)
        assert result.status != 0
        assert result.err.strip(), f"nothing on stderr:\n{result}"
    for program in ("mkfs.mapfs", "fsck.mapfs"):
        assert build.run(program, check=False).status != 0
        assert build.run(program, "--frobnicate", image, check=False).status != 0


def test_damaged_images_do_not_hurt_info_and_dump(build, image, work):
    for at in (0, 8, 16, 500, 4096, 8192, 100_000):
        copy = work / "copy"
        shutil.copy(image, copy)
        with open(copy, "r+b") as f:
            f.seek(at)
            f.write(os.urandom(64))
        for command in ("info", "dump"):
            build.run("mapfs", command, copy, check=False, timeout=15)


def test_tree_with_more_ways_than_nodes_is_no_endless_work(build, work):
    image = work / "image"
    build.run("mkfs.mapfs", "-s", "1T", image)
    slots = read_slots(image)
    newest = max(slots.values(), key=lambda slot: slot["generation"])
    # Eleven levels of nodes that have a hundred pointers to the same child each: 100^11 ways to one leaf.
    child, place = newest["root_address"], 100_000
    with open(image, "r+b") as f:
        for level in range(newest["root_level"] + 1, 12):
            f.seek(place * BLOCK)
            f.write(index_node(place, level, child, newest))
            child, place = place, place + 1
    patch(image, root_address=child, root_level=11)
    dump = build.run("mapfs", "dump", image, "tree", check=False, timeout=60)
    assert dump.status != 0
    assert "another pointer led here before" in dump.out
    inode = build.run("mapfs", "dump", image, "inode", "1", check=False, timeout=60)
    assert inode.status in (0, 1)
    checked = build.run("fsck.mapfs", "-n", image, check=False, timeout=60)
    assert checked.status == 4
    assert "in use by something else" in checked.out
    repaired = build.run("fsck.mapfs", "-y", image, check=False, timeout=60)
    assert repaired.status in (1, 4)
    assert build.run("fsck.mapfs", "-n", image, check=False).status == (0 if repaired.status == 1 else 4)


def test_mount_that_met_damage_refuses_changes_and_says_so(build, image, new_mount):
    mount = new_mount(image).start()
    mount.expect_trouble = True
    (mount.path / "d").mkdir()
    for n in range(400):
        write_file(mount.path / f"d/name-{n:0100d}", b"x")
    mount.stop()
    data = bytearray(image.read_bytes())
    for start in range(0, len(data), BLOCK):
        node = data[start : start + BLOCK]
        n_items = int.from_bytes(node[6:8], "little")
        # A leaf of directory entries (5) alone: the mount itself reads others.
        if node[:5] == b"MAPN\0" and set(node[64 + 16 : 64 + 24 * n_items : 24]) == {5}:
            data[start + 100] ^= 1
    image.write_bytes(data)
    mount.start()
    assert "error" not in json.loads(build.run("mapfs", "info", "--json", mount.path).out)
    with fails_with(errno.EIO):
        os.listdir(mount.path / "d")
    with fails_with(errno.EROFS):
        write_file(mount.path / "new", b"x")
    assert "fsck.mapfs" in json.loads(build.run("mapfs", "info", "--json", mount.path).out)["error"]


def test_names_that_the_checker_prints_are_no_commands_for_a_terminal(build, image, new_mount):
    mount = new_mount(image).start()
    write_file(mount.path / "red \x1b[31m\n", b"x")
    mount.stop()
    # Another key of the hash: every name lies where it does not belong.
    patch(image, hash_seed=1)
    for option in ("-n", "-y"):
        checked = build.run("fsck.mapfs", option, image, check=False)
        assert "red \\033[31m\\012" in checked.out
        assert "\x1b" not in checked.out
