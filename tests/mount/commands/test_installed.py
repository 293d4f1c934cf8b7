# SPDX-License-Identifier: MIT
"""What `meson install` leaves: helpers where mount(8) looks for them, man pages, and units that systemd takes."""

import os
import shlex
import shutil
import signal
import socket
import subprocess

import pytest
from helpers.commands import SLOW, run
from helpers.files import pattern, read_file, write_file


@pytest.fixture
def installed(build, work):
    env = dict(os.environ, DESTDIR=os.fspath(work / "root"))
    run(["meson", "install", "-C", build.directory, "--no-rebuild", "--quiet"], env=env)
    (bin_directory,) = (work / "root").rglob("bin")
    return bin_directory.parent


def test_programs_helpers_and_man_pages_are_installed(installed):
    for name in ("mkfs.mapfs", "fsck.mapfs", "mount.mapfs", "mount.fuse.mapfs"):
        link = installed / "sbin" / name
        assert link.is_symlink() and os.path.basename(os.readlink(link)) == "mapfs"
    result = run([installed / "bin" / "mapfs", "--version"])
    assert result.out.startswith("mapfs ")
    assert (installed / "bin" / "mapfs-container-volume").stat().st_mode & 0o111
    pages = {page.name for page in installed.rglob("man[158]/*")}
    assert {"mapfs.1", "mapfs-mount.1", "mount.mapfs.8", "mkfs.mapfs.8", "mapfs-container-volume.1"} <= pages


@pytest.fixture
def unit(installed, build, work):
    """The template, with the program of the build in place of the one that is not installed at its place."""
    system = installed / "lib/systemd/system/mapfs@.service"
    assert system.read_text() == (installed / "lib/systemd/user/mapfs@.service").read_text()
    text = system.read_text()
    (line,) = (line for line in text.splitlines() if line.startswith("ExecStart="))
    program = line.removeprefix("ExecStart=").split()[0]
    path = work / "mapfs@.service"
    path.write_text(text.replace(program, os.fspath(build.program("mapfs"))))
    return path


def test_unit_template_passes_systemd_analyze(unit):
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    result = run(["systemd-analyze", "verify", "--man=no", unit], check=False)
    assert (result.status, result.out, result.err) == (0, "", "")


def test_what_the_unit_starts_tells_when_it_is_ready_and_ends_durably_on_sigterm(unit, image, new_mount, work):
    mount = new_mount(image)
    values = {"IMAGE": image, "MOUNTPOINT": mount.path, "OPTIONS": "rw,commit=3600"}
    commands = {"ExecStartPre": [], "ExecStart": []}
    for line in unit.read_text().splitlines():
        key, _, value = line.partition("=")
        if key in commands:
            words = shlex.split(value.removeprefix("-"))
            commands[key] = [str(values.get(word.strip("${}"), word)) for word in words]
    run(commands["ExecStartPre"], check=False)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(os.fspath(work / "notify"))
        notify.settimeout(20 * SLOW)
        env = mount.build.env(NOTIFY_SOCKET=os.fspath(work / "notify"))
        process = subprocess.Popen(commands["ExecStart"], env=env)
        assert b"READY=1" in notify.recv(1000).split(b"\n")
        write_file(mount.path / "f", pattern(300_000))
        process.send_signal(signal.SIGTERM)
        assert b"STOPPING=1" in notify.recv(1000).split(b"\n")
        assert process.wait(timeout=20 * SLOW) == 0
    assert not mount.is_mounted
    mount.fsck()
    mount.start()
    assert read_file(mount.path / "f") == pattern(300_000)
