# SPDX-License-Identifier: MIT
"""A host that runs out of space, or takes part of the image away: errors for the caller, and a daemon that lives."""

import contextlib
import errno
import json
import os

import pytest
from helpers.commands import run
from helpers.files import drop_caches, opened, pattern, python, read_file, write_all, write_file
from helpers.mounts import wait_for

MIB = 1 << 20
TROUBLE = (errno.EIO, errno.ENOSPC, errno.EROFS)


@contextlib.contextmanager
def _tmpfs(path, size):
    run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path])
    yield


@contextlib.contextmanager
def _ext4_on_loop(path, size):
    disk = path.parent / "disk"
    write_file(disk, b"")
    os.truncate(disk, size)
    run(["mkfs.ext4", "-q", "-F", "-m", "0", disk])
    run(["mount", "-o", "loop", disk, path])
    yield


@pytest.fixture(params=["tmpfs", "ext4"])
def small_host(request, work):
    """A filesystem of 96 MiB, with 30 MiB taken by a file `filler`."""
    path = work / "host"
    path.mkdir()
    make = _tmpfs if request.param == "tmpfs" else _ext4_on_loop
    with make(path, 96 * MIB):
        with open(path / "filler", "wb") as f:
            f.write(bytes(1) * 30 * MIB)
        yield path
    wait_for(lambda: run(["umount", path], check=False).status == 0, f"{path} to be free", timeout=20, step=0.2)


def _write_until_full(path, seed):
    """Appends until ENOSPC; returns the number of whole pieces that were accepted."""
    n = 0
    with opened(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND) as fd:
        try:
            while n < 5000:
                write_all(fd, pattern(100_000, (seed, n)))
                n += 1
        except OSError as error:
            assert error.errno == errno.ENOSPC, error
        else:
            pytest.fail("the host cannot have had that much room")
    return n


def _check_pieces(path, seed, count):
    data = read_file(path)
    for n in range(count):
        assert data[n * 100_000 : (n + 1) * 100_000] == pattern(100_000, (seed, n)), f"piece {n}"


@pytest.mark.root
def test_full_host_gives_enospc_and_recovers_when_space_is_freed(build, small_host, work, new_mount):
    image = small_host / "image"
    build.mkfs(image, size="1G")
    mount = new_mount(image).start()
    try:
        write_file(mount.path / "early", pattern(2 * MIB))
        mount.sync()
        count = _write_until_full(mount.path / "big", "first")
        assert count > 50
        assert mount.is_alive
        assert (
            os.statvfs(mount.path).f_bavail * 4096 < 40 * MIB
        ), "statfs must tell the room of the host when that is less"
        assert read_file(mount.path / "early") == pattern(2 * MIB)
        _check_pieces(mount.path / "big", "first", count)
        os.unlink(small_host / "filler")

        def works_again():
            try:
                write_file(mount.path / "after", pattern(5 * MIB))
            except OSError as error:
                assert error.errno == errno.ENOSPC
                return False
            return True

        wait_for(works_again, "writes to work again after the host got room", timeout=15, step=0.3)
        mount.remount()
        _check_pieces(mount.path / "big", "first", count)
        assert read_file(mount.path / "after") == pattern(5 * MIB)
        assert read_file(mount.path / "early") == pattern(2 * MIB)
    finally:
        mount.finish()
        mount.expect_trouble = True


@pytest.mark.root
def test_removed_files_give_their_room_back_to_a_full_host(build, small_host, new_mount):
    image = small_host / "image"
    build.mkfs(image, size="1G")
    mount = new_mount(image).start()
    try:
        for round_ in range(3):
            assert _write_until_full(mount.path / "big", round_) > 50
            os.unlink(mount.path / "big")
            for _ in range(3):
                mount.sync()
        mount.remount()
    finally:
        mount.finish()
        mount.expect_trouble = True


@pytest.mark.root
def test_syncs_on_a_full_host_keep_what_was_accepted(build, small_host, new_mount):
    image = small_host / "image"
    build.mkfs(image, size="1G")
    mount = new_mount(image).start()
    try:
        count = _write_until_full(mount.path / "big", "sync")
        with opened(mount.path / "big") as fd:
            os.fsync(fd)
        mount.kill()
        mount.fsck()
        os.unlink(small_host / "filler")
        mount.start()
        _check_pieces(mount.path / "big", "sync", count)
    finally:
        mount.finish()
        mount.expect_trouble = True


def _tolerant(call):
    """True when the call worked, False when it gave one of the errors of a broken host."""
    try:
        call()
    except OSError as error:
        assert error.errno in TROUBLE, error
        return False
    return True


@pytest.mark.image(size="64M")
@pytest.mark.parametrize("left", [0, 8192, 2 * MIB, 20 * MIB])
def test_image_truncated_while_mounted_gives_errors_and_the_daemon_lives(mount, left):
    """Another program cuts the image: SIGBUS in the daemon, EIO for who wanted those bytes, nothing else."""
    mount.expect_trouble = True
    for i in range(30):
        write_file(mount.path / f"f{i}", pattern(MIB, i))
    mount.sync()
    for i in range(30):
        drop_caches(mount.path / f"f{i}")
    with opened(mount.path, os.O_RDONLY) as fd:
        os.truncate(mount.image, left)
        outcomes = []
        for i in range(30):

            def read(i=i):
                data = read_file(mount.path / f"f{i}")
                assert data == pattern(MIB, i), f"wrong bytes of f{i} rather than an error"

            outcomes.append(_tolerant(read))
        assert not all(outcomes), "files were read whole from an image that is not there"
        for i in range(10):
            _tolerant(lambda i=i: write_file(mount.path / f"new{i}", pattern(50_000, i)))
            _tolerant(lambda: os.listdir(mount.path))
            _tolerant(lambda i=i: os.mkdir(mount.path / f"dir{i}"))
        assert not _tolerant(lambda: os.fsync(fd)), "a sync was acknowledged on a truncated image"
    assert mount.is_alive, "the daemon died"
    os.statvfs(mount.path)
    assert json.loads(mount.build.run("mapfs", "info", "--json", mount.path).out)["error"]


@pytest.mark.image(size="64M")
def test_program_with_a_mapping_gets_an_error_not_wrong_bytes_when_the_image_is_cut(mount):
    mount.expect_trouble = True
    write_file(mount.path / "f", pattern(MIB))
    with opened(mount.path / "f") as fd:
        os.fsync(fd)
    mount.remount()
    os.truncate(mount.image, 8192)
    code = (
        "import mmap, os, sys\n"
        "mapped = mmap.mmap(os.open(sys.argv[1], os.O_RDONLY), 0, prot=mmap.PROT_READ)\n"
        "sys.stdout.buffer.write(mapped[500_000:500_010].hex().encode())"
    )
    result = python(code, mount.path / "f", check=False)
    # It dies of SIGBUS, or the open has failed already, or the bytes were in memory: then they are the right ones.
    assert result.status != 0 or result.out == pattern(MIB)[500_000:500_010].hex()
    assert mount.is_alive


@pytest.mark.image(size="64M")
def test_image_removed_while_mounted_goes_on_until_the_unmount(mount):
    write_file(mount.path / "f", pattern(MIB))
    os.rename(mount.image, f"{mount.image}.away")
    write_file(mount.path / "g", pattern(MIB, 1))
    mount.sync()
    os.rename(f"{mount.image}.away", mount.image)
    mount.remount()
    assert read_file(mount.path / "f") == pattern(MIB)
    assert read_file(mount.path / "g") == pattern(MIB, 1)


@pytest.fixture
def dying_disk(work):
    """A loop device of 256 MiB that can store a fifth of that before it gives errors, and how it is mended."""
    host = work / "host"
    host.mkdir()
    with _tmpfs(host, 48 * MIB):
        write_file(host / "disk", b"")
        os.truncate(host / "disk", 256 * MIB)
        device = run(["losetup", "--find", "--show", host / "disk"]).out.strip()
        # The loop driver takes a write of which only a part was stored for a whole one: pages one by one are stored or not.
        write_file(f"/sys/block/{os.path.basename(device)}/queue/max_sectors_kb", b"4")
        yield device, lambda: run(["mount", "-o", f"remount,size={300 * MIB}", host])
        run(["losetup", "--detach", device])
    wait_for(lambda: run(["umount", host], check=False).status == 0, f"{host} to be free", timeout=20, step=0.2)


@pytest.mark.root
def test_disk_that_fails_ends_changes_and_a_new_mount_has_what_was_synced(build, dying_disk, new_mount):
    device, mend = dying_disk
    build.mkfs(device)
    mount = new_mount(device).start()
    try:
        write_file(mount.path / "early", pattern(2 * MIB))
        mount.sync()
        outcomes = []
        with opened(mount.path / "late", os.O_CREAT | os.O_RDWR) as fd:
            for i in range(64):
                outcomes.append(_tolerant(lambda i=i: write_all(fd, pattern(MIB, i), i * MIB)))
                outcomes.append(_tolerant(lambda: os.fsync(fd)))
        assert not outcomes[-1], "a sync was acknowledged on a disk that cannot have stored it"
        assert not _tolerant(lambda: write_file(mount.path / "more", pattern(100)))
        assert not _tolerant(lambda: drop_caches(mount.path / "late") or read_file(mount.path / "late")), "bytes that may not be on the disk were read"
        assert mount.is_alive
        mount.stop_with_trouble()
        mend()
        # The kernel may tell of the last failed writes only now.
        wait_for(lambda: mount.try_start().status == 0, "a mount of the mended disk")
        n_durable = outcomes[1::2].index(False)
        assert n_durable > 10
        assert read_file(mount.path / "early") == pattern(2 * MIB)
        data = read_file(mount.path / "late")
        for i in range(n_durable):
            assert data[i * MIB : (i + 1) * MIB] == pattern(MIB, i), f"MiB {i} was synced"
        mount.stop()
        mount.fsck()
    finally:
        mount.expect_trouble = True
        mount.finish()
