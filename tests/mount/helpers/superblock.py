# SPDX-License-Identifier: MIT
"""Reads and patches superblocks, with the offsets of docs/FORMAT.md, and with a checksum that fits."""

import ctypes
import struct

BLOCK = 4096
MAGIC = b"mapfs\r\n\x1a"
# name: (offset, struct format)
FIELDS = {
    "magic": (0, "8s"),
    "checksum": (8, "<Q"),
    "version": (16, "<I"),
    "block_size": (20, "<I"),
    "generation": (24, "<Q"),
    "uuid": (48, "16s"),
    "feature_compat": (64, "<Q"),
    "feature_ro_compat": (72, "<Q"),
    "feature_incompat": (80, "<Q"),
    "n_blocks": (88, "<Q"),
    "log_start": (96, "<Q"),
    "log_blocks": (104, "<Q"),
    "root_address": (144, "<Q"),
    "root_generation": (152, "<Q"),
    "root_level": (160, "<I"),
    "next_ino": (168, "<Q"),
    "hash_seed": (176, "<Q"),
    "checksum_seed": (184, "<Q"),
}

_xxhash = ctypes.CDLL("libxxhash.so.0")
_xxhash.XXH3_64bits.restype = ctypes.c_uint64
_xxhash.XXH3_64bits.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
_xxhash.XXH3_64bits_withSeed.restype = ctypes.c_uint64
_xxhash.XXH3_64bits_withSeed.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint64]


def _checksum(block):
    cleared = block[:8] + bytes(8) + block[16:]
    return _xxhash.XXH3_64bits(cleared, len(cleared))


def read_slots(image):
    """The superblocks of an image whose checksum is right: {slot: {field: value}}."""
    found = {}
    with open(image, "rb") as f:
        for slot in (0, 1):
            block = f.read(BLOCK)
            if len(block) == BLOCK and block[:8] == MAGIC:
                values = {n: struct.unpack_from(form, block, at)[0] for n, (at, form) in FIELDS.items()}
                if values["checksum"] == _checksum(block):
                    found[slot] = values
    assert found, "no superblock slot of this image is valid by the offsets that the tests know"
    return found


def patch(image, *, seal=True, only=None, **values):
    """Sets fields in every valid slot, or in one; with seal=False the checksum is left as it was."""
    slots = read_slots(image)
    with open(image, "r+b") as f:
        for slot in slots if only is None else [only]:
            f.seek(slot * BLOCK)
            block = bytearray(f.read(BLOCK))
            for name, value in values.items():
                at, form = FIELDS[name]
                struct.pack_into(form, block, at, value)
            if seal:
                struct.pack_into("<Q", block, 8, _checksum(bytes(block)))
            f.seek(slot * BLOCK)
            f.write(block)


def index_node(address, level, child, superblock):
    """A node of a hundred pointers, all of them to the block `child`, with rising keys."""
    generation = superblock["root_generation"]
    block = bytearray(BLOCK)
    struct.pack_into("<4sBBHQQQQ", block, 0, b"MAPN", level, 0, 100, 0, address, generation, 1)
    for i in range(100):
        struct.pack_into("<QQB7xQQ", block, 64 + 40 * i, 0, i, 0, child, generation)
    checksum = _xxhash.XXH3_64bits_withSeed(bytes(block), len(block), superblock["checksum_seed"])
    struct.pack_into("<Q", block, 8, checksum)
    return bytes(block)
