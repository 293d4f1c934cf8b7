# SPDX-License-Identifier: MIT
"""mount(8) and umount(8): types, /etc/fstab, options, offsets, remounts, as root and as a user."""

import os
import subprocess

import pytest
from helpers.commands import run
from helpers.files import pattern, read_file, write_file
from helpers.mounts import daemons_of, is_running, wait_for

pytestmark = pytest.mark.root

USER, OTHER_USER = 64_711, 64_712


@pytest.fixture
def point(work):
    path = work / "point"
    path.mkdir()
    return path


def _options(space, point):
    return set(space.entry(point)[2].split(","))


@pytest.mark.parametrize("fstype", ["mapfs", "fuse.mapfs"])
def test_mount_by_type_shows_the_image_and_the_type(space, work, point, fstype):
    image = space.mkfs(work / "image")
    space.run("mount", "-t", fstype, image, point)
    source, shown, options = space.entry(point)
    assert (source, shown) == (os.fspath(image), "fuse.mapfs")
    assert options.startswith("rw,")
    write_file(space.path(point) / "f", pattern(100_000))
    space.run("umount", point)
    assert space.entry(point) is None
    # Comes back at once, though the daemon may still be finishing.
    space.run("mount", "-t", fstype, image, point)
    assert read_file(space.path(point) / "f") == pattern(100_000)


def test_line_of_fstab_is_mounted_by_its_directory_and_by_mount_a(space, work, point):
    image = space.mkfs(work / "image")
    line = f"{image} {point} mapfs defaults,noatime,commit=2,nofail,_netdev,x-systemd.requires=x,comment=disk 0 0\n"
    space.path("/etc/fstab").write_text(line)
    space.run("mount", point)
    assert space.entry(point)[0] == os.fspath(image)
    assert "noatime" in _options(space, point)
    assert not {"nosuid", "nodev"} & _options(space, point), "`defaults` of root is suid and dev"
    space.run("umount", point)
    space.run("mount", "--all", "-t", "mapfs")
    assert space.entry(point) is not None
    space.run("umount", image)
    assert space.entry(point) is None


def test_user_mounts_and_unmounts_a_line_of_fstab_with_user_noauto(space, work, point):
    home = space.add_user("tester", USER)
    space.add_user("other", OTHER_USER)
    os.chown(point, USER, USER)
    image = space.mkfs(home / "image", uid=USER)
    space.path("/etc/fstab").write_text(f"{image} {point} mapfs user,noauto 0 0\n")
    space.run("mount", "--all")
    assert space.entry(point) is None
    space.run("mount", point, uid=USER)
    assert space.entry(point)[:2] == (os.fspath(image), "fuse.mapfs")
    assert {"nosuid", "nodev", "noexec", f"user_id={USER}"} <= _options(space, point)
    space.run("touch", point / "f", uid=USER)
    refused = space.run("umount", point, uid=OTHER_USER, check=False)
    assert refused.status != 0 and space.entry(point) is not None
    space.run("umount", point, uid=USER)
    assert space.entry(point) is None
    space.run("mount", point, uid=USER)
    space.mapfs("umount", point, uid=USER)
    assert space.entry(point) is None and not daemons_of(image)


def test_user_mounts_an_image_without_fstab_on_a_directory_of_theirs_alone(space, work, point):
    home = space.add_user("tester", USER)
    image = space.mkfs(home / "image", uid=USER)
    result = space.run("mount", "-t", "mapfs", image, point, uid=USER, check=False)
    assert result.status == 32 and str(point) in result.err and space.entry(point) is None
    os.chown(point, USER, USER)
    space.run("mount", "-t", "mapfs", image, point, uid=USER)
    assert {"nosuid", "nodev"} <= _options(space, point)
    space.run("umount", point, uid=USER)
    assert space.entry(point) is None


def test_fake_mount_checks_the_options_and_mounts_nothing(space, work, point):
    image = space.mkfs(work / "image")
    space.run("mount", "-f", "-n", "-s", "-v", "-t", "mapfs", "-o", "frobnicate", image, point)
    result = space.run("mount", "-f", "-t", "mapfs", "-o", "frobnicate", image, point, check=False)
    assert result.status != 0 and "frobnicate" in result.err
    assert space.entry(point) is None and not daemons_of(image)


GENERIC = (
    "rw,async,atime,auto,noauto,defaults,dev,exec,suid,group,iversion,noiversion,mand,nomand,_netdev,nofail,relatime,"
    "norelatime,strictatime,nostrictatime,lazytime,nolazytime,diratime,nodiratime,nosuid,nodev,noexec,noatime,silent,"
    "loud,owner,user,user=root,nouser,users,nousers,sync,dirsync,x-systemd.automount,X-mount.mkdir,x-initrd.mount,"
    "comment=one,uhelper=x,context=system_u:object_r:tmp_t:s0,default_permissions,allow_other,fsname=x,subtype=y,"
)


def test_generic_options_are_taken_by_the_helper(build, work, image, new_mount):
    mount = new_mount(image)
    build.run("mount.fuse.mapfs", image, mount.path, "-s", "-n", "-v", "-t", "fuse.mapfs", "-o", GENERIC)
    mount.note_daemon()
    line = run(["findmnt", "-nro", "SOURCE,FSTYPE,OPTIONS", "--mountpoint", mount.path]).out.split()
    assert line[:2] == [os.fspath(image), "fuse.mapfs"]
    wanted = {"nosuid", "nodev", "noexec", "noatime", "sync", "dirsync", "allow_other"}
    assert wanted <= set(line[2].split(","))
    write_file(mount.path / "f", b"x")


def test_failures_have_the_exit_status_of_mount_8(build, work, image):
    """Without mount(8), which hands them on."""
    (work / "dir").mkdir()
    for status, argv in (
        (1, [image]),
        (1, [image, work / "dir", "-o", "commit=soon"]),
        (1, [image, work / "dir", "-t", "ext4"]),
        (1, [image, work / "dir", "-x"]),
        (32, [work / "missing", work / "dir"]),
        (32, [image, work / "nowhere"]),
    ):
        result = build.run("mount.mapfs", *argv, check=False)
        assert result.status == status and "mount.mapfs: " in result.err, result


def test_two_images_in_one_file_are_mounted_and_checked_beside_each_other(space, build, work):
    disk, one, two = work / "disk", work / "one", work / "two"
    one.mkdir()
    two.mkdir()
    os.truncate(os.open(disk, os.O_CREAT | os.O_WRONLY), 192 << 20)
    for offset in ("1M", "65M"):
        build.mkfs(disk, "--offset", offset, size="64M")
        space.note_image(disk, "--offset", offset)
    space.run("mount", "-t", "mapfs", "-o", "offset=1M", disk, one)
    space.mapfs("mount", "-o", "offset=65M", disk, two)
    # The source is the file, and not a loop device that mount(8) makes of it.
    assert space.entry(one)[0] == space.entry(two)[0] == os.fspath(disk)
    assert os.fspath(disk) not in run(["losetup", "--all"]).out
    write_file(space.path(one) / "f", b"one")
    write_file(space.path(two) / "f", b"two")
    assert read_file(space.path(one) / "f") == b"one"
    for offset, point in (("1M", one), ("65M", two)):
        told = space.mapfs("info", "--offset", offset, disk).out
        assert "it is mounted at" in told
        refused = space.run(build.program("fsck.mapfs"), "-n", "--offset", offset, disk, check=False)
        assert refused.status != 0 and "busy" in refused.err
        refused = space.mapfs("mount", "-o", f"offset={offset}", disk, work, check=False)
        assert refused.status != 0 and "busy" in refused.err
    space.mapfs("umount", one)
    build.fsck(disk, "--offset", "1M")
    space.run("mount", "-t", "fuse.mapfs", "-o", "ro,loop,offset=1M", disk, one)
    assert read_file(space.path(one) / "f") == b"one"
    assert space.entry(one)[0] == os.fspath(disk)


def test_remount_changes_what_the_kernel_decides_and_tells_what_it_cannot(space, work, point):
    image = space.mkfs(work / "image")
    space.run("mount", "-t", "mapfs", image, point)
    write_file(space.path(point) / "f", pattern(50_000))
    space.run("mount", "-o", "remount,ro", point)
    with pytest.raises(OSError, match="Read-only"):
        write_file(space.path(point) / "g", b"x")
    # All is durable then: whoever kills the machine next loses nothing.
    (pid,) = daemons_of(image)
    os.kill(pid, 9)
    wait_for(lambda: not is_running(pid), "the killed daemon to end")
    space.run("umount", "--lazy", point)
    space.run("mount", "-t", "mapfs", image, point)
    assert read_file(space.path(point) / "f") == pattern(50_000)

    space.run("mount", "-o", "remount,noexec,nosuid", point)
    assert {"rw", "noexec", "nosuid"} <= _options(space, point)
    told = space.run("mount", "-o", "remount,exec,commit=9", point).err
    assert "commit" in told and "noexec" not in _options(space, point)
    with open(space.path(point) / "f", "r+b"):
        busy = space.run("mount", "-o", "remount,ro", point, check=False)
        assert busy.status == 32 and "busy" in busy.err


def test_remount_by_mapfs_mount_changes_what_it_names_alone(build, mount):
    def options():
        line = run(["findmnt", "-nro", "OPTIONS", "--mountpoint", mount.path]).out
        return set(line.strip().split(","))

    build.run("mapfs", "mount", "-o", "remount,noexec", mount.image, mount.path)
    assert {"rw", "noexec", "nosuid", "nodev"} <= options()
    build.run("mapfs", "mount", "-o", "remount,ro,dev", mount.image, mount.path)
    assert {"ro", "noexec", "nosuid"} <= options() and "nodev" not in options()
    build.run("mapfs", "mount", "-o", "remount,rw,exec", mount.image, mount.path)
    assert {"rw", "nosuid"} <= options() and "noexec" not in options()
    write_file(mount.path / "f", b"x")


@pytest.mark.parametrize("by", ["mount", "mapfs"])
def test_remount_of_what_was_bound_read_only_keeps_it_so(space, work, point, by):
    """The mount is read-only then, and its filesystem is not."""
    image = space.mkfs(work / "image")
    space.run("mount", "-t", "mapfs", image, point)
    space.run("mount", "-o", "remount,bind,ro", point)
    assert "ro" in _options(space, point)
    if by == "mount":
        space.run("mount", "-o", "remount,noexec", point)
    else:
        space.mapfs("mount", "-o", "remount,noexec", image, point)
    assert {"ro", "noexec"} <= _options(space, point)
    with pytest.raises(OSError, match="Read-only"):
        write_file(space.path(point) / "g", b"x")
    space.mapfs("mount", "-o", "remount,rw", image, point)
    write_file(space.path(point) / "g", b"x")


def test_remount_tells_of_each_option_that_would_change_once(space, work, point):
    image = space.mkfs(work / "image")
    space.path("/etc/fstab").write_text(f"{image} {point} mapfs cache=writeback,view=shared 0 0\n")
    space.run("mount", point)
    told = space.mapfs("mount", "-o", "remount,ro,cache=writeback,view=shared", image, point)
    assert "these stay" not in told.err
    told = space.mapfs("mount", "-o", "remount,ro,commit=1,cache=through,commit=2", image, point)
    assert told.err.rstrip().endswith(": commit,cache"), told


def test_remount_of_a_read_only_view_for_writing_is_refused(space, work, point):
    image = space.mkfs(work / "image")
    space.run("mount", "-t", "mapfs", "-o", "ro", image, point)
    result = space.run("mount", "-o", "remount,rw", point, check=False)
    assert result.status == 32 and "unmount" in result.err
    assert "ro" in _options(space, point)
    result = space.mapfs("mount", "-o", "remount,ro", image, work, check=False)
    assert result.status == 1 and "no mapfs is mounted there" in result.err


def test_mount_in_another_mount_namespace(space, work, point):
    image = space.mkfs(work / "image")
    with subprocess.Popen(space.command(["unshare", "--mount", "sleep", "600"])) as other:
        inside = f"/proc/{other.pid}/ns/mnt"
        # It goes into the space first, and has a namespace of its own when it runs what it is for.
        wait_for(lambda: open(f"/proc/{other.pid}/comm").read() == "sleep\n", "the namespace")
        space.run("mount", "-N", str(other.pid), "-t", "mapfs", image, point)
        assert space.entry(point) is None
        run(["nsenter", f"--mount={inside}", "touch", point / "f"])
        run(["nsenter", f"--mount={inside}", space.build.program("mapfs"), "umount", point])
        other.kill()
    assert not daemons_of(image)
    space.run("mount", "-t", "mapfs", image, point)
    assert os.listdir(space.path(point)) == ["f"]


def test_daemon_of_mount_8_has_a_session_of_its_own(space, work, point):
    image = space.mkfs(work / "image")
    space.run("mount", "-t", "mapfs", image, point)
    (pid,) = daemons_of(image)
    fields = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()
    assert int(fields[3]) == pid or int(fields[3]) != os.getsid(0)
    assert fields[4] == "0", "it has a terminal"
    assert {os.readlink(f"/proc/{pid}/fd/{n}") for n in range(3)} == {"/dev/null"}
