#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Repair by the command fsck.mapfs: which mode mends what, where images may lie, who may, and what a killed run leaves.
Argument: the build directory."""

import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile

import reader

BUILD = pathlib.Path(sys.argv[1])
BLOCK = 4096
NOBODY = 65534
failures = 0


def fsck(*words, user=None, image, program=BUILD / 'fsck.mapfs'):
    result = subprocess.run([program, *map(str, words), image], capture_output=True, text=True, check=False,
                            timeout=120, user=user)
    expect(result.stderr == '', 'nothing on stderr, which is no terminal', result)
    return result


def expect(condition, what, result):
    global failures
    if not condition:
        failures += 1
        print(f'not so: {what}\nstatus {result.returncode}\n{result.stdout}{result.stderr}')


def make(work, *words):
    """An image with a tree of several levels in it."""
    source, image = work / 'source', work / 'image'
    if not source.exists():
        rng = random.Random(1)
        for directory in range(6):
            (source / str(directory)).mkdir(parents=True)
            for number in range(60):
                (source / str(directory) / f'{number}-{"n" * 80}').write_bytes(rng.randbytes(number * 40))
    image.unlink(missing_ok=True)
    subprocess.run([BUILD / 'mkfs.mapfs', '-s', '64M', '-d', source, *words, image], check=True, capture_output=True,
                   timeout=60)
    return image


class Damaged:
    """An image's bytes, to be changed."""

    def __init__(self, image, offset=0):
        self.path, self.offset = image, offset
        self.data = bytearray(image.read_bytes())
        self.superblock = max((reader.Superblock(self.block(slot)) for slot in (0, 1) if any(self.block(slot))),
                              key=lambda superblock: superblock.generation)

    def block(self, number):
        at = self.offset + number * BLOCK
        return self.data[at:at + BLOCK]

    def store(self, number, block):
        at = self.offset + number * BLOCK
        self.data[at:at + BLOCK] = block

    def store_miscounted(self):
        """One more free block than there is, in a superblock with a right checksum: nothing is lost by mending that."""
        slot = self.superblock.generation % 2
        block = self.block(slot)
        block[192:200] = (self.superblock.n_free + 1).to_bytes(8, 'little')
        block[8:16] = reader.checksum(bytes(block), 0).to_bytes(8, 'little')
        self.store(slot, block)
        self.path.write_bytes(self.data)
        return self

    def store_value_changed(self, name, at, byte):
        """Another byte in the value of the extended attribute of this name, in leaves with right checksums."""
        at_name = self.data.find(name)
        while at_name >= 0:
            number = at_name // BLOCK
            block = self.block(number)
            if block[:4] == b'MAPN':
                block[block.index(name) + len(name) + at] = byte
                block[8:16] = reader.checksum(bytes(block), self.superblock.checksum_seed).to_bytes(8, 'little')
                self.store(number, block)
            at_name = self.data.find(name, (number + 1) * BLOCK)
        self.path.write_bytes(self.data)

    def store_without_root(self):
        self.store(self.superblock.root_address, bytes(BLOCK))
        self.path.write_bytes(self.data)
        return self


def expect_clean(image, *words):
    result = fsck('-n', *words, image=image)
    expect(result.returncode == 0, 'clean afterwards', result)


def test_safe_repair(work):
    image = make(work)
    damaged = Damaged(image).store_miscounted()
    result = fsck('-n', image=image)
    expect(result.returncode == 4 and 'problem 81:' in result.stdout, 'problem 81', result)
    expect(image.read_bytes() == damaged.data, '-n changes nothing', result)
    result = fsck('-p', image=image)
    expect(result.returncode == 1, '-p mends what loses nothing', result)
    expect_clean(image)
    reader.Image(image, 0).check_space()


def test_safe_repair_leaves_the_rest(work):
    image = make(work)
    damaged = Damaged(image).store_without_root()
    result = fsck('-p', image=image)
    expect(result.returncode == 4 and 'it takes -y' in result.stdout, '-p does not mend a lost node', result)
    expect(image.read_bytes() == damaged.data, 'and changes nothing', result)


def test_full_repair(work):
    image = make(work)
    before = {path: reader.Image(image, 0).digest(ino) for path, ino in reader.Image(image, 0).tree() if path.count(b'/')}
    Damaged(image).store_without_root()
    result = fsck('-y', '--json', image=image)
    facts = json.loads(result.stdout)
    expect(result.returncode == 1 and facts['repaired'] and facts['clean'], '-y mends it', result)
    expect(facts['repairs'] and all(set(entry) == {'kind', 'first_ino', 'last_ino', 'message'} for entry in facts['repairs']),
           'repairs in JSON', result)
    expect_clean(image)
    after = reader.Image(image, 0)
    after.check_space()
    found = {path: after.digest(ino) for path, ino in after.tree() if path.count(b'/')}
    expect(found == before, 'a lost root costs no file', result)


def test_offset(work):
    image = make(work, '--offset', '1M')
    with open(image, 'r+b') as file:
        file.write(b'of somebody else' * 1000)
    head = image.read_bytes()[:1 << 20]
    Damaged(image, 1 << 20).store_without_root()
    result = fsck('-y', '--offset', '1M', image=image)
    expect(result.returncode == 1, 'repaired at an offset', result)
    expect_clean(image, '--offset', '1M')
    expect(image.read_bytes()[:1 << 20] == head, 'what lies before it stays', result)


def test_users(work):
    """Who may not write the image may check it, and is told why it is not repaired."""
    if os.geteuid() != 0:
        print('# not root: no other user to try')
        return
    work.chmod(0o755)
    image = make(work)
    damaged = Damaged(image).store_without_root()
    image.chmod(0o444)
    # The build may lie in a directory that is closed to others, as home directories are.
    program = shutil.copy2(BUILD / 'fsck.mapfs', work / 'fsck.mapfs')
    result = fsck('-y', image=image, user=NOBODY, program=program)
    expect(result.returncode == 4 and 'may not be written' in result.stdout, 'a read-only file is not repaired', result)
    expect(image.read_bytes() == damaged.data, 'nor changed', result)
    os.chown(image, NOBODY, NOBODY)
    image.chmod(0o600)
    result = fsck('-y', image=image, user=NOBODY, program=program)
    expect(result.returncode == 1, 'an ordinary user repairs an image of his own', result)
    expect_clean(image)


def test_block_device(work):
    if os.geteuid() != 0 or not os.path.exists('/dev/loop-control') or not shutil.which('losetup'):
        print('# no loop device can be had')
        return
    image = make(work)
    Damaged(image).store_without_root()
    attached = subprocess.run(['losetup', '-f', '--show', image], capture_output=True, text=True, check=False, timeout=60)
    if attached.returncode != 0:
        print(f'# {attached.stderr}')
        return
    try:
        result = fsck('-y', image=attached.stdout.strip())
        expect(result.returncode == 1, 'repaired on a block device', result)
    finally:
        subprocess.run(['losetup', '-d', attached.stdout.strip()], check=True, timeout=60)
    expect_clean(image)


def make_full(work):
    """An image that has no room for a second tree."""
    source, image = work / 'full', work / 'full-image'
    source.mkdir()
    for number in range(2600):
        (source / str(number)).write_bytes(random.Random(number).randbytes(1500))
    # The same image each time: its checkpoints do not depend on when they come.
    subprocess.run([BUILD / 'mkfs.mapfs', '-s', '8M', '-U', '01234567-89ab-4def-8123-456789abcdef', '-d', source, image], check=True,
                   capture_output=True, timeout=60, env={**os.environ, 'SOURCE_DATE_EPOCH': '1600000000'})
    return image


def test_full_image(work):
    """Without room for a new tree the state before is used as it is, if that is nearly the same."""
    image = make_full(work)
    Damaged(image).store_without_root()
    result = fsck('-y', image=image)
    expect(result.returncode == 1 and 'is whole and is used' in result.stdout, 'the state before is used', result)
    expect_clean(image)
    after = reader.Image(image, 0)
    after.check_space()
    expect(len(list(after.tree())) > 2600 * 9 // 10, 'nearly all of its files are there', result)


def test_full_image_without_state_before(work):
    """Then nothing is done. Blocks that were free may have been tried, nothing else is touched."""
    image = make_full(work)
    damaged = Damaged(image).store_without_root()
    damaged.store(1 - damaged.superblock.generation % 2, bytes(BLOCK))
    image.write_bytes(damaged.data)
    before = fsck('-n', image=image)
    result = fsck('-y', image=image)
    expect(result.returncode == 4 and 'too little free space' in result.stdout, 'there is no room', result)
    expect(image.read_bytes()[:2 * BLOCK] == damaged.data[:2 * BLOCK], 'the superblocks are as they were', result)
    expect(fsck('-n', image=image).stdout == before.stdout, 'and the damage is the same', result)


def test_killed(work):
    """A run that is killed at any moment leaves what the next one mends."""
    image = make(work)
    Damaged(image).store_without_root()
    damaged = image.read_bytes()
    rng = random.Random(2)
    for _ in range(6):
        image.write_bytes(damaged)
        with subprocess.Popen([BUILD / 'fsck.mapfs', '-y', image], stdout=subprocess.DEVNULL) as process:
            try:
                process.wait(rng.random() * 0.1)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
        result = fsck('-y', image=image)
        expect(result.returncode in (0, 1), 'a second run ends what a killed one began', result)
        expect_clean(image)


def mode_of(image, path):
    tree = reader.Image(image, 0)
    return oct(tree.inode(dict(tree.tree())[path]).mode & 0o7777)


def test_access_lists(work):
    """The mode follows a list that differs from it; a list that is none goes, and nobody gains access by that."""
    image, name = work / 'image', b'system.posix_acl_access'
    with tarfile.open(work / 'a.tar', 'w', format=tarfile.PAX_FORMAT) as archive:
        entry = tarfile.TarInfo('listed')
        entry.mode = 0o674
        entry.pax_headers = {'SCHILY.acl.access': 'user::rw-,user:1000:---,group::r-x,mask::rwx,other::r--'}
        archive.addfile(entry)
    subprocess.run([BUILD / 'mkfs.mapfs', '-s', '64M', '-d', work / 'a.tar', image], check=True, timeout=60)
    good = image.read_bytes()
    path = next(path for path, _ in reader.Image(image, 0).tree() if b'listed' in path)
    # A version, and five entries of tag, permissions and id: the mask is the fourth.
    Damaged(image).store_value_changed(name, 4 + 3 * 8 + 2, 5)
    result = fsck('-n', image=image)
    expect(result.returncode == 4 and 'problem 42:' in result.stdout, 'problem 42', result)
    expect(mode_of(image, path) == '0o674', 'the mode as it was', result)
    result = fsck('-p', image=image)
    expect(result.returncode == 1, '-p mends that', result)
    expect(mode_of(image, path) == '0o654', f'the mode that the list says, not {mode_of(image, path)}', result)
    expect_clean(image)
    image.write_bytes(good)
    Damaged(image).store_value_changed(name, 0, 7)
    result = fsck('-p', image=image)
    expect(result.returncode == 4 and 'problem 41:' in result.stdout, '-p does not take a list away', result)
    result = fsck('-y', image=image)
    expect(result.returncode == 1 and 'only the owner has access now' in result.stdout, '-y does', result)
    expect(mode_of(image, path) == '0o600', f'only its owner has access, not {mode_of(image, path)}', result)
    expect_clean(image)


def main():
    for test in (test_safe_repair, test_safe_repair_leaves_the_rest, test_full_repair, test_offset, test_users, test_block_device,
                 test_full_image, test_full_image_without_state_before, test_killed, test_access_lists):
        with tempfile.TemporaryDirectory(prefix='mapfs-repair-') as directory:
            test(pathlib.Path(directory))
    return 1 if failures else 0


sys.exit(main())
