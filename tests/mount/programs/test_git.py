# SPDX-License-Identifier: MIT
"""git on the mount."""

import os

import pytest
from helpers.commands import run
from helpers.files import pattern, write_file
from helpers.trees import describe, differences


def git(directory, *args):
    names = ["-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "gc.auto=0"]
    return run(["git", *names, "-C", directory, *args], timeout=120)


def _fill(directory, commits=4, files=60):
    for c in range(commits):
        for i in range(files):
            path = directory / f"dir-{i % 7}" / f"file-{i}.txt"
            path.parent.mkdir(exist_ok=True)
            write_file(path, pattern(200 + 37 * i * c % 5000, (i, c // (1 + i % 3))).hex().encode())
        os.chmod(directory / "dir-0/file-0.txt", 0o755)
        git(directory, "add", "-A")
        git(directory, "commit", "-q", "-m", f"commit {c}")


@pytest.fixture
def origin(work):
    """A repository on the host."""
    path = work / "origin"
    path.mkdir()
    git(path, "init", "-q", "-b", "main")
    _fill(path)
    return path


def _without_git(tree):
    return {path: entry for path, entry in tree.items() if not path.startswith(b".git") and path}


def test_clone_has_the_same_files_and_a_sound_store(origin, mnt, remount):
    run(["git", "clone", "-q", f"file://{origin}", mnt / "clone"])
    assert differences(_without_git(describe(origin)), _without_git(describe(mnt / "clone"))) == []
    remount()
    git(mnt / "clone", "fsck", "--full", "--strict")
    assert git(mnt / "clone", "status", "--porcelain").out == ""


def test_commits_packs_and_branches_are_kept(origin, mnt, remount):
    clone = mnt / "clone"
    run(["git", "clone", "-q", "--no-hardlinks", origin, clone])
    git(clone, "checkout", "-q", "-b", "side", "HEAD~2")
    write_file(clone / "new", pattern(100_000))
    git(clone, "add", "-A")
    git(clone, "commit", "-q", "-m", "on the side")
    git(clone, "checkout", "-q", "main")
    git(clone, "merge", "-q", "-m", "merged", "side")
    git(clone, "gc", "-q", "--prune=now")
    remount()
    git(clone, "fsck", "--full", "--strict")
    assert git(clone, "status", "--porcelain").out == ""
    assert len(git(clone, "log", "--oneline").out.splitlines()) == 6
    git(origin, "fetch", "-q", os.fspath(clone), "main:fetched")
    assert git(origin, "rev-parse", "fetched").out == git(clone, "rev-parse", "main").out


def test_worktree_and_local_clone_with_hard_links_work(origin, mnt):
    run(["git", "clone", "-q", "--no-hardlinks", origin, mnt / "one"])
    run(["git", "clone", "-q", mnt / "one", mnt / "two"])
    git(mnt / "one", "worktree", "add", "-q", os.fspath(mnt / "tree"), "HEAD~1")
    git(mnt / "two", "fsck", "--full")
    assert git(mnt / "tree", "status", "--porcelain").out == ""
    git(mnt / "one", "worktree", "remove", os.fspath(mnt / "tree"))
    assert not (mnt / "tree").exists()
