# SPDX-License-Identifier: MIT
"""Every limit is met with the error that ext4 gives, and nothing is damaged by meeting it."""

import errno
import os
import stat

import pytest
from helpers.commands import run
from helpers.files import fails_with, opened, pattern, python, read_file, write_file
from helpers.libc import RENAME_EXCHANGE, RENAME_NOREPLACE, RENAME_WHITEOUT, renameat2

LONG = "n" * 255
FILE_SIZE_MAX = 1 << 60


def test_no_operation_takes_a_name_of_256_bytes(mnt):
    write_file(mnt / "f", b"data")
    os.mkdir(mnt / "d")
    too_long = mnt / (LONG + "x")
    calls = [
        lambda: os.stat(too_long),
        lambda: os.open(too_long, os.O_CREAT | os.O_WRONLY),
        lambda: os.mkdir(too_long),
        lambda: os.mkfifo(too_long),
        lambda: os.symlink("target", too_long),
        lambda: os.link(mnt / "f", too_long),
        lambda: os.rename(mnt / "f", too_long),
        lambda: os.rename(mnt / "d", too_long),
        lambda: renameat2(mnt / "f", too_long, RENAME_NOREPLACE),
        lambda: renameat2(mnt / "f", too_long, RENAME_EXCHANGE),
        lambda: renameat2(mnt / "f", too_long, RENAME_WHITEOUT),
        lambda: renameat2(too_long, mnt / "g", 0),
        lambda: os.unlink(too_long),
        lambda: os.rmdir(too_long),
        lambda: os.readlink(too_long),
        lambda: os.getxattr(too_long, "user.a"),
    ]
    for call in calls:
        with fails_with(errno.ENAMETOOLONG):
            call()
    assert [n for n in sorted(os.listdir(mnt)) if n != "lost+found"] == ["d", "f"]
    os.rename(mnt / "f", mnt / LONG)
    os.rename(mnt / "d", mnt / ("d" * 255))
    assert read_file(mnt / LONG) == b"data"


def test_a_path_of_4095_bytes_works_and_one_of_4096_does_not(mnt, remount):
    # The mount point's own path is part of it, so the last name has the length that is left.
    path = os.fspath(mnt)
    while 4095 - len(path) > 1 + 250:
        path += "/" + "p" * 200
        os.mkdir(path)
    path += "/" + "f" * (4095 - len(path) - 1)
    assert len(path) == 4095
    write_file(path, b"deep")
    with fails_with(errno.ENAMETOOLONG):
        os.stat(path + "f")
    remount()
    assert read_file(path) == b"deep"


def test_a_symlink_of_4095_bytes_works_and_one_of_4096_does_not(mnt, remount):
    target = ("t" * 199 + "/") * 20 + "t" * 95
    assert len(target) == 4095
    os.symlink(target, mnt / "link")
    with fails_with(errno.ENAMETOOLONG):
        os.symlink(target + "t", mnt / "longer")
    with fails_with(errno.ENOENT):
        os.symlink("", mnt / "empty")
    remount()
    assert os.readlink(mnt / "link") == target
    with fails_with(errno.ENOENT, errno.ENAMETOOLONG):
        os.stat(mnt / "link")


def test_xattrs_whose_names_could_not_be_listed_are_refused(mnt, remount):
    path = mnt / "f"
    write_file(path, b"x")
    names = [f"user.{n:0250d}" for n in range(256)]
    for name in names:
        os.setxattr(path, name, b"v")
    with fails_with(errno.ENOSPC):
        os.setxattr(path, "user.more", b"v")
    assert run(["setfacl", "-m", "u:1000:r", path], check=False).status != 0
    os.setxattr(path, names[9], b"another value")
    os.removexattr(path, names[0])
    os.setxattr(path, "user.more", b"again room")
    remount()
    assert sorted(os.listxattr(path)) == sorted([*names[1:], "user.more"])


def test_the_largest_file_can_be_written_up_to_its_last_byte(mount):
    path = mount.path / "f"
    write_file(path, b"begin")
    with opened(path) as fd:
        os.ftruncate(fd, FILE_SIZE_MAX)
        assert os.pwrite(fd, b"end", FILE_SIZE_MAX - 3) == 3
        with fails_with(errno.EFBIG):
            os.ftruncate(fd, FILE_SIZE_MAX + 1)
        with fails_with(errno.EFBIG):
            os.pwrite(fd, b"x", FILE_SIZE_MAX)
        with fails_with(errno.EFBIG):
            os.pwrite(fd, b"x", (1 << 63) - 5)
        assert os.fstat(fd).st_size == FILE_SIZE_MAX
        # What fits is written, as everywhere.
        assert os.pwrite(fd, pattern(10_000), FILE_SIZE_MAX - 5000) == 5000
    with opened(path, os.O_WRONLY | os.O_APPEND) as fd, fails_with(errno.EFBIG):
        os.write(fd, b"more")
    mount.remount()
    with opened(path) as fd:
        assert os.fstat(fd).st_size == FILE_SIZE_MAX
        assert os.pread(fd, 10_000, FILE_SIZE_MAX - 5000) == pattern(10_000)[:5000]
        assert os.pread(fd, 5, 0) == b"begin"
        assert os.fstat(fd).st_blocks <= 64
    os.unlink(path)


def test_a_process_may_limit_the_size_of_its_files(mnt):
    code = (
        "import os, resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))\n"
        "fd = os.open(sys.argv[1], os.O_CREAT | os.O_RDWR)\n"
        "print(os.write(fd, bytes(20_000)))\n"
        "for call in (lambda: os.write(fd, b'x'), lambda: os.ftruncate(fd, 10_001)):\n"
        "    try:\n"
        "        call()\n"
        "    except OSError as e:\n"
        "        print(e.errno)\n"
    )
    assert python(code, mnt / "f").out.split() == ["10000", str(errno.EFBIG), str(errno.EFBIG)]
    assert os.stat(mnt / "f").st_size == 10_000


@pytest.mark.root
def test_device_numbers_up_to_the_largest_are_kept(mnt, remount):
    numbers = [(0, 0), (1, 3), (255, 255), (256, 256), (4095, 1_048_575)]
    for kind in (stat.S_IFCHR, stat.S_IFBLK):
        for major, minor in numbers:
            os.mknod(mnt / f"{kind}-{major}-{minor}", kind | 0o600, os.makedev(major, minor))
    remount()
    for kind in (stat.S_IFCHR, stat.S_IFBLK):
        for major, minor in numbers:
            info = os.stat(mnt / f"{kind}-{major}-{minor}")
            assert stat.S_IFMT(info.st_mode) == kind
            assert (os.major(info.st_rdev), os.minor(info.st_rdev)) == (major, minor)
