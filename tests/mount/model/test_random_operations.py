# SPDX-License-Identifier: MIT
"""Random operations on the mount and on a plain directory: every outcome and both trees must agree.

Each failure names its seed; MAPFS_TEST_SEED=N runs that one alone, MAPFS_TEST_STEPS=N makes it longer or shorter.
"""

import os

import pytest
from helpers.operations import Chooser, Root, reference_keeps_xattrs
from helpers.trees import describe, differences

STEPS = int(os.environ.get("MAPFS_TEST_STEPS", "700"))
SEEDS = [int(os.environ["MAPFS_TEST_SEED"])] if "MAPFS_TEST_SEED" in os.environ else [1, 2, 3]


@pytest.fixture
def roots(mnt, work):
    """The mount and the directory that is the model."""
    (work / "model").mkdir()
    os.chmod(mnt, 0o755)
    pair = Root(mnt), Root(work / "model")
    yield pair
    for root in pair:
        root.close_all()


def _show(value):
    text = repr(value)
    return text if len(text) < 300 else text[:300] + "..."


def _step(roots, operation, where):
    found, expected = (root.apply(operation) for root in roots)
    assert found == expected, f"{where}: {_show(operation)} gave {_show(found)}, expected {_show(expected)}"


def _assert_same(roots, where):
    found, expected = (describe(root.path) for root in roots)
    # The mount's root and a lost+found are not of the operations' making.
    for tree in (found, expected):
        tree.pop(b"", None)
        tree.pop(b"lost+found", None)
    lines = differences(expected, found)
    assert not lines, f"{where}:\n" + "\n".join(lines)


def _run(roots, seed, steps, every, between):
    model = roots[1].path
    chooser = Chooser(seed, model, xattrs=reference_keeps_xattrs(model))
    for n in range(steps):
        where = f"seed {seed}, step {n}"
        _step(roots, chooser.next(), where)
        if n % every == every - 1:
            between()
            _assert_same(roots, where)
    _assert_same(roots, f"seed {seed}, at the end")


@pytest.mark.parametrize("seed", SEEDS)
def test_random_operations_give_the_same_tree_as_on_a_plain_directory(roots, seed):
    _run(roots, seed, STEPS, 100, lambda: None)


@pytest.mark.parametrize("seed", SEEDS)
def test_random_operations_with_remounts_give_the_same_tree(roots, remount, seed):
    def between():
        for root in roots:
            root.close_all()
        remount()

    _run(roots, seed + 1000, STEPS, 120, between)


@pytest.mark.parametrize("seed", SEEDS)
def test_random_operations_with_kills_after_a_sync_give_the_same_tree(roots, mount, seed):
    def between():
        for root in roots:
            root.close_all()
        mount.sync()
        mount.kill()
        mount.fsck()
        mount.start()

    _run(roots, seed + 2000, STEPS, 70, between)


@pytest.mark.image(size="12M")
@pytest.mark.parametrize("seed", SEEDS)
def test_random_operations_on_an_image_that_is_often_full_leave_no_damage(mount, seed):
    """What was refused for want of space cannot be compared; the checker and a second look at the tree can."""
    root = Root(mount.path)
    chooser = Chooser(seed, mount.path)
    outcomes = [root.apply(chooser.next()) for _ in range(STEPS)]
    full = outcomes.count("ENOSPC")
    assert full < len(outcomes) // 2
    assert "EIO" not in outcomes
    before = describe(mount.path)
    root.close_all()
    mount.remount()
    assert differences(before, describe(mount.path)) == []
