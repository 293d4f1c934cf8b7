# SPDX-License-Identifier: MIT
"""Freed space goes back to the host, and `mapfs info` tells how much there is to go."""

import json
import os
import threading

import pytest
from helpers.commands import run
from helpers.files import opened, pattern, read_file, write_file
from helpers.mounts import wait_for

MIB = 1 << 20
# What stays on the host: the pool for nodes (a 32nd of the image, at most 16 MiB) and what was asked for ahead.
POOL = 28 * MIB

pytestmark = [pytest.mark.image(size="512M"), pytest.mark.options("commit=1")]


def _facts(build, of):
    facts = json.loads(build.run("mapfs", "info", "--json", of).out)
    live, allocated = facts["live_bytes"], facts["host_allocated_bytes"]
    assert facts["reclaimable_bytes"] == max(0, allocated - live)
    return facts


def _on_host(image):
    return os.stat(image).st_blocks * 512


def _write_and_remove(mount, size=200 * MIB):
    keep = pattern(MIB, "keep")
    write_file(mount.path / "keep", keep)
    write_file(mount.path / "big", bytes([7]) * size)
    mount.sync()
    assert _on_host(mount.image) >= size
    os.unlink(mount.path / "big")
    return keep


def _wait_for_host(build, mount):
    """What was removed is live until it is taken apart, so it is the host's own count that tells when that is over."""
    wait_for(lambda: _on_host(mount.image) < POOL + 60 * MIB, "the host's space to come back", timeout=150)
    wait_for(lambda: _facts(build, mount.path)["reclaimable_bytes"] < POOL, "the image to say the same", timeout=150)


@pytest.mark.heavy
@pytest.mark.limit(400)
def test_freed_space_goes_back_while_mounted(build, mount):
    keep = _write_and_remove(mount)
    _wait_for_host(build, mount)
    assert read_file(mount.path / "keep") == keep
    data = pattern(100 * MIB, "again")
    write_file(mount.path / "again", data)
    mount.remount()
    assert read_file(mount.path / "keep") == keep
    assert read_file(mount.path / "again") == data


def test_unmount_gives_back_what_was_just_removed(build, mount):
    keep = _write_and_remove(mount, 64 * MIB)
    mount.stop()
    assert _facts(build, mount.image)["reclaimable_bytes"] < POOL
    mount.start()
    assert read_file(mount.path / "keep") == keep


@pytest.mark.options("commit=1,nodiscard")
def test_nodiscard_keeps_the_host_blocks(mount):
    _write_and_remove(mount)
    before = _on_host(mount.image)
    mount.remount()
    mount.remount()
    assert _on_host(mount.image) >= before


@pytest.mark.heavy
@pytest.mark.limit(400)
def test_space_removed_before_a_kill_goes_back_after_it(build, mount, kill9):
    keep = _write_and_remove(mount)
    mount.sync()
    kill9()
    assert _on_host(mount.image) > 200 * MIB
    _wait_for_host(build, mount)
    assert read_file(mount.path / "keep") == keep


@pytest.mark.root
@pytest.mark.options("commit=3600,nodiscard")
def test_fstrim_gives_back_what_was_just_removed(mount):
    keep = _write_and_remove(mount, 64 * MIB)
    mount.sync()
    run(["fstrim", mount.path])
    assert _on_host(mount.image) < POOL + MIB
    assert read_file(mount.path / "keep") == keep


def test_info_tells_the_same_of_mount_and_image(build, mount):
    write_file(mount.path / "f", bytes(50 * MIB))
    mount.sync()
    mounted = _facts(build, mount.path)
    assert mounted["live_bytes"] >= 50 * MIB
    # A checkpoint may come between the two.
    assert abs(mounted["host_allocated_bytes"] - _on_host(mount.image)) < MIB
    mount.stop()
    unmounted = _facts(build, mount.image)
    assert abs(unmounted["live_bytes"] - mounted["live_bytes"]) < MIB
    text = build.run("mapfs", "info", mount.image).out
    assert "Live:" in text and "Allocated on the host:" in text and "Reclaimable:" in text


def _churn(directory, number, stop, failures):
    """Writes, checks and removes files until told to stop; most of what it frees rests long enough to go to the host."""
    n = 0
    os.mkdir(directory)
    while not stop.is_set():
        data = pattern(300_000, (number, n))
        write_file(directory / f"f{n % 40}", data)
        if n >= 20:
            old = read_file(directory / f"f{(n - 20) % 40}")
            if old != pattern(300_000, (number, n - 20)):
                failures.append(f"file {n - 20} of {number} has changed")
        if n % 30 == 29:
            for i in range(n - 19, n - 9):
                os.unlink(directory / f"f{i % 40}")
                write_file(directory / f"f{i % 40}", pattern(300_000, (number, i)))
            stop.wait(2)
        n += 1


@pytest.mark.heavy
def test_files_written_while_others_go_back_to_the_host_keep_their_bytes(mount):
    stop, failures = threading.Event(), []
    workers = [threading.Thread(target=_churn, args=(mount.path / f"d{i}", i, stop, failures)) for i in range(3)]
    for worker in workers:
        worker.start()
    stop.wait(15)
    stop.set()
    for worker in workers:
        worker.join()
    assert not failures, failures


@pytest.fixture
def small_host(work):
    """A filesystem of 64 MiB for images."""
    path = work / "host"
    path.mkdir()
    run(["mount", "-t", "tmpfs", "-o", "size=64M", "tmpfs", path])
    yield path
    run(["umount", "-l", path])


@pytest.mark.root
def test_free_space_is_what_the_host_has_when_that_is_less(build, small_host, new_mount):
    """An image of 1 GiB on a host of 64 MiB: statfs tells the host's, ENOSPC comes about there, and space comes back."""
    image = small_host / "image"
    build.mkfs(image, size="1G")
    mount = new_mount(image, options="commit=1").start()
    told = os.statvfs(mount.path)
    free = told.f_bavail * told.f_frsize
    assert free < 64 * MIB < told.f_bfree * told.f_frsize
    size = 0
    with opened(mount.path / "big", os.O_CREAT | os.O_WRONLY) as fd:
        with pytest.raises(OSError, match="No space left"):
            while True:
                size += os.write(fd, bytes(MIB // 4))
    assert abs(size - free) < 4 * MIB
    os.unlink(mount.path / "big")

    def is_back():
        mount.sync()
        told = os.statvfs(mount.path)
        return told.f_bavail * told.f_frsize > free - 2 * MIB

    wait_for(is_back, "the space to come back")
    write_file(mount.path / "again", bytes(size - 2 * MIB))
