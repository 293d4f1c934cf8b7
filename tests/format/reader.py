#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""A second reader of mapfs images, written from docs/FORMAT.md alone and sharing nothing with the program.

    reader.py [--offset BYTES] list IMAGE             one line of JSON for each path
    reader.py [--offset BYTES] compare IMAGE DIR      compares with a directory: names, types, attributes, contents, xattrs

It reads whole files into memory in pieces and trusts the checksums; damage ends it with a message and exit status 1."""

import argparse
import ctypes
import hashlib
import json
import os
import stat
import struct
import sys

BLOCK = 4096
ROOT = 1
KIND_INODE, KIND_XATTR, KIND_INLINE, KIND_EXTENT, KIND_DIRENT = 1, 2, 3, 4, 5
KIND_GROUP, KIND_PENDING = 16, 20
GROUPS, PENDING = (1 << 63) + 1, (1 << 63) + (1 << 62)
GROUP_BLOCKS = 32256
UNWRITTEN, SHARED = 1, 2
OBJECT_SHARED, KIND_SHARED, FEATURE_SHARED = (1 << 63) + 3, 18, 1
DIRENT_TYPES = {1: stat.S_IFIFO, 2: stat.S_IFCHR, 4: stat.S_IFDIR, 6: stat.S_IFBLK, 8: stat.S_IFREG, 10: stat.S_IFLNK,
                12: stat.S_IFSOCK}
EPOCH_SECONDS = -(1 << 31)
PIECE = 256  # blocks read at once


XXHASH = ctypes.CDLL('libxxhash.so.0')
XXHASH.XXH3_64bits_withSeed.restype = ctypes.c_uint64
XXHASH.XXH3_64bits_withSeed.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint64]


class Damage(Exception):
    pass


def require(condition, text):
    if not condition:
        raise Damage(text)


def hash64(data, seed):
    return XXHASH.XXH3_64bits_withSeed(data, len(data), seed)


def checksum(block, seed):
    return hash64(block[:8] + bytes(8) + block[16:], seed)


def unpack(layout, data, offset=0):
    return struct.unpack_from('<' + layout, data, offset)


class Superblock:
    LAYOUT = '8sQIIQQQ16sQQQQQQQQQQQQIIQQQQQQQQQ64sQI'

    def __init__(self, block):
        (_, self.checksum, self.version, self.block_size, self.generation, self.epoch, self.lsn, self.uuid, _, _,
         self.incompat, self.n_blocks, self.log_start, self.log_blocks, self.log_nonce, self.log_sequence, self.log_head,
         self.log_previous, self.root_address, self.root_generation, self.root_level, _, self.next_ino, self.hash_seed,
         self.checksum_seed, self.n_free, self.n_pending, self.n_inodes, _, _, _, self.label, self.written_checksum,
         n_written) = unpack(self.LAYOUT, block)
        require(n_written <= 236, 'too many runs of written blocks')
        self.written = [unpack('QI', block, 320 + 16 * index) for index in range(n_written)]


class Inode:
    def __init__(self, value):
        (self.size, self.n_blocks, self.flags, self.atime, self.mtime, self.ctime, self.btime, self.change, self.parent,
         self.rdev, self.mode, self.uid, self.gid, self.nlink, self.n_xattrs, self.project) = unpack('10Q6I', value)
        require(len(value) == 128, 'an inode is not 128 bytes long')

    def mtime_ns(self):
        return self.mtime + EPOCH_SECONDS * 10**9


class Image:
    def __init__(self, path, offset):
        self.file = open(path, 'rb')
        self.offset = offset
        self.superblock = self.find_superblock()
        require(self.find_batch() is None, 'the log holds a batch, which this reader does not apply')
        self.items = {}  # object -> {(kind, offset): value}
        self.used = set()
        self.walk(self.superblock.root_address, self.superblock.root_generation, self.superblock.root_level, None, None)

    def read(self, block, n_blocks=1):
        self.file.seek(self.offset + block * BLOCK)
        data = self.file.read(n_blocks * BLOCK)
        require(len(data) == n_blocks * BLOCK, f'block {block} lies past the end of the file')
        return data

    def is_whole(self, superblock):
        found = superblock.checksum_seed
        for block, n_blocks in superblock.written:
            found = hash64(self.read(block, n_blocks), found)
        return not superblock.written or found == superblock.written_checksum

    def find_superblock(self):
        valid = []
        for slot in (0, 1):
            block = self.read(slot)
            if block[:8] != b'mapfs\r\n\x1a':
                continue
            found = Superblock(block)
            if found.checksum != checksum(block, 0):
                continue
            require(found.version == 1 and found.block_size == BLOCK, 'another version of the format')
            require(found.incompat & ~FEATURE_SHARED == 0, 'unknown features')
            if found.generation & 1 != slot:
                continue
            valid.append(found)
        valid.sort(key=lambda superblock: superblock.generation)
        if len(valid) == 2 and not self.is_whole(valid[-1]):
            valid.pop()
        require(valid, 'no valid superblock')
        return valid[-1]

    def find_batch(self):
        superblock = self.superblock
        for place in {superblock.log_head, 0}:
            log = self.read(superblock.log_start + place, superblock.log_blocks - place)
            magic, length, stored, nonce, sequence, previous = unpack('IIQQQQ', log)
            if (magic == 0x4c50414d and 128 <= length <= len(log) and nonce == superblock.log_nonce and
                    sequence == superblock.log_sequence and previous == superblock.log_previous and
                    stored == checksum(log[:length], superblock.checksum_seed)):
                return place
        return None

    def read_node(self, address, generation, level):
        require(2 <= address < self.superblock.n_blocks, f'a pointer leads to block {address}')
        require(address not in self.used, f'block {address} is met twice')
        self.used.add(address)
        node = self.read(address)
        magic, its_level, _, n_items, stored, its_address, its_generation, owner = unpack('IBBHQQQQ', node)
        require(stored == checksum(node, self.superblock.checksum_seed), f'block {address}: wrong checksum')
        require((magic, its_level, its_address, its_generation, owner) == (0x4e50414d, level, address, generation, 1),
                f'block {address} is not the node that was pointed to')
        return node, n_items

    def walk(self, address, generation, level, lower, upper):
        node, n_items = self.read_node(address, generation, level)
        if level == 0:
            self.walk_leaf(node, n_items, lower, upper)
            return
        pointers = []
        for index in range(n_items):
            its_object, its_offset, kind, child, child_generation = unpack('QQB7xQQ', node, 64 + 40 * index)
            require(child_generation <= generation, f'block {address}: a child is younger than its parent')
            pointers.append(((its_object, kind, its_offset), child, child_generation))
        for index, (key, child, child_generation) in enumerate(pointers):
            below = upper if index + 1 == n_items else pointers[index + 1][0]
            require(index == 0 or lower is None or lower <= key, f'block {address}: a pointer before the range of its node')
            require(index < 2 or pointers[index - 1][0] < key, f'block {address}: its pointers do not rise')
            self.walk(child, child_generation, level - 1, lower if index == 0 else key, below)

    def walk_leaf(self, node, n_items, lower, upper):
        end, previous = BLOCK, None
        for index in range(n_items):
            its_object, its_offset, kind, _, start, length, _ = unpack('QQBBHHH', node, 64 + 24 * index)
            key = (its_object, kind, its_offset)
            require(start + length == end and start >= 64 + 24 * n_items, 'values of a leaf are not in their places')
            require(previous is None or previous < key, 'keys of a leaf do not rise')
            require(lower is None or lower <= key, 'a key lies before the range of its leaf')
            require(upper is None or key < upper, 'a key lies after the range of its leaf')
            self.items.setdefault(its_object, {})[(kind, its_offset)] = node[start:start + length]
            end, previous = start, key

    # --- inodes ---

    def inode(self, ino):
        value = self.items.get(ino, {}).get((KIND_INODE, 0))
        require(value is not None, f'there is no inode {ino}')
        return Inode(value)

    def items_of(self, ino, kind):
        found = [(offset, value) for (its_kind, offset), value in self.items[ino].items() if its_kind == kind]
        return sorted(found)

    def entries(self, ino):
        names = {}
        for offset, value in self.items_of(ino, KIND_DIRENT):
            child, its_type, length = unpack('QBB', value)
            name = value[16:16 + length]
            require(len(value) == 16 + length and length > 0, 'an entry is not as long as its name')
            hashed = hash64(name, self.superblock.hash_seed) >> 5 or 1
            require(offset >> 4 == hashed, f'{name!r} lies at the wrong hash')
            require(name not in names and name not in (b'.', b'..') and b'/' not in name, f'a bad name: {name!r}')
            require(DIRENT_TYPES.get(its_type) == stat.S_IFMT(self.inode(child).mode), f'{name!r} has the wrong type')
            names[name] = child
        require(len(names) == self.inode(ino).size, f'directory {ino} counts its entries wrongly')
        return names

    def xattrs(self, ino):
        chunks = {}
        for offset, value in self.items_of(ino, KIND_XATTR):
            chunks.setdefault(offset >> 8, []).append((offset & 255, value))
        result = {}
        for base, parts in chunks.items():
            require([number for number, _ in parts] == list(range(len(parts))), 'chunks of an xattr are missing')
            require(all(len(value) == 1920 for _, value in parts[:-1]), 'a chunk of an xattr is not full')
            whole = b''.join(value for _, value in parts)
            length, name_length = unpack('IB', whole)
            name = whole[8:8 + name_length]
            require(len(whole) == 8 + name_length + length, 'an xattr is not as long as it says')
            require(base >> 4 == hash64(name, self.superblock.hash_seed) >> 12, f'xattr {name!r} lies at the wrong hash')
            result[name.decode(errors='surrogateescape')] = whole[8 + name_length:]
        require(len(result) == self.inode(ino).n_xattrs, f'inode {ino} counts its xattrs wrongly')
        return result

    def inline(self, ino):
        data = b''
        for offset, value in self.items_of(ino, KIND_INLINE):
            require(offset == len(data), 'a gap in inline data')
            data += value
        return data

    def pieces(self, ino):
        """The file's bytes as (offset, bytes) of what is not zero by a hole or an unwritten extent."""
        size = self.inode(ino).size
        data = self.inline(ino)
        if data:
            require(len(data) == size, f'inline data of inode {ino} are not as long as the file')
            yield 0, data
            return
        for logical, value in self.items_of(ino, KIND_EXTENT):
            block, n_blocks, flags = unpack('QII', value)
            if flags & UNWRITTEN:
                continue
            for first in range(0, n_blocks, PIECE):
                start = (logical + first) * BLOCK
                if start >= size:
                    break
                data = self.read(block + first, min(PIECE, n_blocks - first))
                require(not any(data[size - start:][:BLOCK]), f'bytes past the end of inode {ino} are not zero')
                yield start, data[:size - start]

    def digest(self, ino):
        """SHA-256 of the file with its holes as zeros, up to 1 GiB of it."""
        sha, position, size = hashlib.sha256(), 0, self.inode(ino).size
        for start, data in self.pieces(ino):
            add_zeros(sha, start - position)
            sha.update(data)
            position = start + len(data)
        add_zeros(sha, size - position)
        return sha.hexdigest()

    def tree(self):
        """Yields (path, inode number), the root as b''; a directory met twice is damage."""
        seen, waiting = set(), [(b'', ROOT)]
        while waiting:
            path, ino = waiting.pop()
            yield path, ino
            if not stat.S_ISDIR(self.inode(ino).mode):
                continue
            require(ino not in seen, f'directory {ino} is met twice')
            seen.add(ino)
            for name, child in self.entries(ino).items():
                waiting.append((path + b'/' + name if path else name, child))

    # --- space ---

    def check_space(self):
        """Every block is marked if and only if something uses it."""
        superblock = self.superblock
        used = set(self.used) | {0, 1} | set(range(superblock.log_start, superblock.log_start + superblock.log_blocks))
        expected = len(used)

        def add(block, n_blocks):
            nonlocal expected
            used.update(range(block, block + n_blocks))
            expected += n_blocks

        for block in self.shared_blocks():
            add(block, 1)
        for its_object, items in self.items.items():
            for (kind, _), value in items.items():
                if its_object < 1 << 48 and kind == KIND_EXTENT:
                    block, n_blocks, flags = unpack('QII', value)
                    if not flags & SHARED:
                        add(block, n_blocks)
                elif its_object == GROUPS and kind == KIND_GROUP:
                    add(unpack('Q', value)[0], 1)
                elif its_object > PENDING and kind == KIND_PENDING:
                    for offset in range(0, len(value), 16):
                        add(*unpack('QI', value, offset))
        require(len(used) == expected, 'blocks are in use twice')
        marked = self.marked_blocks()
        require(marked == used, f'marked, but not used: {sorted(marked - used)[:5]}; used, but not marked: '
                                f'{sorted(used - marked)[:5]}')
        require(superblock.n_free == superblock.n_blocks - len(used), 'the superblock counts the free blocks wrongly')

    def shared_blocks(self):
        """The blocks of all extents that are marked as shared; how many of these have each is what the items say."""
        found, counted = {}, {}
        for its_object, items in self.items.items():
            for (kind, offset), value in items.items():
                if its_object < 1 << 48 and kind == KIND_EXTENT:
                    block, n_blocks, flags = unpack('QII', value)
                    require(flags in (0, UNWRITTEN, SHARED), f'an extent has flags {flags}')
                    for shared in range(block, block + n_blocks if flags == SHARED else block):
                        found[shared] = found.get(shared, 0) + 1
                elif its_object == OBJECT_SHARED and kind == KIND_SHARED:
                    n_blocks, n_refs, reserved = unpack('QII', value)
                    require(n_blocks > 0 and n_refs >= 2 and reserved == 0, 'a count of shared blocks is not well formed')
                    for shared in range(offset, offset + n_blocks):
                        require(shared not in counted, f'shared block {shared} is counted twice')
                        counted[shared] = n_refs
        require({block: n for block, n in found.items() if n > 1} == counted, 'shared blocks are counted wrongly')
        require(not found or self.superblock.incompat & FEATURE_SHARED, 'blocks are shared without the feature')
        return found

    def marked_blocks(self):
        marked = set()
        for (_, group), value in self.items.get(GROUPS, {}).items():
            address, generation, n_free = unpack('QQI', value)
            bitmap = self.read(address)
            magic, _, _, _, stored, its_address, its_generation, owner = unpack('IBBHQQQQ', bitmap)
            require(stored == checksum(bitmap, self.superblock.checksum_seed), f'bitmap {group}: wrong checksum')
            require((magic, its_address, its_generation, owner) == (0x4250414d, address, generation, group),
                    f'block {address} is not the bitmap of group {group}')
            bits = int.from_bytes(bitmap[64:], 'little')
            require(GROUP_BLOCKS - bits.bit_count() == n_free, f'group {group} counts its free blocks wrongly')
            first = group * GROUP_BLOCKS
            marked.update(first + bit for bit in range(GROUP_BLOCKS)
                          if bits >> bit & 1 and first + bit < self.superblock.n_blocks)
        return marked


def add_zeros(sha, n_bytes):
    require(n_bytes < 1 << 30, 'the file is too long for this reader')
    while n_bytes > 0:
        sha.update(bytes(min(n_bytes, 1 << 20)))
        n_bytes -= 1 << 20


def facts(image, ino):
    inode = image.inode(ino)
    result = {'mode': inode.mode, 'uid': inode.uid, 'gid': inode.gid, 'mtime': inode.mtime_ns(),
              'xattrs': {name: value.hex() for name, value in sorted(image.xattrs(ino).items())}}
    if stat.S_ISREG(inode.mode):
        result |= {'size': inode.size, 'nlink': inode.nlink, 'sha256': image.digest(ino)}
    if stat.S_ISLNK(inode.mode):
        target = image.inline(ino)
        require(len(target) == inode.size, f'the target of {ino} is not as long as its size')
        result['target'] = os.fsdecode(target)
    if stat.S_ISCHR(inode.mode) or stat.S_ISBLK(inode.mode):
        result['device'] = [inode.rdev >> 32, inode.rdev & 0xffffffff]
    return result


def facts_of_file(path):
    st = os.lstat(path)
    result = {'mode': st.st_mode, 'uid': st.st_uid, 'gid': st.st_gid, 'mtime': st.st_mtime_ns,
              'xattrs': {name: os.getxattr(path, name, follow_symlinks=False).hex()
                         for name in sorted(os.listxattr(path, follow_symlinks=False))}}
    if stat.S_ISREG(st.st_mode):
        with open(path, 'rb') as file:
            sha = hashlib.file_digest(file, 'sha256').hexdigest()
        result |= {'size': st.st_size, 'nlink': st.st_nlink, 'sha256': sha}
    if stat.S_ISLNK(st.st_mode):
        result['target'] = os.readlink(os.fsdecode(path))
    if stat.S_ISCHR(st.st_mode) or stat.S_ISBLK(st.st_mode):
        result['device'] = [os.major(st.st_rdev), os.minor(st.st_rdev)]
    return result


def directory_tree(top):
    yield b''
    for path, directories, files in os.walk(top):
        for name in directories + files:
            yield os.path.relpath(os.path.join(path, name), top)


def compare(image, top):
    """Prints each difference; returns how many there are. The root's mtime and mode belong to whoever made the image."""
    differences = 0
    inside = dict(image.tree())
    outside = set(directory_tree(os.fsencode(top)))
    for path in sorted(set(inside) | outside):
        name = os.fsdecode(path)
        if path not in inside or path not in outside:
            print(f'{name}: only in the {"image" if path in inside else "directory"}')
            differences += 1
            continue
        if path == b'':
            continue
        here, there = facts(image, inside[path]), facts_of_file(os.path.join(os.fsencode(top), path))
        for key in here:
            if here[key] != there[key]:
                print(f'{name}: {key} is {here[key]} in the image, {there[key]} in the directory')
                differences += 1
    return differences, len(inside)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--offset', type=int, default=0)
    parser.add_argument('command', choices=['list', 'compare'])
    parser.add_argument('image')
    parser.add_argument('directory', nargs='?')
    arguments = parser.parse_args()
    try:
        image = Image(arguments.image, arguments.offset)
        image.check_space()
        if arguments.command == 'compare':
            differences, n_paths = compare(image, arguments.directory)
            print(f'{n_paths} paths, {differences} differences')
            return 1 if differences else 0
        for path, ino in sorted(image.tree()):
            print(json.dumps({'path': os.fsdecode(path) or '.', 'ino': ino} | facts(image, ino)))
    except (Damage, struct.error) as error:
        print(f'{arguments.image}: {error}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
