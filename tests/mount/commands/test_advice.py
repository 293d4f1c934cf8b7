# SPDX-License-Identifier: MIT
"""Messages after which somebody types the next command: they must not lead to one that destroys something."""

import json
import os
import re
import resource
import subprocess
from pathlib import Path

import pytest
from helpers.commands import run
from helpers.files import write_file
from helpers.mounts import is_running, wait_for

MIB = 1 << 20


def _refused(result, *wanted, without=()):
    assert result.status != 0, result
    for part in wanted:
        assert str(part) in result.err, f"'{part}' is not told:\n{result}"
    text = re.sub(r"mapfs-test-\w+", "", result.err)
    for part in without:
        assert part not in text, f"'{part}' is told:\n{result}"


def _refused_by_all(build, path, point, *wanted, offset=None, without=()):
    options = ["-o", f"offset={offset}"] if offset else []
    _refused(build.run("mapfs", "mount", *options, path, point, check=False), path, *wanted, without=without)
    options = ["--offset", offset] if offset else []
    for command in ("info", "fsck"):
        _refused(build.run("mapfs", command, *options, path, check=False), path, *wanted, without=without)


@pytest.fixture
def point(work):
    path = work / "point"
    path.mkdir()
    return path


def test_forgotten_offset_does_not_lead_to_mkfs(build, work, point):
    disk = work / "disk"
    build.run("mkfs.mapfs", "-s", "4M", "--offset", "8M", disk)
    _refused_by_all(build, disk, point, "byte 0", "zeros", "offset=", without=["mkfs"])
    _refused_by_all(build, disk, point, "byte 1048576", "offset=", offset="1M", without=["mkfs"])
    write_file(disk, b"not zeros" * MIB)
    _refused_by_all(build, disk, point, "not a mapfs image", "offset=", without=["mkfs"])
    _refused_by_all(build, disk, point, "not a mapfs image", offset="1M", without=["mkfs", "offset="])


@pytest.mark.parametrize("offset", [MIB - 4096, MIB + 4096])
def test_offset_that_is_a_block_off_shows_no_image_and_lets_nothing_be_repaired(build, work, point, new_mount, offset):
    disk = work / "disk"
    build.run("mkfs.mapfs", "-s", "4M", "--offset", "1M", disk)
    mount = new_mount(disk, options="offset=1M").start()
    write_file(mount.path / "f", b"x")
    mount.stop()
    mount.expect_trouble = True
    before = disk.read_bytes()
    wanted = ("other slot: is the offset right?", f"begin at byte {MIB}")
    _refused(build.run("mapfs", "mount", "-o", f"offset={offset}", disk, point, check=False), disk, *wanted)
    _refused(build.run("mapfs", "info", "--offset", str(offset), disk, check=False), disk, *wanted)
    shown = build.run("mapfs", "dump", "--offset", str(offset), disk, check=False)
    assert shown.status == 1 and "other slot: is the offset right?" in shown.out and "in use" not in shown.out
    _refused(build.run("mapfs", "dump", "--offset", str(offset), disk, "tree", check=False), disk, wanted[0])
    for option in ("-n", "-p", "-y"):
        checked = build.run("fsck.mapfs", option, "--offset", str(offset), disk, check=False)
        assert checked.status == 4 and "problem 2: " in checked.out
        last = checked.out.splitlines()[-1]
        assert "nothing was changed" in last and "is the offset right?" in last
    assert disk.read_bytes() == before
    build.fsck(disk, "--offset", "1M")


def test_offset_past_the_end_is_told_with_the_end(build, work, point):
    disk = work / "disk"
    build.mkfs(disk, size="4M")
    for offset in ("10G", "4M"):
        _refused_by_all(build, disk, point, "past its end", "4 MiB", offset=offset, without=["mkfs", "empty"])


@pytest.mark.parametrize("length", [1, 4096, 8191])
def test_file_that_is_too_short_is_told_with_its_length(build, work, point, length):
    write_file(work / "short", b"m" * length)
    argv = ["mount", work / "short", point]
    # From 4096 bytes on the others look at what there is of a superblock.
    for argv in [argv] if length >= 4096 else [argv, ["info", work / "short"], ["fsck", work / "short"]]:
        _refused(build.run("mapfs", *argv, check=False), f"{length} bytes", "too short", without=["mkfs"])


def test_empty_file_is_told_who_fills_it(build, work, point):
    write_file(work / "empty", b"")
    _refused_by_all(build, work / "empty", point, "empty", "mkfs.mapfs")


@pytest.fixture
def cut(build, work):
    """A copy of an image that has come to an end too early."""
    path = work / "cut"
    build.mkfs(path, size="64M")
    os.truncate(path, 10 * MIB)
    return path


@pytest.mark.parametrize("option", ["-n", "-p"])
def test_checker_of_a_cut_image_leads_to_a_new_copy_or_its_length(build, cut, option):
    checked = build.run("fsck.mapfs", option, cut, check=False)
    assert checked.status == 4
    last = checked.out.splitlines()[-1]
    assert "54 MiB of 64 MiB are missing" in last and "-y gives up" in last and "1 problem found" in checked.out
    run(["sh", "-euc", re.search(r"truncate -s \d+ [^)]*", last).group()])
    build.fsck(cut)


def test_info_tells_that_an_image_is_cut(build, cut):
    assert re.search(r"^Truncated.*: +54 MiB$", build.run("mapfs", "info", cut).out, re.MULTILINE)
    assert json.loads(build.run("mapfs", "info", "--json", cut).out)["missing_bytes"] == 54 * MIB
    os.truncate(cut, 64 * MIB)
    assert "Truncated" not in build.run("mapfs", "info", cut).out
    assert "missing_bytes" not in json.loads(build.run("mapfs", "info", "--json", cut).out)


def _break_superblock(image, slot):
    with open(image, "r+b") as f:
        f.seek(slot * 4096 + 1000)
        f.write(b"broken")


def test_without_superblocks_repair_is_promised_where_it_can_be(build, image, new_mount):
    mount = new_mount(image).start()
    write_file(mount.path / "kept", b"kept")
    mount.stop()
    for slot in (0, 1):
        _break_superblock(image, slot)
    checked = build.run("fsck.mapfs", "-n", image, check=False)
    assert checked.status == 4 and "-y repairs" in checked.out
    assert build.run("fsck.mapfs", "-p", image, check=False).status == 4
    assert build.run("fsck.mapfs", "-y", image, check=False).status == 1
    build.fsck(image)
    assert (mount.start().path / "kept").read_bytes() == b"kept"
    mount.stop()
    mount.expect_trouble = True
    with open(image, "r+b") as f:
        for slot in (0, 1):
            f.seek(slot * 4096 + 100)
            f.write(bytes(400))
    before = image.read_bytes()
    checked = build.run("fsck.mapfs", "-n", image, check=False)
    assert checked.status == 4
    assert " -y" not in checked.out and "too little is left" in checked.out and "copy" in checked.out
    assert build.run("fsck.mapfs", "-y", image, check=False).status == 4
    assert image.read_bytes() == before


def test_dump_of_superblocks_fails_when_one_is_damaged_or_none_is_there(build, image, mount, work):
    mount.stop()
    assert build.run("mapfs", "dump", image).status == 0
    mount.start()
    write_file(mount.path / "f", b"x")
    mount.stop()
    assert build.run("mapfs", "dump", image).status == 0
    copy = work / "copy"
    for slots in ([0], [1], [0, 1]):
        run(["cp", "--sparse=always", image, copy])
        for slot in slots:
            _break_superblock(copy, slot)
        shown = build.run("mapfs", "dump", copy, check=False)
        assert shown.status == 1 and shown.out.count("damaged") == len(slots)
    write_file(work / "zeros", bytes(MIB))
    assert build.run("mapfs", "dump", work / "zeros", check=False).status == 1


def test_dump_of_a_fresh_image_is_no_failure(build, image):
    assert "slot 0: empty" in build.run("mapfs", "dump", image).out


def test_image_in_use_is_told_with_the_command_that_frees_it(build, image, mount, work, point):
    expected = f"it is mounted at {mount.path} (daemon {mount.pid}); first: mapfs umount {mount.path}"
    for argv in (["mount", image, point], ["fsck", image], ["mkfs", "-f", image]):
        _refused(build.run("mapfs", *argv, check=False), image, expected)
    assert "first:" not in build.run("mapfs", "info", image).out


def test_image_in_use_under_another_name_is_told_with_its_mount(build, image, mount, work, point):
    expected = f"busy: it is mounted at {mount.path} (daemon {mount.pid}); first: mapfs umount {mount.path}"
    os.link(image, work / "link")
    os.rename(image, work / "moved")
    # What has the name now is another image, and mounted, too.
    build.mkfs(image, size="16M")
    build.run("mapfs", "mount", image, point)
    try:
        for name in (work / "link", work / "moved"):
            for argv in (["mount", name, work], ["fsck", name], ["mkfs", "-f", name]):
                _refused(build.run("mapfs", *argv, check=False), name, expected)
            facts = json.loads(build.run("mapfs", "info", "--json", name).out)
            assert facts["mountpoint"] == str(mount.path) and facts["pid"] == mount.pid
        _refused(build.run("mapfs", "fsck", image, check=False), f"first: mapfs umount {point}", without=[str(mount.path)])
    finally:
        build.run("mapfs", "umount", point)
    os.rename(work / "moved", image)


@pytest.mark.root
def test_user_is_told_where_the_image_of_another_is_mounted_under_another_name(build, image, mount, work, user):
    """Whose descriptors may not be looked at: the daemon's command line has the old name."""
    os.chmod(image, 0o644)
    os.rename(image, work / "moved")
    refused = build.run("fsck.mapfs", "-n", work / "moved", check=False, uid=user)
    _refused(refused, work / "moved", f"it is mounted at {mount.path} (daemon {mount.pid})")
    os.rename(work / "moved", image)


def test_image_that_is_no_longer_mounted_but_in_use_is_told_as_that(build, image, mount, work, point):
    os.link(image, work / "link")
    with open(mount.path / "f", "wb"):
        mount.detach()
        for name in (image, work / "link"):
            refused = build.run("mapfs", "mount", name, point, check=False)
            _refused(refused, name, f"busy: daemon {mount.pid} serves it, although it is unmounted", without=["first:"])
    wait_for(lambda: not is_running(mount.pid), "the daemon to end")
    mount.forget()


@pytest.mark.root
def test_image_that_is_mounted_in_another_namespace_alone_is_told_with_that(build, image, mount, work, point):
    with subprocess.Popen(["unshare", "--mount", "--propagation", "private", "sleep", "60"]) as other:
        try:
            wait_for(lambda: Path(f"/proc/{other.pid}/comm").read_text() == "sleep\n", "the other namespace")
            mount.detach()
            refused = build.run("mapfs", "mount", image, point, check=False)
            told = f"it is mounted at {mount.path} in the mount namespace of process {other.pid} (daemon {mount.pid})"
            _refused(refused, image, told, without=["first:"])
        finally:
            other.kill()
    wait_for(lambda: not is_running(mount.pid), "the daemon to end")
    mount.forget()


def test_image_in_use_is_not_confused_with_another_in_its_file(build, new_mount, work, point):
    disk = work / "disk"
    for offset in ("4M", "8M"):
        build.run("mkfs.mapfs", "-s", "4M", "--offset", offset, disk)
    first, second = (new_mount(disk, f"at-{offset}", options=f"offset={offset}") for offset in ("4M", "8M"))
    for mount in (first, second):
        mount.expect_trouble = True  # the end looks for an image at the first byte
        mount.try_start()
    refused = build.run("mapfs", "mount", "-o", "offset=4M", disk, point, check=False)
    # The point itself, where the kernel tells which mount is the daemon's (Linux 6.18 does).
    told = r"first: mapfs umount \S+/at-4M|findmnt -S"
    assert refused.status != 0 and re.search(f"busy.*({told})", refused.err) and second.path.name not in refused.err
    for mount in (first, second):
        build.run("mapfs", "umount", mount.path)


@pytest.mark.parametrize("command", ["sync", "umount", "info"])
def test_path_within_a_mount_is_told_with_its_mount(build, mount, command):
    (mount.path / "directory").mkdir()
    _refused(build.run("mapfs", command, mount.path / "directory", check=False), "no mount point", f"at {mount.path}\n")


@pytest.mark.parametrize("command", ["sync", "umount"])
def test_path_that_is_not_there_is_not_called_unmounted(build, work, command):
    for path in (work / "none", work / "none" / "deep"):
        _refused(build.run("mapfs", command, path, check=False), path, "no such", without=["mounted"])
    _refused(build.run("mapfs", command, "", check=False), "mount point is empty")


def test_mount_names_the_empty_mount_point_and_the_missing_device(build, image, point):
    _refused(build.run("mapfs", "mount", image, "", check=False), "mount point is empty")
    device = "/dev/mapfs-test-no-such-device"
    for argv in (["mount", device, point], ["info", device], ["fsck", device]):
        _refused(build.run("mapfs", *argv, check=False), device, "no such device", without=["mkfs"])


@pytest.mark.heavy  # only in that sanitizers, which take terabytes of address space, leave it out
def test_limit_of_the_address_space_is_named_if_there_is_one(build, work):
    build.mkfs(work / "image", size="4G")
    limited = ["prlimit", f"--as={2 << 30}", build.program("fsck.mapfs"), "-n", work / "image"]
    _refused(run(limited, env=build.env(), check=False), work / "image", "ulimit -v")


@pytest.mark.root
def test_image_larger_than_the_address_space_is_told_so(build, work):
    if resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY:
        pytest.skip("the address space is limited")
    (work / "tmpfs").mkdir()
    run(["mount", "-t", "tmpfs", "tmpfs", work / "tmpfs"])
    try:
        huge = work / "tmpfs" / "huge"
        run(["truncate", "-s", "100T", huge])
        _refused(build.run("fsck.mapfs", "-n", huge, check=False), huge, "100 TiB", "too large", without=["ulimit"])
    finally:
        run(["umount", work / "tmpfs"])


@pytest.mark.parametrize("name", ["mount", "umount", "sync", "info", "dump", "fsck"])
def test_short_option_of_help(build, name):
    assert build.run("mapfs", name, "-h").out == build.run("mapfs", name, "--help").out
    assert "-h, --help" in build.run("mapfs", name, "--help").out


def test_short_option_of_help_of_the_helper_of_mount_8(build):
    assert build.run("mount.mapfs", "-h").out == build.run("mount.mapfs", "--help").out


def test_checker_counts_one_as_one(build, image):
    assert ": clean, 1 inode, 1 directory, " in build.run("fsck.mapfs", image).out
