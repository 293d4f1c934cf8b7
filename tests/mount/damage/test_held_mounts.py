# SPDX-License-Identifier: MIT
"""Filesystems that the kernel keeps after their mount is gone: `mapfs umount` must tell, and must not wait without an end."""

import os
import signal
import time

import pytest
from helpers.commands import SLOW, run
from helpers.files import read_file, write_file
from helpers.mounts import is_running, mount_entry, wait_for

pytestmark = pytest.mark.root


@pytest.fixture
def overlay(mount, work):
    """An overlay whose lower layer lies in the mount."""
    for path in (mount.path / "lower", work / "merged"):
        path.mkdir()
    write_file(mount.path / "lower" / "f", b"below")
    options = f"lowerdir={mount.path}/lower:{work}"
    result = run(["mount", "-t", "overlay", "-o", options, "overlay", work / "merged"], check=False)
    if result.status != 0:
        pytest.skip(f"no overlay can be mounted here: {result.err.strip()}")
    yield work / "merged"
    run(["umount", "--lazy", work / "merged"], check=False)


def test_umount_of_a_layer_of_an_overlay_is_refused_and_names_the_overlay(build, mount, overlay):
    result = build.run("mapfs", "umount", mount.path, check=False)
    assert result.status == 1 and "busy" in result.err and str(overlay) in result.err
    assert mount.is_mounted and read_file(overlay / "f") == b"below"
    run(["umount", overlay])
    mount.stop()


def test_umount_of_what_the_kernel_keeps_for_something_unseen_says_so(build, mount, overlay):
    with open(overlay / "f", "rb") as kept:
        run(["umount", "--lazy", overlay])
        start = time.monotonic()
        result = build.run("mapfs", "umount", mount.path, check=False)
        took = time.monotonic() - start
        assert result.status == 1 and "the daemon goes on" in result.err
        assert took < 40 * SLOW
        assert kept.read() == b"below" and is_running(mount.pid)
    wait_for(lambda: not is_running(mount.pid), "the daemon to end with the last file")
    mount.forget()


def test_mount_over_a_dead_one_is_refused_although_its_attributes_are_cached(build, mount):
    os.stat(mount.path)
    pid = mount.pid
    os.kill(pid, signal.SIGKILL)
    # At once, and again when the daemon is gone.
    for _ in range(2):
        refused = build.run("mapfs", "mount", mount.image, mount.path, check=False)
        assert refused.status == 1 and f"mapfs umount {mount.path}" in refused.err
        wait_for(lambda: not is_running(pid), "the killed daemon to end")
    mount.forget()
    build.run("mapfs", "umount", mount.path)
    assert mount_entry(mount.path) is None
    mount.start()
