# SPDX-License-Identifier: MIT
"""An image that somebody has: refused at once while a writer lives, waited for while one finishes."""

import os
import subprocess
import time

import pytest
from helpers.commands import SLOW
from helpers.files import opened, pattern, read_file, write_file
from helpers.mounts import is_running, wait_for


def test_second_mount_is_refused_at_once_and_names_the_holder(build, mount, work):
    write_file(mount.path / "f", b"kept")
    (work / "other").mkdir()
    start = time.monotonic()
    result = build.run("mapfs", "mount", mount.image, work / "other", check=False)
    assert time.monotonic() - start < 8 * SLOW, "a live writer must be refused at once"
    assert result.status != 0
    assert str(mount.pid) in result.err and str(mount.image) in result.err, f"the holder is not named:\n{result}"
    assert read_file(mount.path / "f") == b"kept"


def test_mkfs_and_fsck_of_a_mounted_image_are_refused(build, mount):
    write_file(mount.path / "f", pattern(10_000))
    for argv in (
        ["mkfs.mapfs", "-f", mount.image],
        ["mkfs.mapfs", "-f", "-s", "64M", mount.image],
        ["fsck.mapfs", "-n", mount.image],
    ):
        start = time.monotonic()
        result = build.run(*argv, check=False)
        assert time.monotonic() - start < 8 * SLOW
        assert result.status != 0, f"worked on a mounted image:\n{result}"
        assert str(mount.pid) in result.err, f"the holder is not named:\n{result}"
    assert read_file(mount.path / "f") == pattern(10_000)


def test_image_reached_by_another_path_is_the_same_image(build, mount, work):
    os.link(mount.image, work / "hard-link")
    os.symlink(mount.image, work / "symlink")
    (work / "other").mkdir()
    for name in ("hard-link", "symlink"):
        result = build.run("mapfs", "mount", work / name, work / "other", check=False)
        assert result.status != 0, f"mounted twice, through {name}"


def test_mount_waits_for_a_daemon_that_is_finishing(mount):
    """umount(8) returns before the daemon is done; whoever mounts next must not be refused."""
    for i in range(3):
        with opened(mount.path / f"f{i}", os.O_CREAT | os.O_WRONLY) as fd:
            for _ in range(24):
                os.write(fd, os.urandom(1 << 20))
        command = ["umount"] if os.geteuid() == 0 else ["fusermount3", "-u"]
        subprocess.run([*command, mount.path], check=True, timeout=60)
        old = mount.pid
        mount.start()
        assert mount.pid != old
        wait_for(lambda: not is_running(old), f"the daemon {old} before to end")
    assert len([n for n in os.listdir(mount.path) if n.startswith("f")]) == 3


def test_mkfs_waits_for_a_daemon_that_is_finishing(build, mount):
    write_file(mount.path / "f", os.urandom(30 << 20))
    command = ["umount"] if os.geteuid() == 0 else ["fusermount3", "-u"]
    subprocess.run([*command, mount.path], check=True, timeout=60)
    build.mkfs(mount.image, "-f")
    mount.start()
    assert not (mount.path / "f").exists()


def test_lazy_unmount_with_an_open_file_keeps_the_image_until_the_file_is_closed(build, mount):
    command = ["umount", "-l"] if os.geteuid() == 0 else ["fusermount3", "-u", "-z"]
    with opened(mount.path / "f", os.O_CREAT | os.O_RDWR) as fd:
        os.write(fd, b"open")
        subprocess.run([*command, mount.path], check=True, timeout=60)
        assert is_running(mount.pid)
        os.write(fd, b" still")
        os.fsync(fd)
    mount.start()
    assert read_file(mount.path / "f") == b"open still"


@pytest.mark.parametrize("signal_name", ["TERM", "INT", "HUP"])
def test_daemon_asked_to_end_by_a_signal_leaves_a_durable_image(mount, signal_name):
    write_file(mount.path / "f", pattern(200_000))
    pid = mount.pid
    subprocess.run(["kill", f"-{signal_name}", str(pid)], check=True)
    end = time.monotonic() + 15 * SLOW
    while is_running(pid) and time.monotonic() < end:
        time.sleep(0.02)
    assert not is_running(pid), f"the daemon does not end on SIG{signal_name}"
    mount.forget()
    assert not mount.is_mounted
    mount.fsck()
    mount.start()
    assert read_file(mount.path / "f") == pattern(200_000)


def test_daemon_survives_ctrl_c_of_the_terminal_that_mounted_it(mount):
    fields = open(f"/proc/{mount.pid}/stat").read().rpartition(")")[2].split()
    group, session, tty = fields[2], fields[3], fields[4]
    assert int(group) != os.getpgid(0) and int(session) != os.getsid(0)
    assert tty == "0"


def test_mount_command_returns_when_the_mount_answers(image, new_mount):
    mount = new_mount(image)
    for _ in range(5):
        mount.start()
        assert os.path.ismount(mount.path)
        os.listdir(mount.path)
        mount.stop()
