# SPDX-License-Identifier: MIT
"""Permission checks for other users (by the kernel, with default_permissions)."""

import os
import stat

import pytest
from helpers.files import attempt, read_file, write_file

pytestmark = [pytest.mark.root, pytest.mark.options("allow_other")]
ALICE, BOB = 12_345, 23_456


@pytest.fixture
def d(mnt):
    os.chmod(mnt, 0o777)
    write_file(mnt / "secret", b"root's")
    os.chmod(mnt / "secret", 0o600)
    write_file(mnt / "public", b"for all")
    os.chmod(mnt / "public", 0o644)
    os.mkdir(mnt / "closed", 0o700)
    write_file(mnt / "closed/f", b"")
    return mnt


@pytest.mark.parametrize(
    ("code", "name", "expected"),
    [
        ("os.open(p, os.O_RDONLY)", "secret", "EACCES"),
        ("os.open(p, os.O_RDONLY)", "public", "OK"),
        ("os.open(p, os.O_WRONLY)", "public", "EACCES"),
        ("os.truncate(p, 0)", "public", "EACCES"),
        ("os.chmod(p, 0o777)", "public", "EPERM"),
        ("os.chown(p, 12345, 12345)", "public", "EPERM"),
        ("os.utime(p, ns=(1, 1))", "public", "EPERM"),
        ("os.utime(p)", "public", "EACCES"),
        ("os.setxattr(p, 'user.a', b'')", "public", "EACCES"),
        ("os.listdir(p)", "closed", "EACCES"),
        ("os.stat(p)", "closed/f", "EACCES"),
        ("os.unlink(p)", "closed/f", "EACCES"),
        ("os.setxattr(p, 'trusted.a', b'')", "public", "EPERM"),
        ("os.mknod(p, 0o20666, os.makedev(1, 3))", "device", "EPERM"),
    ],
)
def test_another_user_may_do_what_the_mode_allows(d, code, name, expected):
    assert attempt(ALICE, code, d / name) == expected
    assert read_file(d / "public") == b"for all"


def test_files_belong_to_who_makes_them(d, remount):
    assert attempt(ALICE, "os.close(os.open(p, os.O_CREAT | os.O_WRONLY, 0o600))", d / "hers") == "OK"
    assert attempt(ALICE, "os.mkdir(p)", d / "her-dir") == "OK"
    remount()
    for name in ("hers", "her-dir"):
        assert (os.stat(d / name).st_uid, os.stat(d / name).st_gid) == (ALICE, ALICE)
    assert attempt(BOB, "os.open(p, os.O_RDONLY)", d / "hers") == "EACCES"
    assert attempt(ALICE, "os.open(p, os.O_RDWR)", d / "hers") == "OK"


def test_read_only_file_can_be_created_and_written_by_its_owner(d):
    code = "fd = os.open(p, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o444); os.write(fd, b'object')"
    assert attempt(ALICE, code, d / "object") == "OK"
    assert read_file(d / "object") == b"object"
    assert attempt(ALICE, "os.open(p, os.O_WRONLY)", d / "object") == "EACCES"


def test_in_a_sticky_directory_only_owners_remove(d):
    os.mkdir(d / "tmp")
    os.chmod(d / "tmp", 0o1777)
    for name in ("one", "two"):
        assert attempt(ALICE, "os.close(os.open(p, os.O_CREAT | os.O_WRONLY, 0o666))", d / "tmp" / name) == "OK"
    assert attempt(BOB, "os.unlink(p)", d / "tmp/one") == "EPERM"
    assert attempt(BOB, "os.rename(p, p + '2')", d / "tmp/one") == "EPERM"
    assert attempt(ALICE, "os.rename(p, p + '2')", d / "tmp/one") == "OK"
    assert attempt(ALICE, "os.unlink(p)", d / "tmp/two") == "OK"


def test_in_a_sticky_directory_only_owners_replace(d):
    os.mkdir(d / "tmp")
    os.chmod(d / "tmp", 0o1777)
    make = "os.close(os.open(p, os.O_CREAT | os.O_WRONLY, 0o666))"
    for who, name in ((ALICE, "hers"), (BOB, "his")):
        assert attempt(who, make, d / "tmp" / name) == "OK"
    assert attempt(ALICE, "os.mkdir(p)", d / "tmp/her-dir") == "OK"
    assert attempt(BOB, "os.rename(p, p[:-3] + 'hers')", d / "tmp/his") == "EPERM"
    assert attempt(BOB, "os.rmdir(p)", d / "tmp/her-dir") == "EPERM"
    assert attempt(BOB, "os.link(p, p + '2')", d / "tmp/his") == "OK"
    assert sorted(os.listdir(d / "tmp")) == ["her-dir", "hers", "his", "his2"]
    os.chmod(d / "tmp", 0o777)
    assert attempt(BOB, "os.rename(p, p[:-3] + 'hers')", d / "tmp/his") == "OK"
    assert attempt(BOB, "os.rmdir(p)", d / "tmp/her-dir") == "OK"


def test_write_by_another_user_strips_set_id_bits(d):
    write_file(d / "program", b"#!")
    os.chmod(d / "program", 0o6777)
    assert attempt(ALICE, "fd = os.open(p, os.O_WRONLY); os.write(fd, b'changed')", d / "program") == "OK"
    assert stat.S_IMODE(os.stat(d / "program").st_mode) == 0o777


def test_truncate_by_another_user_strips_set_id_bits(d):
    write_file(d / "program", b"#!" * 100)
    os.chmod(d / "program", 0o6777)
    assert attempt(ALICE, "os.truncate(p, 3)", d / "program") == "OK"
    assert stat.S_IMODE(os.stat(d / "program").st_mode) == 0o777


def test_change_of_mode_is_seen_at_once(d):
    assert attempt(ALICE, "os.open(p, os.O_RDONLY)", d / "public") == "OK"
    os.chmod(d / "public", 0o600)
    assert attempt(ALICE, "os.open(p, os.O_RDONLY)", d / "public") == "EACCES"
    os.chown(d / "public", ALICE, -1)
    assert attempt(ALICE, "os.open(p, os.O_RDONLY)", d / "public") == "OK"
