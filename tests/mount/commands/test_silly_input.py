# SPDX-License-Identifier: MIT
"""What people type by mistake, and surroundings that lack something: one line that names the thing, the cause and the remedy."""

import os
import resource
import subprocess

import pytest
from helpers.commands import SLOW, Result, run
from helpers.files import pattern, read_file, write_file
from helpers.mounts import daemons_of, mount_entry, wait_for

OTHER_USER = 64_731

# As users may write them, and as they come out in messages.
ODD_NAMES = {
    "with space": "with space",
    "com,ma": "com,ma",
    "back\\slash": "back\\slash",
    "-dash": "-dash",
    "ümläut ☃": "ümläut ☃",
    "percent%s%n": "percent%s%n",
    "#hash": "#hash",
    "new\nline": "new\\012line",
    "esc\x1b[31m": "esc\\033[31m",
}


def _one_line(result, *wanted, status=None):
    assert result.status != 0 if status is None else result.status == status, result
    lines = [line for line in result.err.splitlines() if not line.startswith("Try '")]
    assert len(lines) == 1, f"not one line:\n{result}"
    for part in wanted:
        assert str(part) in lines[0], f"'{part}' is not named:\n{result}"


@pytest.mark.parametrize("name", ODD_NAMES, ids=range(len(ODD_NAMES)))
def test_names_with_odd_characters_work_everywhere_and_stay_one_line_in_messages(build, work, new_mount, name):
    image, shown = work / name, ODD_NAMES[name]
    build.mkfs(image, size="4M")
    mount = new_mount(image, f"{name}.mnt").start()
    assert mount_entry(mount.path)[1] == os.fspath(image)
    write_file(mount.path / "f", b"x")
    mount.sync()
    assert f"{work}/{shown}\n" in build.run("mapfs", "info", mount.path).out
    (work / "other").mkdir()
    _one_line(build.run("mapfs", "mount", image, work / "other", check=False), shown, "busy", mount.pid)
    _one_line(build.run("mapfs", "mount", image, work / name / "none", check=False), shown)
    mount.remount()
    mount.stop()
    checked = build.fsck(image).out
    assert len(checked.splitlines()) == 1 and shown in checked


def test_names_that_begin_with_a_dash_follow_two_dashes(build, work):
    build.run("mkfs.mapfs", "-s", "4M", "--", "-image", cwd=work)
    (work / "-mnt").mkdir()
    build.run("mapfs", "mount", "--", "-image", "-mnt", cwd=work)
    build.run("mapfs", "umount", "--", "-mnt", cwd=work)
    build.run("fsck.mapfs", "-n", "--", "-image", cwd=work)


def test_empty_names_are_called_empty(build, work, image):
    for argv in (["mount", "", work], ["info", ""], ["dump", ""], ["fsck", ""], ["mkfs", "-s", "4M", ""]):
        _one_line(build.run("mapfs", *argv, check=False), "empty")
    for argv in (["sync", ""], ["umount", ""], ["mount", image, ""]):
        _one_line(build.run("mapfs", *argv, check=False))


@pytest.mark.parametrize("what", ["/etc/passwd", "/dev/null", "text"])
def test_filling_from_what_is_no_archive_is_refused_and_leaves_no_image(build, work, what):
    write_file(work / "text", b"#mtree\nfile type=file\nanother line\n")
    source = work / what
    _one_line(build.run("mkfs.mapfs", "-s", "4M", "-d", source, work / "image", check=False), source)
    assert not (work / "image").exists()


@pytest.mark.parametrize("what", ["mapfs", "ext4"])
def test_image_within_another_filesystem_takes_force(build, work, what):
    disk = work / "disk"
    build.mkfs(disk, size="16M")
    if what == "ext4":
        run(["mkfs.ext4", "-q", "-F", disk])
    before = read_file(disk)
    _one_line(build.run("mkfs.mapfs", "-s", "4M", "--offset", "8M", disk, check=False), disk, what, "-f")
    assert read_file(disk) == before
    build.mkfs(disk, "--offset", "16M", size="4M")
    assert read_file(disk)[: 16 << 20] == before, "what lies before the offset has changed"
    build.mkfs(disk, "-f", "--offset", "8M", size="4M")


def test_image_within_a_mounted_one_is_refused_even_with_force(build, image, mount):
    write_file(mount.path / "f", pattern(1 << 20))
    _one_line(build.run("mkfs.mapfs", "-f", "-s", "4M", "--offset", "8M", image, check=False), image, "busy", mount.pid)
    mount.remount()
    assert read_file(mount.path / "f") == pattern(1 << 20)


@pytest.mark.parametrize("modes", ["-n -y", "-y -n", "-p -y", "-a -n"])
def test_checker_that_is_to_repair_and_not_to_repair_refuses(build, image, modes):
    before = read_file(image)
    _one_line(build.run("fsck.mapfs", *modes.split(), image, check=False), "only one", status=16)
    assert read_file(image) == before
    build.run("fsck.mapfs", "-p", "-a", image)


def _limited(build, name, *args, **limits):
    """Runs a command of the build with limits of resources, such as FSIZE=1000."""

    def limit():
        for kind, value in limits.items():
            resource.setrlimit(getattr(resource, f"RLIMIT_{kind}"), (value, value))

    with subprocess.Popen(
        [build.program(name), *args],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=limit,
        env=build.env(),
    ) as process:
        out, err = process.communicate(timeout=30 * SLOW)
    return Result(process.args, process.returncode, out, err)


def test_limits_of_file_sizes_and_descriptors_are_errors_like_others(build, work, image):
    _one_line(_limited(build, "mkfs.mapfs", "-s", "64M", work / "new", FSIZE=1 << 20), work / "new", "ulimit -f")
    assert not (work / "new").exists()
    _one_line(_limited(build, "fsck.mapfs", "-n", image, NOFILE=4), image, "ulimit -n", status=8)


def test_mount_works_with_hardly_any_locked_memory_files_or_file_size(build, image, new_mount):
    mount = new_mount(image)
    result = _limited(build, "mapfs", "mount", image, mount.path, MEMLOCK=0, FSIZE=4096, NOFILE=24)
    assert result.status == 0, result.err
    mount.note_daemon()
    write_file(mount.path / "f", pattern(3 << 20))
    mount.remount()
    assert read_file(mount.path / "f") == pattern(3 << 20)


def test_daemon_holds_nothing_that_its_caller_had_open(build, image, new_mount):
    mount = new_mount(image)
    reader, writer = os.pipe()
    with open(image.parent / "other", "w") as other:
        command = [build.program("mapfs"), "mount", image, mount.path]
        subprocess.run(
            command, check=True, pass_fds=[writer, other.fileno()], stdout=writer, env=build.env(), timeout=60 * SLOW
        )
    os.close(writer)
    mount.note_daemon()
    os.set_blocking(reader, False)
    assert os.read(reader, 1) == b"", "the daemon keeps a pipe of its caller open"
    os.close(reader)
    held = {os.readlink(f"/proc/{mount.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{mount.pid}/fd")}
    assert os.fspath(image.parent / "other") not in held


def test_commands_work_with_all_standard_streams_closed(build, work, new_mount):
    image = work / "image"
    mount = new_mount(image)
    closed = 'exec "$@" <&- >&- 2>&-'
    for argv in (["mkfs", "-s", "16M", image], ["mount", image, mount.path]):
        run(["sh", "-c", closed, "sh", build.program("mapfs"), *argv], env=build.env())
    mount.note_daemon()
    write_file(mount.path / "f", pattern(100_000))
    assert run(["sh", "-c", closed, "sh", build.program("mapfs"), "info", mount.path], check=False).status != 0
    run(["sh", "-c", closed, "sh", build.program("mapfs"), "umount", mount.path], env=build.env())
    assert mount_entry(mount.path) is None
    mount.forget()
    wait_for(lambda: not daemons_of(image), "the daemon to end")
    mount.start()
    assert read_file(mount.path / "f") == pattern(100_000)


def test_what_cannot_be_printed_is_a_failure(build, image):
    with open("/dev/full", "w") as full:
        for name, argv in (("mapfs", ["info", image]), ("mapfs", ["dump", image])):
            command = [build.program(name), *argv]
            assert subprocess.run(command, stdout=full, env=build.env(), check=False).returncode == 1


def test_mount_point_may_be_busy_or_filled_and_is_free_again_afterwards(build, image, work, new_mount):
    mount = new_mount(image, "filled")
    write_file(mount.path / "below", b"below")
    mount.start()
    assert os.listdir(mount.path) == []
    build.mkfs(work / "upper", size="16M")
    upper = new_mount(work / "upper", "filled").start()
    write_file(upper.path / "upper", b"")
    build.run("mapfs", "umount", mount.path)
    upper.forget()
    assert os.listdir(mount.path) == [], "umount takes the topmost"
    build.run("mapfs", "umount", mount.path)
    mount.forget()
    assert os.listdir(mount.path) == ["below"]


def test_image_lies_in_a_mount_of_another_image(build, mount, new_mount):
    inner_image = mount.path / "inner"
    build.mkfs(inner_image, size="32M")
    inner = new_mount(inner_image, "inner-mnt").start()
    write_file(inner.path / "f", pattern(4 << 20))
    busy = build.run("mapfs", "umount", mount.path, check=False)
    _one_line(busy, mount.path, "busy")
    inner.remount()
    assert read_file(inner.path / "f") == pattern(4 << 20)


@pytest.fixture
def loop_device(work):
    """A function: a loop device of a file of the test, with more options of losetup."""
    devices = []

    def make(*options):
        (work / "disk").touch()
        os.truncate(work / "disk", 32 << 20)
        devices.append(run(["losetup", *options, "--find", "--show", work / "disk"]).out.strip())
        return devices[-1]

    yield make
    for device in devices:
        run(["losetup", "--detach", device])


@pytest.mark.root
def test_device_that_the_kernel_has_mounted_is_refused_even_with_force(build, work, loop_device):
    device = loop_device()
    run(["mkfs.ext4", "-q", device])
    (work / "ext4").mkdir()
    run(["mount", device, work / "ext4"])
    try:
        for argv in (["mkfs", "-f", device], ["fsck", "-y", device], ["mount", device, work]):
            _one_line(build.run("mapfs", *argv, check=False), device, "busy")
    finally:
        run(["umount", work / "ext4"])
    run(["e2fsck", "-f", "-n", device])


@pytest.mark.root
def test_read_only_device_is_told_and_can_be_read(build, work, loop_device, new_mount):
    build.mkfs(work / "disk", size="32M")
    device = loop_device("--read-only")
    mount = new_mount(device)
    _one_line(mount.try_start(), device, "read-only", "-o ro")
    _one_line(build.run("mkfs.mapfs", "-f", device, check=False), device, "read-only")
    build.fsck(device)
    mount.options = "ro"
    mount.start().stop()


def test_device_that_is_not_there_is_not_made_as_a_file(build):
    device = "/dev/mapfs-test-no-such-device"
    _one_line(build.run("mkfs.mapfs", "-s", "4M", device, check=False), device, "no such device")
    assert not os.path.exists(device)


@pytest.mark.parametrize("command", ["info", "dump", "fsck", "mkfs"])
def test_offset_that_is_no_multiple_of_a_block_is_told(build, image, command):
    _one_line(build.run("mapfs", command, "--offset", "1000", image, check=False), "1000", "4096")


# What a user meets who may not do a thing.


@pytest.mark.root
def test_user_is_told_what_mounting_needs(build, work, user, user_mount):
    (work / "roots").mkdir()
    os.chown(work / "roots", 0, 0)
    user_mount.stop()
    image = user_mount.image
    refused = build.run("mapfs", "mount", image, work / "roots", check=False, uid=user)
    _one_line(refused, work / "roots", "no write access", "directory that is yours")
    with open("/etc/fuse.conf") as conf:
        others_allowed = any(line.strip() == "user_allow_other" for line in conf)
    if not others_allowed:
        refused = build.run("mapfs", "mount", "-o", "allow_other", image, user_mount.path, check=False, uid=user)
        _one_line(refused, user_mount.path, "allow_other", "/etc/fuse.conf")
    user_mount.start()


@pytest.mark.root
def test_mount_of_a_user_is_refused_to_others_by_name(build, user, user_mount):
    for command in ("info", "sync", "umount"):
        refused = build.run("mapfs", command, user_mount.path, check=False, uid=OTHER_USER)
        _one_line(refused, user_mount.path, f"user {user}")
    for command in ("info", "sync"):
        _one_line(build.run("mapfs", command, user_mount.path, check=False), user_mount.path, "allow_other")
    build.run("mapfs", "umount", user_mount.path)
    user_mount.forget()
    user_mount.start()


@pytest.mark.root
def test_unmounting_without_etc_mtab_is_told_with_the_remedy(build, user, user_mount):
    """fusermount3 reads it; a bare debootstrap does not have it."""
    bare_etc = f"mount -t tmpfs none /etc; echo user:x:{user}:{user}::/:/bin/sh >/etc/passwd; chmod 755 /etc"
    refused = _in_namespace(build, bare_etc, "umount", user_mount.path, uid=user, kept=user_mount.path)
    _one_line(refused, user_mount.path, "/etc/mtab", "ln -s")
    user_mount.remount()


def _in_namespace(build, script, *argv, uid=None, kept=""):
    """A command of the build where a script has taken something away from its mount namespace."""
    who = [] if uid is None else ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
    # Copies of what other tests have mounted would keep their daemons. Some may go away by themselves meanwhile.
    others = f"findmnt -rno TARGET -t fuse.mapfs | grep -vxF '{kept}' | xargs -r -n 1 umount --internal-only --lazy || true"
    shell = ["sh", "-euc", f'{others}; {script}\nexec "$@"', "sh", *who, build.program("mapfs"), *argv]
    return run(["unshare", "--mount", "--propagation", "private", *shell], check=False, env=build.env())


@pytest.mark.root
def test_missing_and_wrong_fuse_devices_and_fusermount_are_told(build, work, user, user_mount):
    user_mount.stop()
    mount = ["mount", user_mount.image, user_mount.path]
    bare_dev = "mount -t tmpfs none /dev; mknod -m 666 /dev/null c 1 3; mknod -m 666 /dev/urandom c 1 9;"
    for script, wanted in (
        (bare_dev, "modprobe fuse"),
        (f"{bare_dev} touch /dev/fuse", "mknod"),
        (f"{bare_dev} mknod -m 666 /dev/fuse c 10 222", "mknod"),
        (f"{bare_dev} mknod -m 600 /dev/fuse c 10 229", "chmod 0666"),
        ("mount --bind /dev/null /usr/bin/fusermount3", "apt-get install fuse3"),
    ):
        _one_line(_in_namespace(build, script, *mount, uid=user), wanted)
    assert not daemons_of(user_mount.image) and mount_entry(user_mount.path) is None
    user_mount.start()
