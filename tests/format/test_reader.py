#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Images that mapfs has made, read by the second reader (reader.py) and compared with what went into them.

    test_reader.py mkfs|mount|damage BUILD

mkfs: an image filled by mkfs.mapfs -d. mount: an image changed through a mount, compared with the mount after a sync. damage: a
changed byte, which the reader must notice. Exit status 77: this machine cannot do it."""

import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile

READER = pathlib.Path(__file__).with_name('reader.py')
SKIPPED = 77


def run(*command, check=True):
    result = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, timeout=120)
    if check and result.returncode != 0:
        sys.exit(f'{command}: status {result.returncode}\n{result.stdout}{result.stderr}')
    return result


def try_xattr(path, name, value):
    try:
        os.setxattr(path, name, value, follow_symlinks=False)
    except OSError:
        print(f'no xattr {name} of {len(value)} bytes on this filesystem')


def fill(top):
    """Files of every kind, sizes around every limit."""
    rng = random.Random(1)
    for size in (0, 1, 1535, 1536, 1537, 4095, 4096, 4097, 70_000, 3_000_000):
        (top / f'file-{size}').write_bytes(rng.randbytes(size))
    with open(top / 'sparse', 'wb') as file:
        file.write(b'start')
        file.seek(10_000_000)
        file.write(b'middle')
        file.truncate(50_000_000)
    directory = top / 'directory'
    for depth in range(8):
        directory.mkdir(mode=0o700 + depth)
        (directory / ('n' * 255)).write_bytes(b'long name')
        (directory / '\N{SNOWMAN} name\twith\n\\things').write_text('odd name')
        directory = directory / f'deeper-{depth}'
    many = top / 'many'
    many.mkdir()
    for number in range(1000):
        (many / f'entry-{number}').write_text(str(number))
    os.link(top / 'file-4096', top / 'another-name')
    for length in (1, 100, 1536, 1537, 4095):
        os.symlink('t' * length, top / f'symlink-{length}')
    os.mkfifo(top / 'fifo')
    if os.geteuid() == 0:
        os.mknod(top / 'device', 0o600 | 0o20000, os.makedev(300, 70_000))
        os.chown(top / 'file-1', 1234, 4_000_000_000)
    os.chmod(top / 'file-1', 0o6755)
    os.utime(top / 'file-1', ns=(0, 1_234_567_890_123_456_789))
    os.utime(top / 'file-1536', ns=(0, -1_000_000_001))
    for size in (0, 1, 1900, 3000):
        try_xattr(top / 'file-4097', f'user.value-{size}', rng.randbytes(size))


def change(top):
    """What mkfs cannot do: overwrite, cut, rename, remove, write into holes and past the end."""
    rng = random.Random(2)
    with open(top / 'file-3000000', 'r+b') as file:
        for _ in range(200):
            file.seek(rng.randrange(3_000_000))
            file.write(rng.randbytes(rng.randrange(1, 20_000)))
    with open(top / 'sparse', 'r+b') as file:
        file.seek(30_000_000)
        file.write(b'in the hole')
    os.truncate(top / 'file-70000', 5000)
    os.truncate(top / 'file-1537', 100)
    os.truncate(top / 'file-1', 9000)
    for number in range(0, 1000, 3):
        (top / 'many' / f'entry-{number}').unlink()
    for number in range(1, 1000, 3):
        os.rename(top / 'many' / f'entry-{number}', top / 'many' / f'renamed-{number}')
    shutil.move(top / 'directory' / 'deeper-0' / 'deeper-1', top / 'moved')
    try_xattr(top / 'file-4096', 'user.big', rng.randbytes(65_536))
    try_xattr(top / 'moved', 'user.of-directory', b'value')
    with open(top / 'file-4096', 'r+b') as file:
        os.posix_fallocate(file.fileno(), 0, 100_000)
    # Copies that share blocks, whole and in part; one of them changes afterwards.
    for number in range(3):
        run('cp', top / 'file-3000000', top / f'copy-{number}')
    with open(top / 'copy-1', 'r+b') as file:
        os.truncate(top / 'copy-1', 2_000_000)
        file.seek(1_000_000)
        file.write(rng.randbytes(20_000))
        with open(top / 'copy-2', 'rb') as source:
            os.copy_file_range(source.fileno(), file.fileno(), 1_000_000, 1 << 20, 100 << 20)


def compare(image, directory):
    result = run(READER, 'compare', image, directory, check=False)
    print(result.stdout + result.stderr)
    if result.returncode != 0:
        sys.exit('the second reader disagrees')


def make(build, work):
    source, image = work / 'source', work / 'image'
    source.mkdir()
    fill(source)
    run(build / 'mkfs.mapfs', '-s', '128M', '-d', source, image)
    return source, image


def test_mkfs(build, work):
    source, image = make(build, work)
    compare(image, source)
    run(build / 'fsck.mapfs', '-n', image)


def test_mount(build, work):
    if not os.path.exists('/dev/fuse'):
        print('no /dev/fuse')
        return SKIPPED
    _, image = make(build, work)
    point = work / 'mnt'
    point.mkdir()
    # It reads the image of a mount: no checkpoint may come meanwhile, whose next one takes these blocks.
    run(build / 'mapfs', 'mount', '-o', 'commit=3600', image, point)
    try:
        change(point)
        run(build / 'mapfs', 'sync', point)
        compare(image, point)
    finally:
        run(build / 'mapfs', 'umount', point)
    run(build / 'fsck.mapfs', '-n', image)
    return 0


def test_damage(build, work):
    _, image = make(build, work)
    data = bytearray(image.read_bytes())
    nodes = [at for at in range(0, len(data), 4096) if data[at:at + 4] == b'MAPN']
    if not nodes:
        sys.exit('the image has no nodes')
    missed = 0
    for node in nodes:
        data[node + 4090] ^= 1
        image.write_bytes(data)
        # Nodes that are not in use any more may hold anything.
        if run(READER, 'list', image, check=False).returncode == 0:
            missed += 1
            if run(build / 'fsck.mapfs', '-n', image, check=False).returncode != 0:
                sys.exit(f'the reader misses a damaged node at {node}')
        data[node + 4090] ^= 1
        if node > nodes[0] + 4096 * 40:
            break
    if missed > 10:
        sys.exit(f'{missed} damaged nodes were not noticed')


def main():
    build = pathlib.Path(sys.argv[2])
    with tempfile.TemporaryDirectory(prefix='mapfs-reader-') as directory:
        return {'mkfs': test_mkfs, 'mount': test_mount, 'damage': test_damage}[sys.argv[1]](build, pathlib.Path(directory))


sys.exit(main())
