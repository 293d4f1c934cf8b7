# SPDX-License-Identifier: MIT
"""Everything basic as an ordinary user, through fusermount3."""

import os

import pytest
from helpers.files import attempt, python
from helpers.mounts import mount_entry

# What the user does in the mount; prints a line per step that worked.
SESSION = """
import os, sys, mmap, fcntl
os.chdir(sys.argv[1])
fd = os.open("object", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o444)
os.write(fd, b"read-only object")
os.close(fd)
assert open("object", "rb").read() == b"read-only object"
os.mkdir("d", 0o755)
with open("d/f", "wb") as f:
    f.write(bytes(range(256)) * 1000)
    f.flush()
    os.fsync(f.fileno())
os.symlink("d/f", "link")
os.link("d/f", "hard")
os.rename("hard", "d/moved")
os.mkfifo("fifo")
os.setxattr("d/f", "user.note", b"mine")
os.chmod("d/f", 0o600)
os.utime("d/f", ns=(1, 2))
os.truncate("d/moved", 1000)
with open("d/f", "r+b") as f:
    fcntl.flock(f, fcntl.LOCK_EX)
    with mmap.mmap(f.fileno(), 0) as m:
        m[0:4] = b"mmap"
        m.flush()
    f.seek(0)
    assert f.read(4) == b"mmap"
os.unlink("link")
assert sorted(n for n in os.listdir(".") if n != "lost+found") == ["d", "fifo", "object"]
info = os.stat("d/f")
assert (info.st_uid, info.st_gid) == (os.getuid(), os.getgid())
try:
    os.chown("d/f", 0, 0)
except PermissionError:
    print("done")
"""


def test_user_works_in_a_mount_of_their_own(user_mount, user):
    assert python(SESSION, user_mount.path, uid=user).out == "done\n"
    user_mount.remount()
    check = "import os, sys; p = sys.argv[1] + '/d/f'; print(os.stat(p).st_size, os.getxattr(p, 'user.note').decode())"
    assert python(check, user_mount.path, uid=user).out == "1000 mine\n"


def test_mount_of_a_user_is_in_the_table_as_theirs(user_mount, user):
    fstype, source, options = mount_entry(user_mount.path)
    assert (fstype, source) == ("fuse.mapfs", os.path.realpath(user_mount.image))
    assert f"user_id={user}" in options.split(",")
    assert {"nosuid", "nodev"} <= set(options.split(","))


@pytest.mark.root
def test_nobody_else_sees_into_a_mount_of_a_user(user_mount):
    """Without allow_other not even another user's stat of the mount point works."""
    assert attempt(12_345, "os.listdir(p)", user_mount.path) == "EACCES"


def test_user_syncs_kills_and_mounts_again(user_mount, user):
    write = "import sys; open(sys.argv[1] + '/f', 'w').write('kept')"
    python(write, user_mount.path, uid=user)
    user_mount.sync()
    user_mount.kill()
    user_mount.fsck()
    user_mount.start()
    assert python("import sys; print(open(sys.argv[1] + '/f').read())", user_mount.path, uid=user).out == "kept\n"


def test_user_asks_for_facts_about_mount_and_image(user_mount, user):
    result = user_mount.build.run("mapfs", "info", user_mount.path, uid=user)
    assert str(user_mount.image) in result.out
    user_mount.stop()
    user_mount.build.run("mapfs", "info", user_mount.image, uid=user)


@pytest.mark.root
def test_image_of_another_user_is_refused(build, image, work, user):
    os.chmod(image, 0o600)
    (work / "mnt").mkdir()
    os.chown(work / "mnt", user, -1)
    result = build.run("mapfs", "mount", image, work / "mnt", check=False, uid=user)
    assert result.status != 0
    assert str(image) in result.err and "ermission" in result.err


@pytest.mark.root
@pytest.mark.usefixtures("closed_fuse_device")
def test_closed_fuse_device_is_explained(build, work):
    """On machines without udev /dev/fuse is 0600: a user must be told that, not given a bare error."""
    uid = 65_534
    os.chown(work, uid, -1)
    build.mkfs(work / "image", size="64M", uid=uid)
    (work / "mnt").mkdir()
    os.chown(work / "mnt", uid, -1)
    result = build.run("mapfs", "mount", work / "image", work / "mnt", check=False, uid=uid)
    assert result.status != 0
    assert "/dev/fuse" in result.err
