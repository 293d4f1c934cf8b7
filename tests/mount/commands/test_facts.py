# SPDX-License-Identifier: MIT
"""info, dump, sync, umount, fsck and the help of every command."""

import json
import os
import re
import socket
import subprocess
import time

import pytest
from helpers.commands import SLOW, run
from helpers.files import opened, pattern, write_file
from helpers.mounts import is_running
from helpers.superblock import read_slots
from helpers.trees import make_sample

COMMANDS = [
    ("mkfs.mapfs",),
    ("fsck.mapfs",),
    ("mapfs",),
    ("mapfs", "mount"),
    ("mapfs", "umount"),
    ("mapfs", "info"),
    ("mapfs", "dump"),
    ("mapfs", "sync"),
    ("mount.mapfs",),
]


@pytest.mark.parametrize("argv", COMMANDS, ids=" ".join)
def test_help_is_there_and_on_stdout(build, argv):
    result = build.run(*argv, "--help")
    assert "sage" in result.out and result.err == ""
    assert len(result.out.splitlines()) >= 3


def test_version_is_told(build):
    assert build.run("mapfs", "--version").out.strip()


def test_info_of_image_and_of_mount_tell_the_same_filesystem(build, mount):
    make_sample(mount.path)
    mount.sync()
    text = build.run("mapfs", "info", mount.path).out
    assert str(mount.image) in text or "uuid" in text.lower()
    mounted = json.loads(build.run("mapfs", "info", "--json", mount.path).out)
    by_image = json.loads(build.run("mapfs", "info", "--json", mount.image).out)
    assert _flat(mounted)["uuid"] == _flat(by_image)["uuid"]
    assert str(mount.pid) in json.dumps(by_image), "who holds the image is not told"
    mount.stop()
    unmounted = json.loads(build.run("mapfs", "info", "--json", mount.image).out)
    assert _flat(unmounted)["uuid"] == _flat(mounted)["uuid"]
    assert _flat(unmounted)["generation"] >= _flat(mounted)["generation"]


def test_image_that_is_mounted_for_writing_is_not_called_unmounted_in_order(build, image, new_mount):
    def is_clean():
        text = build.run("mapfs", "info", image).out
        clean = json.loads(build.run("mapfs", "info", "--json", image).out)["clean"]
        assert re.search(r"^Unmounted in order: +" + ("yes" if clean else "no") + "$", text, re.MULTILINE)
        return clean

    assert is_clean()
    mount = new_mount(image, options="commit=3600").start()
    assert not is_clean(), "before the first checkpoint"
    write_file(mount.path / "f", b"x")
    mount.sync()
    assert not is_clean()
    mount.stop()
    assert is_clean()
    mount = new_mount(image, options="ro").start()
    assert is_clean(), "nothing is changed by a read-only mount"
    mount.stop()


def _flat(facts):
    """All keys of nested objects in one dictionary; the first of equal names wins."""
    found = {}
    for key, value in facts.items():
        if isinstance(value, dict):
            for inner, inner_value in _flat(value).items():
                found.setdefault(inner, inner_value)
        else:
            found.setdefault(key, value)
    return found


def test_generation_moves_on_with_a_sync_of_changes(build, mount):
    def generation():
        return _flat(json.loads(build.run("mapfs", "info", "--json", mount.path).out))["generation"]

    mount.sync()
    before = generation()
    write_file(mount.path / "f", b"x")
    mount.sync()
    assert generation() > before


def test_info_of_a_directory_that_is_no_mount_is_an_error(build, work):
    result = build.run("mapfs", "info", work, check=False)
    assert result.status != 0 and str(work) in result.err


def test_dump_of_an_inode(build, mount):
    write_file(mount.path / "file", b"content")
    number = os.stat(mount.path / "file").st_ino
    mount.stop()
    assert "inline 0: 7 bytes" in build.run("mapfs", "dump", mount.image, "inode", str(number)).out
    result = build.run("mapfs", "dump", mount.image, "inode", str(number + 1000), check=False)
    assert result.status == 1 and result.out == "" and f"{mount.image}: there is no inode {number + 1000}" in result.err


@pytest.mark.image(size="16M")
def test_dump_names_the_image_that_lacks_something(build, image):
    result = build.run("mapfs", "dump", image, "node", "4096", check=False)
    assert result.status == 1 and f"{image}: there is no block 4096: it has only 4096 blocks" in result.err
    image.write_bytes(b"no image" * 4096)
    for subject in (["tree"], ["log"], ["inode", "1"]):
        result = build.run("mapfs", "dump", image, *subject, check=False)
        assert result.status == 1 and f"{image}: there is no valid superblock (" in result.err


def test_dump_shows_superblocks_and_tree(build, mount):
    make_sample(mount.path)
    mount.stop()
    result = build.run("mapfs", "dump", mount.image)
    assert "generation" in result.out.lower()
    assert len(result.out.splitlines()) > 10


def test_checker_finds_nothing_says_so_and_changes_nothing(build, mount):
    make_sample(mount.path)
    mount.stop()
    before = mount.image.read_bytes()
    build.fsck(mount.image)
    facts = json.loads(build.run("fsck.mapfs", "-n", "--json", mount.image).out)
    assert facts.get("problems", []) in ([], 0)
    assert mount.image.read_bytes() == before


def test_checker_names_damage_by_number_and_exits_with_4(build, mount):
    make_sample(mount.path)
    mount.stop()
    mount.expect_trouble = True
    data = bytearray(mount.image.read_bytes())
    root = _root_block(mount.image)
    data[root * 4096 + 1000 : root * 4096 + 1100] = os.urandom(100)
    mount.image.write_bytes(data)
    result = build.run("fsck.mapfs", "-n", mount.image, check=False)
    assert result.status == 4
    assert str(root) in result.out + result.err
    result = build.run("fsck.mapfs", "-n", "--json", mount.image, check=False)
    assert result.status == 4
    assert json.loads(result.out)["problems"]


def _root_block(image):
    return max(read_slots(image).values(), key=lambda s: s["generation"])["root_address"]


def test_sync_of_a_directory_that_is_no_mount_is_an_error(build, work):
    result = build.run("mapfs", "sync", work, check=False)
    assert result.status != 0 and str(work) in result.err


def test_umount_of_a_directory_that_is_no_mount_is_an_error(build, work):
    result = build.run("mapfs", "umount", work, check=False)
    assert result.status != 0 and str(work) in result.err


def test_umount_of_a_busy_mount_is_refused_and_harms_nothing(build, mount):
    with opened(mount.path / "f", os.O_CREAT | os.O_RDWR) as fd:
        result = build.run("mapfs", "umount", mount.path, check=False)
        assert result.status != 0 and str(mount.path) in result.err
        assert mount.is_alive
        os.write(fd, b"still there")


def test_umount_returns_when_all_is_durable_and_the_daemon_gone(mount):
    """mount.stop() asserts that the daemon is gone; the image can be copied or checked right away."""
    write_file(mount.path / "f", pattern(20 << 20))
    pid = mount.pid
    mount.stop()
    assert not is_running(pid)
    mount.fsck()


def test_umount_works_from_within_other_directories_and_with_a_slash(build, mount):
    build.run("mapfs", "umount", f"{mount.path.name}/", cwd=mount.path.parent)
    assert not mount.is_mounted and not mount.is_alive
    mount.forget()


def test_foreground_mount_serves_until_unmounted(build, image, new_mount):
    mount = new_mount(image)
    with open(mount.log, "a") as log:
        process = subprocess.Popen(
            [build.program("mapfs"), "mount", "-f", image, mount.path], stdout=log, stderr=log, env=build.env()
        )
    end = time.monotonic() + 10 * SLOW
    while not mount.is_mounted and time.monotonic() < end:
        time.sleep(0.02)
    assert mount.is_mounted
    write_file(mount.path / "f", b"x")
    mount.note_daemon()
    assert mount.pid == process.pid
    build.run("mapfs", "umount", mount.path)
    assert process.wait(timeout=10 * SLOW) == 0
    mount.forget()


def test_ready_is_notified_when_a_foreground_mount_answers(build, image, new_mount, work):
    mount = new_mount(image)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(os.fspath(work / "notify"))
        notify.settimeout(10 * SLOW)
        with open(mount.log, "a") as log:
            process = subprocess.Popen(
                [build.program("mapfs"), "mount", "-f", image, mount.path],
                stdout=log,
                stderr=log,
                env=build.env(NOTIFY_SOCKET=os.fspath(work / "notify")),
            )
        assert b"READY=1" in notify.recv(1000)
    assert mount.is_mounted
    os.listdir(mount.path)
    build.run("mapfs", "umount", mount.path)
    assert process.wait(timeout=10 * SLOW) == 0


def test_helper_mounts_as_mount_8_calls_it(build, image, new_mount):
    mount = new_mount(image)
    build.run("mount.mapfs", image, mount.path, "-o", "rw,noatime,_netdev")
    mount.note_daemon()
    assert mount.is_mounted
    write_file(mount.path / "f", b"x")


@pytest.mark.root
def test_umount_8_and_fusermount_end_the_mount_too(image, new_mount):
    mount = new_mount(image)
    for command in (["umount"], ["fusermount3", "-u"]):
        mount.start()
        write_file(mount.path / "f", pattern(1 << 20))
        run([*command, mount.path])
        pid = mount.pid
        end = time.monotonic() + 15 * SLOW
        while is_running(pid) and time.monotonic() < end:
            time.sleep(0.02)
        assert not is_running(pid)
        mount.forget()
        mount.fsck()
