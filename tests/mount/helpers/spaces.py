# SPDX-License-Identifier: MIT
"""A mount namespace of a test's own, with the helpers of the build under test in /sbin, where mount(8) looks for them.

They are scripts there: mount(8) is set-user-ID, which ends the fixed address layout that a sanitizer needs.

/etc and /dev/fuse are the test's own there, too: it may write /etc/fstab, add users, and close the device to them. The
machine itself is not changed.
"""

import os
import subprocess
from pathlib import Path

import pytest

from helpers.commands import SLOW, run
from helpers.mounts import daemons_of, wait_for

# What other tests have mounted is copied into a new namespace, and would keep their daemons after their unmount.
_SETUP = r"""
base=$1 build=$2
# So would copies of overlays on them. What goes away by itself meanwhile is no failure.
findmnt -rno TARGET -t overlay | grep "^$(dirname "$(dirname "$base")")/mapfs-test-" | xargs -r -n 1 umount --lazy || true
umount --all --internal-only --lazy --types fuse.mapfs || true
mkdir "$base"
mount -t tmpfs -o mode=755 none "$base"
mkdir "$base/sbin" "$base/old" "$base/run"
mount --bind /usr/sbin "$base/old"
ln -s "$base"/old/* "$base/sbin/"
for name in mount.mapfs mount.fuse.mapfs; do
    rm -f "$base/sbin/$name"
    printf '#!/bin/sh\nexec setarch --addr-no-randomize %s "$@"\n' "$build/$name" >"$base/sbin/$name"
    chmod 755 "$base/sbin/$name"
done
mount --bind "$base/sbin" /usr/sbin
cp -a /etc "$base/etc"
mount --bind "$base/etc" /etc
mknod -m 666 "$base/fuse" c 10 229
mount --bind "$base/fuse" /dev/fuse
mkdir -p /run/mount
mount --bind "$base/run" /run/mount
echo ready
exec cat
"""


class Space:
    """Runs commands in the namespace; finish() ends every mount in it and checks the images."""

    def __init__(self, build, work):
        self.build, self.work = build, work
        self.images = []
        self.base = work / "space"
        setup = ["sh", "-eu", "-c", _SETUP, "space", os.fspath(self.base), os.fspath(build.programs)]
        self.holder = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", *setup],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd="/",
        )
        if self.holder.stdout.readline() != b"ready\n":
            pytest.fail(f"no mount namespace for the test: {self.holder.stderr.read().decode()}", pytrace=False)

    @property
    def etc(self):
        return self.base / "etc"

    def path(self, path):
        """A path of the namespace, as seen from outside."""
        return Path(f"/proc/{self.holder.pid}/root{path}")

    def add_user(self, name, uid, subuids=None):
        """A user with a home directory below the test's; subuids is the first of 65536, for containers."""
        home = self.work / name
        home.mkdir()
        os.chown(home, uid, uid)
        with open(self.path("/etc/passwd"), "a") as passwd, open(self.path("/etc/group"), "a") as group:
            passwd.write(f"{name}:x:{uid}:{uid}::{home}:/bin/sh\n")
            group.write(f"{name}:x:{uid}:\n")
        if subuids is not None:
            for table in ("subuid", "subgid"):
                with open(self.path(f"/etc/{table}"), "a") as ranges:
                    ranges.write(f"{name}:{subuids}:65536\n")
        return home

    def command(self, argv, uid=None):
        who = [] if uid is None else ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
        return ["nsenter", f"--mount=/proc/{self.holder.pid}/ns/mnt", *who, *argv]

    def run(self, *argv, uid=None, check=True, timeout=60, env=None):
        result = run(self.command(argv, uid), check=False, timeout=timeout, env=env or self.build.env(), cwd="/")
        if result.status == 99 or self.build.reports():
            pytest.fail(f"command crashed:\n{result}\n" + "\n".join(self.build.reports()))
        if check and result.status != 0:
            pytest.fail(f"command failed:\n{result}")
        return result

    def mapfs(self, *argv, **kw):
        return self.run(self.build.program("mapfs"), *argv, **kw)

    def mkfs(self, path, *args, size="64M", uid=None):
        self.build.mkfs(path, *args, size=size, uid=uid)
        self.note_image(path)
        return path

    def note_image(self, path, *fsck_arguments):
        """An image that must be in order at the end."""
        self.images.append((path, fsck_arguments))

    def entry(self, point):
        """(source, type, options) of the mount at a point of the namespace, or None."""
        result = self.run("findmnt", "-nro", "SOURCE,FSTYPE,OPTIONS", "--mountpoint", point, check=False)
        lines = result.out.splitlines()
        return tuple(lines[-1].split(" ")) if lines else None

    def _unmount_all(self):
        lines = Path(f"/proc/{self.holder.pid}/mounts").read_text().splitlines()
        for line in reversed(lines):
            fields = line.split(" ")
            if fields[2] == "fuse.mapfs" and fields[1].startswith(os.fspath(self.work)):
                self.run("umount", "--lazy", fields[1].replace("\\040", " "))

    def finish(self):
        try:
            self._unmount_all()
            for image, arguments in self.images:
                if image.exists():
                    wait_for(lambda image=image: not daemons_of(image), f"the daemon of {image} to end")
                    self.build.fsck(image, *arguments)
        finally:
            self.holder.stdin.close()
            self.holder.wait(timeout=20 * SLOW)
