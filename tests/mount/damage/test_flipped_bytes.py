# SPDX-License-Identifier: MIT
"""Random damage through real mounts: errors are allowed, a crash or a hang is not.

(tests/fuzz does this many times over within one process; here the kernel is in between.)
"""

import random
import shutil

import pytest
from helpers.commands import SLOW
from helpers.files import pattern, python, write_file
from helpers.trees import make_sample

BLOCK = 4096
# Walks the whole mount, reads everything, then tries to change things; any OSError but a dead daemon's is fine.
VISIT = """
import errno, os, sys
root = sys.argv[1]

def attempt(call, *args):
    try:
        return call(*args)
    except OSError as e:
        if e.errno in (errno.ENOTCONN, errno.ECONNABORTED, errno.ECONNREFUSED):
            sys.exit("the daemon is gone: %s" % e)

def visit(path, depth):
    info = attempt(os.lstat, path)
    for name in attempt(lambda: os.listxattr(path, follow_symlinks=False)) or []:
        attempt(lambda: os.getxattr(path, name, follow_symlinks=False))
    if info is None:
        return
    if info.st_mode & 0o170000 == 0o100000:
        attempt(read, path)
    elif info.st_mode & 0o170000 == 0o120000:
        attempt(os.readlink, path)
    elif info.st_mode & 0o170000 == 0o040000 and depth < 20:
        for name in (attempt(os.listdir, path) or [])[:500]:
            visit(os.path.join(path, name), depth + 1)

def read(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        at = 0
        while at < 8 << 20 and (data := os.pread(fd, 1 << 16, at)):
            at += len(data)
    finally:
        os.close(fd)

def write(path):
    fd = os.open(path, os.O_CREAT | os.O_WRONLY, 0o644)
    try:
        os.write(fd, b"x" * 100000)
        os.fsync(fd)
    finally:
        os.close(fd)

visit(root, 0)
for i in range(20):
    attempt(write, os.path.join(root, "new-%d" % i))
    attempt(os.mkdir, os.path.join(root, "dir-%d" % i))
for name in ("dir/small", "dir/empty", "dir/link", "dir/sparse"):
    attempt(os.rename, os.path.join(root, name), os.path.join(root, "moved"))
    attempt(os.unlink, os.path.join(root, "moved"))
attempt(os.truncate, os.path.join(root, "dir/inner/blocks"), 10)
visit(root, 0)
"""


@pytest.fixture
def used_image(build, work, new_mount):
    """An image of 16 MiB with a tree in it, unmounted."""
    image = work / "original"
    build.mkfs(image, size="16M")
    mount = new_mount(image, name="first").start()
    make_sample(mount.path)
    for i in range(300):
        write_file(mount.path / f"file-{i}", pattern(100 + i * 20, i))
    for i in range(0, 300, 3):
        (mount.path / f"file-{i}").unlink()
    mount.stop()
    return image


def _interesting_blocks(image):
    """The blocks that hold something; file data too."""
    data = image.read_bytes()
    zero = bytes(BLOCK)
    return [at // BLOCK for at in range(0, len(data), BLOCK) if data[at : at + BLOCK] != zero]


def _harm(image, rng, blocks):
    """One to eight changes, each a flipped bit, other bytes, or one block in the place of another."""
    with open(image, "r+b") as f:
        for _ in range(rng.choice((1, 1, 2, 8))):
            block = rng.choice(blocks)
            at = block * BLOCK + rng.choice((rng.randrange(BLOCK), rng.randrange(128)))
            kind = rng.random()
            f.seek(at)
            if kind < 0.5:
                byte = f.read(1)[0]
                f.seek(at)
                f.write(bytes([byte ^ 1 << rng.randrange(8)]))
            elif kind < 0.85:
                f.write(rng.choice((b"\0", b"\xff", rng.randbytes(1))) * rng.choice((1, 2, 4, 8, 64)))
            else:
                f.seek(rng.choice(blocks) * BLOCK)
                other = f.read(BLOCK)
                f.seek(block * BLOCK)
                f.write(other)


@pytest.mark.heavy
@pytest.mark.limit(300)
@pytest.mark.parametrize("seed", range(4))
def test_damaged_images_give_errors_and_no_crash(build, used_image, work, new_mount, seed):
    rng = random.Random(seed)
    blocks = _interesting_blocks(used_image)
    mount = new_mount(work / "harmed", name="mnt")
    mount.expect_trouble = True
    n_mounted = 0
    for n in range(max(3, int(10 / SLOW))):
        shutil.copy(used_image, mount.image)
        _harm(mount.image, rng, blocks)
        where = f"seed {seed}, image {n}"
        checked = build.run("fsck.mapfs", "-n", mount.image, check=False, timeout=30)
        assert checked.status & ~(4 | 8 | 16) == 0, f"{where}: {checked}"
        result = mount.try_start(timeout=30)
        if result.status != 0:
            assert result.err.strip(), f"{where}: refused without a word"
            continue
        n_mounted += 1
        visited = python(VISIT, mount.path, check=False, timeout=60)
        assert visited.status == 0 and mount.is_alive, f"{where}: {visited}"
        build.run("mapfs", "umount", mount.path, check=False, timeout=30)
        mount.finish()
    assert n_mounted > 0
