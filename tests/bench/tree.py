# SPDX-License-Identifier: MIT
"""A tar file of a made-up source tree: the same bytes on every machine, so that numbers can be compared."""

from __future__ import annotations

import io
import math
import random
import tarfile
from pathlib import Path

FILES_PER_DIRECTORY = 20
MEDIAN_BYTES = 3500
SIZE_SIGMA = 1.3
MAX_BYTES = 2**20
EPOCH = 1_700_000_000


def tree_make(target: Path, n_files: int) -> int:
    """Writes the tar file and returns the number of bytes in the files of the tree.

    Sizes follow a log-normal distribution with the median and spread of C source trees; directories are nested three
    deep.
    """
    source = random.Random(20)
    text = bytes(source.choices(b"abcdefghijklmnopqrstuvwxyz_(){};= \n", k=MAX_BYTES))
    n_bytes = 0
    with tarfile.open(target, "w", format=tarfile.USTAR_FORMAT) as tar:
        made: set[str] = set()
        for i in range(n_files):
            directory = i // FILES_PER_DIRECTORY
            path = f"tree/part{directory // 100:02d}/area{directory // 10 % 10}/unit{directory % 10}"
            _add_directories(tar, path, made)
            size = min(MAX_BYTES, int(source.lognormvariate(math.log(MEDIAN_BYTES), SIZE_SIGMA)))
            member = _member(f"{path}/source-file-{i:05d}.c", 0o644)
            member.size = size
            start = source.randrange(MAX_BYTES - size + 1)
            tar.addfile(member, io.BytesIO(text[start : start + size]))
            n_bytes += size
    return n_bytes


def _member(name: str, mode: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.mode = mode
    member.mtime = EPOCH
    return member


def _add_directories(tar: tarfile.TarFile, path: str, made: set[str]) -> None:
    parts = path.split("/")
    for depth in range(1, len(parts) + 1):
        name = "/".join(parts[:depth])
        if name in made:
            continue
        made.add(name)
        member = _member(name, 0o755)
        member.type = tarfile.DIRTYPE
        tar.addfile(member)
