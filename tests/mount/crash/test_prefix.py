# SPDX-License-Identifier: MIT
"""After a kill the tree, all of it, is exactly what it was after one of the operations since the last sync."""

import random
import shutil
import time

import pytest
from helpers.commands import run
from helpers.operations import LENGTHS, OFFSETS, Chooser, Root, reference_keeps_xattrs
from helpers.trees import describe, differences


def _tree(root):
    tree = describe(root.path)
    tree.pop(b"", None)
    tree.pop(b"lost+found", None)
    return tree


class History:
    """Operations on the mount and on a model, with every state since the last sync kept.

    Only operations that are one request each: pieces of data stay below what one WRITE carries.
    """

    def __init__(self, mount, model, seed):
        self.real, self.model = Root(mount.path), Root(model)
        self.chooser = Chooser(seed, model, handles=False, xattrs=reference_keeps_xattrs(model))
        self.chooser.offsets, self.chooser.lengths = OFFSETS[:8], LENGTHS[:7]
        self.states = [_tree(self.model)]

    def step(self):
        operation = self.chooser.next()
        found, expected = self.real.apply(operation), self.model.apply(operation)
        assert found == expected, f"{operation} gave {found!r:.200}, expected {expected!r:.200}"
        state = _tree(self.model)
        if operation[0] == "fsync" and found is None:
            self.states = [state]
        elif state != self.states[-1]:
            self.states.append(state)

    def assert_is_one_of_the_states(self):
        tree = _tree(self.real)
        if tree in self.states:
            return self.states.index(tree)
        nearest = min((differences(s, tree, limit=1000) for s in self.states), key=len)
        pytest.fail(
            f"not a state since the last sync ({len(self.states)} of them); the nearest differs in:\n"
            + "\n".join(nearest)
        )

    def make_model_follow(self):
        """The mount has gone back to an earlier state: the model starts anew from there."""
        shutil.rmtree(self.model.path)
        run(["cp", "-a", self.real.path, self.model.path])
        self.states = [_tree(self.model)]


@pytest.mark.limit(200)
@pytest.mark.options("commit=1")
@pytest.mark.parametrize("seed", range(4))
def test_killed_mount_shows_the_tree_after_some_operation_since_the_last_sync(mount, work, seed):
    rng = random.Random(seed)
    (work / "model").mkdir()
    history = History(mount, work / "model", seed)
    for _ in range(6):
        for _ in range(rng.randrange(20, 150)):
            history.step()
        if rng.random() < 0.4:
            time.sleep(rng.uniform(0, 1.2))
        mount.kill()
        mount.fsck()
        mount.start()
        history.assert_is_one_of_the_states()
        history.make_model_follow()
        # What a mount shows after a recovery is durable: a second kill at once must not take it away.
        mount.kill()
        mount.start()
        assert history.assert_is_one_of_the_states() == 0
