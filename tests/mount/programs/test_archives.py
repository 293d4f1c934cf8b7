# SPDX-License-Identifier: MIT
"""tar, rsync and cp: whole trees in and out."""

import os

import pytest
from helpers.commands import run
from helpers.files import write_file
from helpers.trees import assert_same_tree, describe, differences, make_sample


@pytest.fixture
def sample(work):
    """A tree on the host, one of everything, with a larger part below it."""
    path = work / "sample"
    path.mkdir()
    make_sample(path)
    for i in range(12):
        (path / f"many-{i}").mkdir()
        for j in range(25):
            write_file(path / f"many-{i}/file-{j}", os.urandom(i * j * 37))
    if os.geteuid() == 0:
        os.chown(path / "dir/small", 1001, 1002)
        os.mknod(path / "device", 0o20644, os.makedev(1, 7))
    return path


def _root_aside(tree):
    return {path: entry for path, entry in tree.items() if path not in (b"", b"lost+found")}


def test_tar_goes_in_and_out_without_a_change(sample, mnt, remount, work):
    archive = work / "sample.tar"
    options = ["--xattrs", "--xattrs-include=user.*", "--numeric-owner"]
    run(["tar", *options, "-S", "-cf", archive, "-C", sample, "."])
    (mnt / "out").mkdir()
    run(["tar", *options, "-xpf", archive, "-C", mnt / "out"])
    assert_same_tree(sample, mnt / "out", times=True)
    run(["tar", *options, "--compare", "-f", archive, "-C", mnt / "out"])
    remount()
    assert_same_tree(sample, mnt / "out", times=True)
    run(["tar", *options, "-cf", work / "again.tar", "-C", mnt / "out", "."])
    (work / "back").mkdir()
    run(["tar", *options, "-xpf", work / "again.tar", "-C", work / "back"])
    assert_same_tree(sample, work / "back", times=True)


def test_rsync_copies_everything_and_finds_nothing_to_do_afterwards(sample, mnt, remount):
    (mnt / "out").mkdir()
    run(["rsync", "-aHAX", "--modify-window=-1", "--numeric-ids", f"{sample}/", f"{mnt}/out/"])
    remount()
    assert_same_tree(sample, mnt / "out", times=True)
    again = run(
        ["rsync", "-aHAXc", "--modify-window=-1", "--numeric-ids", "--itemize-changes", f"{sample}/", f"{mnt}/out/"]
    )
    assert again.out == ""


def test_rsync_update_brings_over_changes_and_removals(sample, mnt):
    (mnt / "out").mkdir()
    run(["rsync", "-aHAX", "--modify-window=-1", f"{sample}/", f"{mnt}/out/"])
    write_file(sample / "many-3/file-4", b"changed")
    write_file(sample / "many-5/new", b"new")
    os.unlink(sample / "many-6/file-1")
    os.rename(sample / "many-7", sample / "renamed")
    for extra in ((), ("--inplace",)):
        run(["rsync", "-aHAX", "--modify-window=-1", "--delete", *extra, f"{sample}/", f"{mnt}/out/"])
        assert_same_tree(sample, mnt / "out", times=True)
        with open(sample / "many-11/file-24", "r+b") as f:
            f.seek(5000)
            f.write(b"changed in place")


@pytest.mark.parametrize("sparse", ["auto", "always", "never"])
def test_cp_within_the_mount_gives_an_equal_tree(sample, mnt, remount, sparse):
    run(["rsync", "-aHAX", "--modify-window=-1", f"{sample}/", f"{mnt}/one/"])
    run(["cp", "-a", f"--sparse={sparse}", mnt / "one", mnt / "two"])
    remount()
    assert_same_tree(mnt / "one", mnt / "two", times=True)


def test_rm_and_find_and_du_agree_with_the_tree(sample, mnt):
    run(["cp", "-a", sample, mnt / "tree"])
    expected = {os.fsdecode(p) for p in describe(sample) if p}
    found = run(["find", ".", "-mindepth", "1", "-print0"], cwd=mnt / "tree").out.split("\0")[:-1]
    # The sample holds a name that is not UTF-8: the decoded output replaces that byte.
    assert {f[2:].replace("\ufffd", "\udcff") for f in found} == expected
    run(["du", "-s", mnt / "tree"])
    run(["rm", "-r", mnt / "tree"])
    assert differences({}, _root_aside(describe(mnt))) == []
