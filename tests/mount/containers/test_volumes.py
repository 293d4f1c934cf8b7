# SPDX-License-Identifier: MIT
"""mount-scripts/container-volume with podman, as root and rootless. No registry is asked: the container's image is made here."""

import io
import os
import re
import shutil
import signal
import tarfile
from pathlib import Path

import pytest
from helpers.commands import for_all_users
from helpers.files import pattern, write_file
from helpers.mounts import daemons_of, is_running, wait_for

pytestmark = [pytest.mark.root, pytest.mark.heavy, pytest.mark.limit(300)]

SCRIPTS = Path(__file__).resolve().parents[3] / "mount-scripts"
APPLETS = "sh cat chown dd df echo id ls md5sum mkdir rm sleep stat sync touch true wc".split()
PODMAN_USER, FIRST_SUBUID = 64_721, 300_000_000
CONF = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
netns = "none"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
"""


def _busybox():
    path = shutil.which("busybox")
    if path is None or b"ld-linux" in Path(path).read_bytes()[:4096]:
        pytest.skip("there is no statically linked busybox to make a container's image from")
    return Path(path).read_bytes()


def _container_image(path):
    """A tar of a root directory with busybox alone."""
    files = {"etc/passwd": (b"root:x:0:0::/:/bin/sh\n", 0o644), "bin/busybox": (_busybox(), 0o755)}
    with tarfile.open(path, "w") as tar:
        for name in ("bin", "etc", "tmp"):
            directory = tarfile.TarInfo(name)
            directory.type, directory.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
            tar.addfile(directory)
        for name, (data, mode) in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), mode
            tar.addfile(entry, io.BytesIO(data))
        for name in APPLETS:
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    path.chmod(0o644)


class Podman:
    """podman with a storage of its own in the test's directory, as root or as a user with subordinate uids."""

    def __init__(self, space, uid):
        self.space, self.uid = space, uid
        self.home = space.add_user("podman", PODMAN_USER, FIRST_SUBUID) if uid else space.work / "podman"
        self.volumes = self.home / "volumes"
        runtime = self.home / "run"
        for directory in (self.home, runtime):
            directory.mkdir(exist_ok=True)
            os.chown(directory, uid or 0, uid or 0)
        runtime.chmod(0o700)
        # crun refuses version 1 and 2 of control groups at once.
        conf = CONF + ('runtime = "runc"\n' if os.path.isdir("/sys/fs/cgroup/unified") else "")
        (self.home / "containers.conf").write_text(conf)
        storage = f'[storage]\ndriver = "vfs"\nrunroot = "{runtime}/containers"\ngraphroot = "{self.home}/storage"\n'
        (self.home / "storage.conf").write_text(storage)
        self.env = space.build.env(
            HOME=os.fspath(self.home),
            # runc goes by it when it looks for the place of its state.
            USER="podman" if uid else "root",
            XDG_RUNTIME_DIR=os.fspath(runtime),
            CONTAINERS_CONF=os.fspath(self.home / "containers.conf"),
            CONTAINERS_STORAGE_CONF=os.fspath(self.home / "storage.conf"),
            MAPFS_BUILD=os.fspath(space.build.programs),
            MAPFS_VOLUMES=os.fspath(self.volumes),
        )
        self.script = for_all_users(SCRIPTS, ("container-volume",)) / "container-volume"
        self.has_run = False

    def __call__(self, *argv, **kw):
        self.has_run = True
        return self.space.run("podman", *argv, uid=self.uid, env=self.env, **kw)

    def volume(self, *argv, **kw):
        """container-volume ..."""
        self.has_run = True
        result = self.space.run(self.script, *argv, uid=self.uid, env=self.env, **kw)
        if argv[0] == "create" and result.status == 0:
            self.space.note_image(self.volumes / f"{argv[1]}.mapfs")
        return result

    def image(self, name):
        return self.volumes / f"{name}.mapfs"

    def daemon(self, name):
        return wait_for(lambda: daemons_of(self.image(name)), "the daemon of the volume", timeout=5)[0]

    def wait_unused(self, name):
        wait_for(lambda: not daemons_of(self.image(name)), "the volume's daemon to end")

    def prepare(self):
        _container_image(self.space.work / "rootfs.tar")
        steps = (("import", "--quiet", self.space.work / "rootfs.tar", "box"), ("run", "--rm", "box", "true"))
        for step in steps:
            result = self(*step, check=False)
            if result.status != 0:
                last = (result.err.strip().splitlines() or ["no message"])[-1]
                pytest.skip(f"podman cannot run a container here: podman {step[0]}: {last}")

    def finish(self):
        if self.has_run:
            self("rm", "--all", "--force", "--time", "0", check=False)
            if self.uid:
                self("system", "migrate", check=False)


@pytest.fixture(params=["root", "rootless"])
def podman(request, space):
    if shutil.which("podman") is None:
        pytest.skip("podman is not installed")
    if request.param == "rootless" and shutil.which("newuidmap") is None:
        pytest.skip("newuidmap is not installed (Debian: uidmap)")
    podman = Podman(space, PODMAN_USER if request.param == "rootless" else None)
    podman.prepare()
    yield podman
    podman.finish()


def test_container_that_fills_its_volume_gets_enospc_and_nobody_else_does(podman):
    podman.volume("create", "small", "24M")
    podman.volume("create", "other", "24M")
    fill = "dd if=/dev/zero of=/data/fill bs=64k; dd if=/dev/zero of=/data/more bs=64k count=1"
    result = podman.volume(
        "run", "small", "--rm", "-v", "other:/other", "box", "sh", "-c",
        f"{fill}; dd if=/dev/zero of=/other/f bs=64k count=64 && dd if=/dev/zero of=/tmp/f bs=64k count=64 && echo went on",
    )  # fmt: skip
    assert len(re.findall("No space left on device", result.err)) == 2, result
    assert result.out.splitlines()[-1] == "went on", result
    write_file(podman.home / "f", pattern(1 << 20))
    sizes = podman.volume("run", "small", "--rm", "box", "sh", "-c", "df -Pk /data; ls -l /data/fill; rm /data/fill")
    used = int(re.search(r"(\d+) +\S+ +\d+ +\S+ /data/fill", sizes.out)[1])
    assert 16 << 20 < used < 24 << 20
    assert int(re.search(r"\.mapfs +(\d+)", sizes.out)[1]) == 24 << 10
    podman.volume("run", "small", "--rm", "box", "dd", "if=/dev/zero", "of=/data/again", "bs=64k", "count=200")


def test_volume_outlives_its_containers(podman):
    podman.volume("create", "kept", "32M", "commit=3600")
    sums = "cd /data && md5sum a/f /data/g"
    first = podman.volume(
        "run", "kept", "--rm", "box", "sh", "-c",
        f"mkdir /data/a; dd if=/bin/busybox of=/data/a/f bs=4k; echo g >/data/g; {sums}",
    )  # fmt: skip
    # Another container, another directory in it, podman's own option, and read-only.
    second = podman("run", "--rm", "-v", "kept:/mnt/kept:ro", "box", "sh", "-c", "cd /mnt/kept && md5sum a/f g")
    assert [line.split()[0] for line in first.out.splitlines()] == [line.split()[0] for line in second.out.splitlines()]
    refused = podman.volume("run", "kept:/v:ro", "--rm", "box", "touch", "/v/x", check=False)
    assert refused.status != 0 and "Read-only" in refused.err
    assert podman.image("kept").name in podman.volume("list").out


def test_two_containers_share_one_volume(podman):
    podman.volume("create", "shared", "32M")
    podman.volume("run", "shared", "--detach", "--name", "one", "box", "sleep", "300")
    daemon = podman.daemon("shared")
    podman.volume("run", "shared:/v", "--rm", "box", "sh", "-c", "echo hello >/v/f")
    assert is_running(daemon), "the first container has lost its volume with the second one's end"
    assert podman("exec", "one", "cat", "/data/f").out == "hello\n"
    podman("exec", "one", "sh", "-c", "echo there >>/data/f")
    assert podman.volume("run", "shared", "--rm", "box", "cat", "/data/f").out == "hello\nthere\n"
    refused = podman.volume("rm", "shared", check=False)
    assert refused.status == 1 and "one" in refused.err
    podman("rm", "--force", "--time", "0", "one")
    podman.wait_unused("shared")
    podman.volume("rm", "shared")
    assert not podman.image("shared").exists()
    assert podman("volume", "exists", "shared", check=False).status == 1


def test_volume_of_a_killed_daemon_is_told_and_then_used_again(podman):
    podman.volume("create", "killed", "32M", "commit=3600")
    podman.volume("run", "killed", "--name", "ended", "box", "true")
    podman.volume("run", "killed", "--detach", "--name", "one", "box", "sleep", "300")
    podman("exec", "one", "sh", "-c", "echo synced >/data/f; sync /data/f; echo lost >/data/g")
    daemon = podman.daemon("killed")
    os.kill(daemon, signal.SIGKILL)
    wait_for(lambda: not is_running(daemon), "the killed daemon to end")
    assert podman("exec", "one", "cat", "/data/f", check=False).status != 0
    if podman("pause", "one", check=False).status == 0:  # not where control groups are missing
        told = podman.volume("run", "killed", "--rm", "box", "true", check=False)
        assert told.err.splitlines()[-1].split() == ["podman", "stop", "one"], "a paused one has it, too"
        podman("unpause", "one")
    told = podman.volume("run", "killed", "--rm", "box", "true", check=False)
    assert told.status == 1 and "has died" in told.err
    assert told.err.splitlines()[-1].split() == ["podman", "stop", "one"], "not the containers that run, and those alone"
    podman("stop", "--time", "0", "one")
    assert podman.volume("run", "killed", "--rm", "box", "cat", "/data/f").out == "synced\n"
    podman("start", "one")
    assert podman("exec", "one", "cat", "/data/f").out == "synced\n"


def test_volume_of_a_killed_daemon_without_containers_is_used_and_removed(podman):
    podman.volume("create", "killed", "32M")
    for again in ("run", "rm"):
        podman.volume("run", "killed", "--detach", "--name", "one", "box", "sleep", "300")
        podman("exec", "one", "sh", "-c", "echo synced >>/data/f; sync /data/f")
        daemon = podman.daemon("killed")
        os.kill(daemon, signal.SIGKILL)
        wait_for(lambda daemon=daemon: not is_running(daemon), "the killed daemon to end")
        podman("rm", "--force", "--time", "0", "one")
        if again == "run":
            assert podman.volume("run", "killed", "--rm", "box", "cat", "/data/f").out == "synced\n"
            podman.wait_unused("killed")
    podman.volume("rm", "killed")
    assert not podman.image("killed").exists() and podman("volume", "exists", "killed", check=False).status == 1


@pytest.mark.parametrize("podman", ["root"], indirect=True)
def test_directory_of_images_may_be_relative_and_have_an_odd_name(podman):
    odd = podman.home / "with space, ü"
    podman.env["MAPFS_VOLUMES"] = os.path.relpath(odd, "/")
    podman.volumes = odd
    podman.volume("create", "odd", "32M")
    assert podman.volume("run", "odd", "--rm", "box", "sh", "-c", "echo x >/data/f; cat /data/f").out == "x\n"
    assert os.fspath(odd) in podman.volume("list").out
    podman.wait_unused("odd")
    podman.volume("rm", "odd")
    assert not list(odd.iterdir())


@pytest.mark.parametrize("podman", ["rootless"], indirect=True)
def test_users_of_a_container_are_the_same_ones_in_the_image(podman, work):
    podman.volume("create", "users", "32M")
    podman.volume("run", "users", "--rm", "box", "sh", "-c", "touch /data/a; mkdir /data/d; chown 1000:50 /data/a /data/d")
    podman.volume("run", "users", "--rm", "--user", "1000:50", "box", "sh", "-c", "touch /data/d/b")
    podman.volume("run", "users", "--rm", "--userns=keep-id", "box", "stat", "/data/d")
    refused = podman.volume("run", "users", "--rm", "--user", "1001", "box", "touch", "/data/d/c", check=False)
    assert refused.status != 0 and "Permission denied" in refused.err
    podman.wait_unused("users")
    # The machine's root sees the containers' numbers, whatever uids podman gave them outside.
    (work / "look").mkdir()
    podman.space.run("mount", "-t", "mapfs", "-o", "ro", podman.image("users"), work / "look")
    look = podman.space.path(work / "look")
    owners = {name: (os.stat(look / name).st_uid, os.stat(look / name).st_gid) for name in (".", "a", "d/b")}
    assert owners == {".": (0, 0), "a": (1000, 50), "d/b": (1000, 50)}


@pytest.mark.parametrize("podman", ["root"], indirect=True)
def test_wrong_use_is_told_and_leaves_nothing_behind(podman):
    podman.volume("create", "there", "32M")
    for told, argv in (
        ("already", ("create", "there", "32M")),
        ("kommit", ("create", "new", "32M", "kommit=1")),
        ("'1X' is not a size", ("create", "new", "1X")),
        ("too small", ("create", "new", "4K")),
        ("no name", ("create", "../new", "32M")),
        ("no volume new", ("run", "new", "box", "true")),
        ("no volume new", ("rm", "new")),
    ):
        result = podman.volume(*argv, check=False)
        assert result.status == 1 and told in result.err, result
    podman("volume", "create", "plain")
    result = podman.volume("rm", "plain", check=False)
    assert result.status == 1 and "was not made by container-volume" in result.err
    assert [path.name for path in podman.volumes.iterdir()] == ["there.mapfs"]
    assert sorted(podman("volume", "ls", "--format", "{{.Name}}").out.split()) == ["plain", "there"]


@pytest.mark.parametrize("podman", ["rootless"], indirect=True)
def test_missing_helper_and_closed_device_are_told_with_the_remedy(podman):
    podman.volume("create", "there", "32M")
    base = podman.space.path(podman.space.base)
    os.chmod(base / "fuse", 0)
    result = podman.volume("run", "there", "--rm", "box", "true", check=False)
    assert result.status == 1 and "chmod 666 /dev/fuse" in result.err
    os.chmod(base / "fuse", 0o666)
    os.unlink(base / "sbin" / "mount.fuse.mapfs")
    if any(os.path.exists(f"{place}/mapfs") for place in ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin")):
        pytest.skip("mapfs is installed on this machine, so mount.fuse3 finds it")
    result = podman.volume("run", "there", "--rm", "box", "true", check=False)
    assert result.status == 1 and "ln -s" in result.err
