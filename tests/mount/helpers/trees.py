# SPDX-License-Identifier: MIT
"""Descriptions of whole trees, to compare one with another or with what it was."""

import hashlib
import os
import stat

import pytest

from helpers.libc import errno_name


def _xattrs(path):
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError as error:
        return errno_name(error)
    wanted = sorted(n for n in names if n.startswith("user."))
    return tuple((n, os.getxattr(path, n, follow_symlinks=False)) for n in wanted)


def _content(path, info):
    if stat.S_ISLNK(info.st_mode):
        return os.readlink(path)
    if stat.S_ISREG(info.st_mode):
        digest = hashlib.sha1()
        with open(path, "rb", buffering=0) as f:
            while block := f.read(1 << 20):
                digest.update(block)
        return f"{info.st_size} bytes, sha1 {digest.hexdigest()}"
    if stat.S_ISCHR(info.st_mode) or stat.S_ISBLK(info.st_mode):
        return f"device {os.major(info.st_rdev)}:{os.minor(info.st_rdev)}"
    return ""


def describe(root, *, owners=True, times=False):
    """Every path below root (bytes, relative) with mode, links, content, xattrs and what it is a hard link of."""
    root = os.fsencode(root)
    found = {}
    first_path = {}
    pending = [b""]
    while pending:
        relative = pending.pop()
        path = os.path.join(root, relative) if relative else root
        info = os.lstat(path)
        is_dir = stat.S_ISDIR(info.st_mode)
        entry = [
            ("mode", oct(info.st_mode)),
            ("links", 0 if is_dir else info.st_nlink),
            ("content", _content(path, info)),
            ("xattrs", _xattrs(path)),
        ]
        if owners:
            entry.append(("owner", (info.st_uid, info.st_gid)))
        if times:
            entry.append(("mtime", info.st_mtime_ns))
        found[relative] = dict(entry)
        if is_dir:
            names = os.listdir(path)
            assert len(set(names)) == len(names), f"a name appears twice in {path}"
            pending += [os.path.join(relative, n) for n in names]
        elif info.st_nlink > 1:
            first_path.setdefault(info.st_ino, []).append(relative)
    for paths in first_path.values():
        for path in paths:
            found[path]["hard link of"] = min(paths)
    return found


def differences(expected, found, limit=12):
    """Lines that say in what two descriptions differ; none when they are equal."""
    lines = []
    for path in sorted(expected.keys() | found.keys()):
        if path not in found:
            lines.append(f"missing: {path!r}")
        elif path not in expected:
            lines.append(f"not expected: {path!r}")
        elif expected[path] != found[path]:
            for key in expected[path].keys() | found[path].keys():
                a, b = expected[path].get(key), found[path].get(key)
                if a != b:
                    lines.append(f"{path!r}: {key} is {b!r}, expected {a!r}")
    return lines[:limit] + ([f"... and {len(lines) - limit} more"] if len(lines) > limit else [])


def assert_same_tree(expected_root, found_root, **kw):
    lines = differences(describe(expected_root, **kw), describe(found_root, **kw))
    if lines:
        pytest.fail(f"{found_root} differs from {expected_root}:\n" + "\n".join(lines))


def make_sample(root):
    """A small tree with one of everything that an ordinary user can make."""
    root = os.fspath(root)

    def put(name, data, mode=0o644):
        path = os.path.join(root, name)
        with open(path, "wb") as f:
            f.write(data)
        os.chmod(path, mode)
        return path

    os.mkdir(f"{root}/dir", 0o755)
    os.mkdir(f"{root}/dir/inner", 0o750)
    os.mkdir(f"{root}/empty", 0o700)
    put("dir/small", b"small\n", 0o600)
    put("dir/empty", b"")
    put("dir/program", b"#!/bin/sh\necho ran\n", 0o755)
    put("dir/inner/blocks", hashlib.shake_128(b"blocks").digest(70_000), 0o444)
    with open(f"{root}/dir/sparse", "wb") as f:
        f.seek(3 << 20)
        f.write(b"end")
    os.link(f"{root}/dir/small", f"{root}/dir/inner/small-too")
    os.symlink("inner/blocks", f"{root}/dir/link")
    os.symlink("/nowhere/at/all", f"{root}/dir/dangling")
    os.mkfifo(f"{root}/dir/fifo", 0o640)
    put("dir/name with space, ü and \udcff\n", b"odd name")
    os.setxattr(f"{root}/dir/small", "user.note", b"kept\0bytes")
    for path, when in ((f"{root}/dir/small", 1_000_000_000_123_456_789), (f"{root}/dir", 1_200_000_000_000_000_001)):
        os.utime(path, ns=(when, when))
