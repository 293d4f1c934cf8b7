# SPDX-License-Identifier: MIT
"""mapfs as the upper layer of overlayfs (and its work directory): what is merged must behave like a plain directory.

overlayfs asks of an upper layer on FUSE: file types in listings, extended attributes, whiteouts by rename, and takes
unnamed files, exchanging renames and file handles where they are there.
"""

import errno
import os
import shutil
import stat
import subprocess

import pytest
from helpers.commands import KERNEL, run
from helpers.files import fails_with, opened, pattern, read_file, write_file
from helpers.libc import AT_FDCWD, AT_SYMLINK_FOLLOW, linkat
from helpers.mounts import mount_entry
from helpers.operations import Chooser, Root
from helpers.trees import assert_same_tree, describe, differences, make_sample

pytestmark = pytest.mark.root
FEATURES = {
    "plain": "",
    "redirect": "redirect_dir=on",
    "index": "redirect_dir=on,index=on",
    "handles": "redirect_dir=on,index=on,nfs_export=on",
    "metacopy": "redirect_dir=on,metacopy=on",
    "user": "userxattr",
}


class Overlay:
    """A lower directory of the host, a plain copy of it as a model, and the merged view of it and the mount."""

    def __init__(self, mount, work, options):
        self.mount, self.options = mount, options
        self.lower, self.model, self.merged = work / "lower", work / "model", work / "merged"
        for path in (self.lower, self.merged):
            path.mkdir()
        make_sample(self.lower)
        os.makedirs(self.lower / "deep/er/still")
        for i in range(30):
            write_file(self.lower / f"deep/er/file-{i}", pattern(i * 1000, i))
        run(["cp", "-a", self.lower, self.model])
        for name in ("upper", "work"):
            os.mkdir(mount.path / name)

    def start(self):
        layers = f"lowerdir={self.lower},upperdir={self.mount.path}/upper,workdir={self.mount.path}/work"
        options = f"{layers},{self.options}" if self.options else layers
        run(["mount", "-t", "overlay", "overlay", "-o", options, self.merged])
        # The kernel turns off what a layer cannot do, and says so in its log alone.
        shown = mount_entry(self.merged)[2].split(",")
        for option in filter(lambda o: o and not o.endswith("=off"), self.options.split(",")):
            assert option in shown, f"{option} is not in {shown}"

    def stop(self):
        if mount_entry(self.merged):
            run(["umount", self.merged])

    def remount(self):
        self.stop()
        self.mount.remount()
        self.start()

    def both(self, function):
        for top in (self.merged, self.model):
            function(top)

    def compare(self):
        found, expected = describe(self.merged), describe(self.model)
        if "nfs_export=on" in self.options:
            # overlayfs counts its own index as a link then, on whatever upper layer.
            for tree in (found, expected):
                for entry in tree.values():
                    entry.pop("links")
                    entry.pop("hard link of", None)
        lines = differences(expected, found)
        assert not lines, "\n".join(lines)

    def compare_over_remounts(self):
        lower = describe(self.lower, times=True)
        self.compare()
        self.remount()
        self.compare()
        assert describe(self.lower, times=True) == lower, "the lower layer has changed"


@pytest.fixture
def overlay(request, mount, work):
    it = Overlay(mount, work, FEATURES[getattr(request, "param", "index")])
    it.start()
    yield it
    if mount_entry(it.merged):
        subprocess.run(["umount", "-l", it.merged], check=False)


ALL = pytest.mark.parametrize("overlay", FEATURES, indirect=True)


@ALL
def test_files_are_copied_up_removed_and_replaced(overlay):
    def change(top):
        with opened(top / "dir/program", os.O_WRONLY | os.O_APPEND) as fd:
            os.write(fd, b"echo again\n")
        os.chmod(top / "dir/inner/blocks", 0o600)
        os.truncate(top / "deep/er/file-20", 777)
        os.setxattr(top / "deep/er/file-3", "user.new", b"value")
        os.utime(top / "deep/er/file-4", ns=(11, 22))
        os.chown(top / "deep/er/file-5", 12, 34)
        os.unlink(top / "dir/empty")
        os.unlink(top / "deep/er/file-6")
        write_file(top / "deep/er/file-6", b"made again")
        os.rename(top / "deep/er/file-7", top / "moved")
        os.rename(top / "deep/er/file-8", top / "deep/er/file-9")
        write_file(top / "new", pattern(100_000))

    overlay.both(change)
    overlay.compare_over_remounts()
    upper = overlay.mount.path / "upper"
    for name in ("dir/empty", "deep/er/file-7", "deep/er/file-8"):
        info = os.lstat(upper / name)
        assert (stat.S_IFMT(info.st_mode), info.st_rdev) == (stat.S_IFCHR, 0)
    assert not (upper / "deep/er/file-1").exists()


@ALL
def test_directories_are_removed_made_again_and_filled(overlay):
    def change(top):
        shutil.rmtree(top / "deep/er")
        os.mkdir(top / "deep/er")
        write_file(top / "deep/er/only", b"one")
        os.rmdir(top / "empty")
        write_file(top / "empty", b"a file now")
        shutil.rmtree(top / "dir")
        with fails_with(errno.ENOTEMPTY):
            os.rmdir(top / "deep")

    overlay.both(change)
    overlay.compare_over_remounts()
    prefix = "user" if overlay.options == "userxattr" else "trusted"
    assert os.getxattr(overlay.mount.path / "upper/deep/er", f"{prefix}.overlay.opaque") == b"y"


@pytest.mark.parametrize("overlay", ["redirect", "index", "handles", "metacopy"], indirect=True)
def test_directories_of_the_lower_layer_are_renamed(overlay):
    def change(top):
        os.rename(top / "deep/er", top / "er")
        os.rename(top / "er", top / "dir/inner/renamed")
        write_file(top / "dir/inner/renamed/more", b"more")
        os.unlink(top / "dir/inner/renamed/file-10")
        os.rename(top / "dir", top / "dir2")
        os.mkdir(top / "dir")
        write_file(top / "dir/small", b"another small")

    overlay.both(change)
    overlay.compare_over_remounts()
    redirect = os.getxattr(overlay.mount.path / "upper/dir2", "trusted.overlay.redirect")
    assert redirect in (b"dir", b"/dir")


def test_directory_of_the_lower_layer_is_not_renamed_without_redirects(mount, work):
    it = Overlay(mount, work, "redirect_dir=off")
    it.start()
    try:
        with fails_with(errno.EXDEV):
            os.rename(it.merged / "deep", it.merged / "deep2")
        run(["mv", it.merged / "deep", it.merged / "deep2"])
        os.rename(it.model / "deep", it.model / "deep2")
        it.compare_over_remounts()
    finally:
        it.stop()


@pytest.mark.parametrize("overlay", ["index", "handles"], indirect=True)
def test_hard_links_of_the_lower_layer_stay_together(overlay):
    def change(top):
        with opened(top / "dir/small", os.O_WRONLY | os.O_APPEND) as fd:
            os.write(fd, b"through one name")
        os.link(top / "dir/small", top / "third")
        os.unlink(top / "dir/small")

    overlay.both(change)
    assert read_file(overlay.merged / "dir/inner/small-too") == b"small\nthrough one name"
    overlay.compare_over_remounts()


@pytest.mark.skipif(KERNEL < (6, 10), reason="overlayfs has no O_TMPFILE before Linux 6.10")
def test_unnamed_files_of_the_merged_view_work(overlay):
    with opened(overlay.merged, os.O_TMPFILE | os.O_RDWR) as fd:
        os.write(fd, b"unnamed")
        linkat(AT_FDCWD, f"/proc/self/fd/{fd}", overlay.merged / "named", AT_SYMLINK_FOLLOW)
    write_file(overlay.model / "named", b"unnamed")
    overlay.compare_over_remounts()


def test_descriptors_of_the_merged_view_work(overlay):
    with opened(overlay.merged / "deep/er/file-29") as fd:
        os.unlink(overlay.merged / "deep/er/file-29")
        os.pwrite(fd, b"still there", 0)
        assert os.pread(fd, 40_000, 0) == b"still there" + pattern(29_000, 29)[11:]
    os.unlink(overlay.model / "deep/er/file-29")
    overlay.compare_over_remounts()


class MergedRoot(Root):
    """Merged directories have a link count of 1, whatever they hold."""

    def _do_stat(self, path):
        mode, links, size = super()._do_stat(path)
        return mode, 0 if stat.S_ISDIR(mode) else links, size


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_random_operations_give_the_same_tree_as_on_a_plain_directory(overlay, seed):
    # Without hard links. overlayfs keeps the name by which it first met one; when that is removed, the kernel asks a FUSE filesystem for
    # it again, does not find it, and gives ESTALE for the other names until its caches are dropped (ext4 is not asked).
    overlay.both(lambda top: os.unlink(top / "dir/inner/small-too"))
    roots = MergedRoot(overlay.merged), MergedRoot(overlay.model)
    chooser = Chooser(seed, overlay.model, handles=False)
    for n in range(300):
        operation = chooser.next()
        while operation[0] == "link":
            operation = chooser.next()
        found, expected = (root.apply(operation) for root in roots)
        assert found == expected, f"seed {seed}, step {n}: {operation!r:.300}"
        if n % 100 == 99:
            overlay.compare_over_remounts()


def test_a_crash_leaves_a_merged_view_that_can_be_used(overlay):
    def change(top):
        os.rename(top / "deep", top / "deep2")
        shutil.rmtree(top / "dir/inner")
        write_file(top / "dir/program", b"new")

    overlay.both(change)
    overlay.mount.sync()
    write_file(overlay.merged / "dir/small", b"perhaps lost")
    overlay.mount.kill(before_detach=overlay.stop)
    overlay.mount.fsck()
    overlay.mount.start()
    overlay.start()
    if read_file(overlay.merged / "dir/small") == b"perhaps lost":
        write_file(overlay.model / "dir/small", b"perhaps lost")
    overlay.compare()
    overlay.stop()


def test_mapfs_can_be_the_lower_layer_too(mount, work):
    lower, merged = mount.path / "lower", work / "merged"
    for path in (lower, merged, mount.path / "upper", mount.path / "work"):
        os.mkdir(path)
    make_sample(lower)
    run(["cp", "-a", lower, work / "model"])
    options = f"lowerdir={lower},upperdir={mount.path}/upper,workdir={mount.path}/work,redirect_dir=on,index=on"
    run(["mount", "-t", "overlay", "overlay", "-o", options, merged])
    try:
        assert_same_tree(work / "model", merged)
        for top in (merged, work / "model"):
            os.rename(top / "dir", top / "moved")
            write_file(top / "moved/small", b"changed")
        assert_same_tree(work / "model", merged)
    finally:
        run(["umount", merged])
    assert read_file(lower / "dir/small") == b"small\n"
