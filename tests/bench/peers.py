# SPDX-License-Identifier: MIT
"""The filesystems under comparison. Each lives in one sparse image file of the same size, in the same directory.

Whatever a filesystem mounts, starts or attaches is named by its own image path inside the run's own directory, and
`clean` ends exactly that: mounts, daemons and loop devices of others are never touched.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import host
from host import BenchError, command_run

UNMOUNT_TIMEOUT_S = 120


class FileSystem:
    """One image, made, mounted, remounted cold, unmounted."""

    version_option = "-V"

    def __init__(self, name: str, work: Path):
        self.name = name
        self.image = work / f"{name}.img"
        self.mountpoint = work / f"{name}.mnt"
        self.log = work / f"{name}.log"

    # What differs between filesystems: two or three command lines.

    def mkfs_command(self, size_bytes: int) -> list[str]:
        raise NotImplementedError

    def mount_command(self) -> list[str]:
        raise NotImplementedError

    def umount_command(self) -> list[str]:
        return ["umount", str(self.mountpoint)]

    # What is the same for all.

    def make(self, size_bytes: int) -> None:
        self.image.unlink(missing_ok=True)
        self.mountpoint.mkdir(exist_ok=True)
        with open(self.image, "wb") as file:
            file.truncate(size_bytes)
        command_run(self.mkfs_command(size_bytes), self.log)

    def mount(self) -> float:
        """Mounts, asks for the root directory's attributes and entries, and returns how long that took, in seconds."""
        start = time.monotonic()
        command_run(self.mount_command(), self.log, 60)
        os.stat(self.mountpoint)
        os.listdir(self.mountpoint)
        took_s = time.monotonic() - start
        if not host.mount_exists(self.mountpoint):
            raise BenchError(f"{self.name}: the mount command succeeded, but nothing is mounted")
        return took_s

    def umount(self) -> float:
        start = time.monotonic()
        command_run(self.umount_command(), self.log, UNMOUNT_TIMEOUT_S)
        if not host.processes_wait(self.image, UNMOUNT_TIMEOUT_S):
            raise BenchError(f"{self.name}: the daemon is still there {UNMOUNT_TIMEOUT_S} s after the unmount")
        return time.monotonic() - start

    def remount_cold(self) -> None:
        """Unmounts, empties every cache, mounts: what follows comes from the disk."""
        self.umount()
        host.caches_drop(self.image)
        self.mount()

    def clean(self) -> None:
        """Leaves nothing behind, whatever state things are in. Failures are told, not raised."""
        if host.mount_exists(self.mountpoint):
            try:
                self.umount()
            except BenchError as e:
                print(f"{self.name}: unmount failed, ending it by force: {e}")
                self._clean_by_force()
        for pid in host.processes_of(self.image):
            _kill(pid)
        self.image.unlink(missing_ok=True)

    def _clean_by_force(self) -> None:
        for pid in host.processes_of(self.image):
            _kill(pid)
        time.sleep(0.5)
        if host.mount_exists(self.mountpoint):
            try:
                command_run(["umount", "-l", str(self.mountpoint)], self.log, 20)
            except BenchError as e:
                print(f"{self.name}: {self.mountpoint} is still mounted: {e}")


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


class Mapfs(FileSystem):
    version_option = "--version"

    def __init__(self, name: str, work: Path, program: Path, options: str = ""):
        super().__init__(name, work)
        self.program = program
        self.options = options

    def mkfs_command(self, size_bytes: int) -> list[str]:
        return [str(self.program.with_name("mkfs.mapfs")), "-s", str(size_bytes), str(self.image)]

    def make(self, size_bytes: int) -> None:
        """mkfs.mapfs makes the sparse file itself."""
        self.image.unlink(missing_ok=True)
        self.mountpoint.mkdir(exist_ok=True)
        command_run(self.mkfs_command(size_bytes), self.log)

    def mount_command(self) -> list[str]:
        options = ["-o", self.options] if self.options else []
        return [str(self.program), "mount", *options, str(self.image), str(self.mountpoint)]

    def umount_command(self) -> list[str]:
        return [str(self.program), "umount", str(self.mountpoint)]


class Fuse2fs(FileSystem):
    """ext4 served by libext2fs in a FUSE daemon: the nearest relative. It writes no journal."""

    def mkfs_command(self, size_bytes: int) -> list[str]:
        return ["mkfs.ext4", "-q", "-F", str(self.image)]

    def mount_command(self) -> list[str]:
        return ["fuse2fs", str(self.image), str(self.mountpoint), "-o", "rw,fakeroot"]


class Ext4(FileSystem):
    """The kernel's ext4 with its journal on a loop device, which goes away by itself with the mount."""

    def mkfs_command(self, size_bytes: int) -> list[str]:
        return ["mkfs.ext4", "-q", "-F", str(self.image)]

    def mount_command(self) -> list[str]:
        return ["mount", "-t", "ext4", "-o", "loop", str(self.image), str(self.mountpoint)]
