# SPDX-License-Identifier: MIT
"""What fsync and its kin cover is there after a kill -9 that follows at once. (../crash does it under load.)"""

import json
import mmap
import os

import pytest
from helpers.files import opened, pattern, read_file, write_file
from helpers.mounts import wait_for


def test_fsync_of_a_file_keeps_data_size_name_and_attributes(mount, kill9):
    os.mkdir(mount.path / "d")
    with opened(mount.path / "d/f", os.O_CREAT | os.O_WRONLY) as fd:
        os.write(fd, pattern(123_456))
        os.fchmod(fd, 0o640)
        os.setxattr(fd, "user.a", b"kept")
        os.fsync(fd)
    kill9()
    assert read_file(mount.path / "d/f") == pattern(123_456)
    assert os.stat(mount.path / "d/f").st_mode & 0o7777 == 0o640
    assert os.getxattr(mount.path / "d/f", "user.a") == b"kept"


def test_fdatasync_keeps_data_and_size(mount, kill9):
    with opened(mount.path / "f", os.O_CREAT | os.O_WRONLY) as fd:
        for i in range(10):
            os.write(fd, pattern(5000, i))
            os.fdatasync(fd)
    kill9()
    assert read_file(mount.path / "f") == b"".join(pattern(5000, i) for i in range(10))


def test_fsync_of_a_directory_keeps_its_names(mount, kill9):
    os.mkdir(mount.path / "d")
    for i in range(50):
        os.symlink(f"target-{i}", mount.path / f"d/link-{i}")
    with opened(mount.path / "d", os.O_RDONLY | os.O_DIRECTORY) as fd:
        os.fsync(fd)
    kill9()
    assert {n: os.readlink(mount.path / "d" / n) for n in os.listdir(mount.path / "d")} == {
        f"link-{i}": f"target-{i}" for i in range(50)
    }


def test_fsync_covers_all_that_went_before_in_other_files(mount, kill9):
    for i in range(100):
        write_file(mount.path / f"f{i}", pattern(2000, i))
    os.rename(mount.path / "f0", mount.path / "moved")
    with opened(mount.path / "f99") as fd:
        os.fsync(fd)
    kill9()
    assert read_file(mount.path / "moved") == pattern(2000, 0)
    for i in range(1, 100):
        assert read_file(mount.path / f"f{i}") == pattern(2000, i)


@pytest.mark.parametrize("flags", ["O_SYNC", "O_DSYNC", "O_SYNC|O_APPEND"])
def test_synchronous_writes_are_durable_when_they_return(mount, kill9, flags):
    bits = sum(getattr(os, name) for name in flags.split("|"))
    with opened(mount.path / "f", os.O_CREAT | os.O_WRONLY | bits) as fd:
        for i in range(12):
            os.write(fd, pattern(3001, i))
    kill9()
    assert read_file(mount.path / "f") == b"".join(pattern(3001, i) for i in range(12))


def test_direct_synchronous_writes_are_durable_when_they_return(mount, kill9):
    buffer = mmap.mmap(-1, 8192)
    with opened(mount.path / "f", os.O_CREAT | os.O_WRONLY | os.O_DIRECT | os.O_SYNC) as fd:
        for i in range(8):
            buffer[:] = pattern(8192, i)
            assert os.writev(fd, [buffer]) == 8192
    kill9()
    assert read_file(mount.path / "f") == b"".join(pattern(8192, i) for i in range(8))


def test_overwrite_of_synced_data_is_durable_after_the_next_sync(mount, kill9):
    write_file(mount.path / "f", pattern(40_000))
    with opened(mount.path / "f") as fd:
        for i in range(8):
            os.pwrite(fd, b"%08d" % i, 10_000)
            os.fsync(fd)
    kill9()
    data = pattern(40_000)
    assert read_file(mount.path / "f") == data[:10_000] + b"%08d" % 7 + data[10_008:]


def test_sync_command_keeps_everything(mount, kill9):
    for i in range(30):
        os.mkdir(mount.path / f"d{i}")
        write_file(mount.path / f"d{i}/f", pattern(i * 100, i))
    mount.sync()
    kill9()
    for i in range(30):
        assert read_file(mount.path / f"d{i}/f") == pattern(i * 100, i)


def test_msync_keeps_mapped_stores(mount, kill9):
    write_file(mount.path / "f", bytes(50_000))
    with opened(mount.path / "f") as fd:
        mapped = mmap.mmap(fd, 0)
        mapped[20_000:20_006] = b"mapped"
        mapped.flush()
        mapped[20_000:20_006] = b"mapped"  # clean again, no write-out pending when the daemon goes
        mapped.flush()
        mapped.close()
    kill9()
    assert read_file(mount.path / "f")[19_999:20_007] == b"\0mapped\0"


def test_unsynced_work_is_durable_within_the_checkpoint_interval(mount):
    def generation():
        return json.loads(mount.build.run("mapfs", "info", "--json", mount.path).out)["generation"]

    write_file(mount.path / "f", pattern(10_000))
    before = generation()
    wait_for(lambda: generation() > before, "the checkpoint of the interval", timeout=30, step=0.5)
    mount.kill()
    mount.fsck()
    mount.start()
    assert read_file(mount.path / "f") == pattern(10_000)


def test_replaced_file_is_old_or_new_but_whole_after_a_kill(mount, kill9):
    """write, rename over, no fsync at all: the state is that of a prefix of the requests, so never a mixture."""
    write_file(mount.path / "f", b"old" * 1000)
    mount.sync()
    for i in range(5):
        write_file(mount.path / "new", b"%03d" % i * 5000)
        os.rename(mount.path / "new", mount.path / "f")
        kill9()
        data = read_file(mount.path / "f")
        assert data[:3] * (len(data) // 3) == data and len(data) in (3000, 15_000)
