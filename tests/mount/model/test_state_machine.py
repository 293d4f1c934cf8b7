# SPDX-License-Identifier: MIT
"""The same comparison with hypothesis, which shrinks what it finds to the shortest sequence of operations."""

import itertools
import os

import pytest
from helpers.commands import SLOW
from helpers.operations import LENGTHS, MODES, OFFSETS, XATTRS, Root, reference_keeps_xattrs
from helpers.trees import describe, differences
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

PATHS = st.lists(st.sampled_from("abcd"), min_size=1, max_size=3).map("/".join)
SEEDS = st.integers(0, 1000)
_counter = itertools.count()


class Trees(RuleBasedStateMachine):
    """Two directories that go through the same operations; `place` and `remount` are set by the test."""

    place = remount = model = None

    def __init__(self):
        super().__init__()
        name = f"run-{next(_counter)}"
        self.roots = []
        for parent in (self.place, self.model):
            path = os.path.join(parent, name)
            os.mkdir(path)
            self.roots.append(Root(path))
        self.xattrs = reference_keeps_xattrs(self.roots[1].path)

    def both(self, *operation):
        found, expected = (root.apply(operation) for root in self.roots)
        assert found == expected, f"{operation} gave {found!r:.200}, expected {expected!r:.200}"

    @rule(path=PATHS, mode=st.sampled_from(MODES))
    def create(self, path, mode):
        self.both("create", path, mode)

    @rule(path=PATHS)
    def mkdir(self, path):
        self.both("mkdir", path, 0o755)

    @rule(path=PATHS, leads_to=st.sampled_from(["x", "a/b", "t" * 300]))
    def symlink(self, path, leads_to):
        self.both("symlink", path, leads_to)

    @rule(path=PATHS, new=PATHS, how=st.sampled_from(["link", "rename", "rename", "rename_noreplace", "exchange"]))
    def two_names(self, path, new, how):
        self.both(how, path, new)

    @rule(path=PATHS, how=st.sampled_from(["unlink", "rmdir", "list", "stat", "fsync"]))
    def one_name(self, path, how):
        self.both(how, path)

    @rule(path=PATHS, offset=st.sampled_from(OFFSETS), length=st.sampled_from(LENGTHS), seed=SEEDS)
    def write(self, path, offset, length, seed):
        self.both("write", path, offset, length, seed)

    @rule(path=PATHS, size=st.sampled_from(OFFSETS))
    def truncate(self, path, size):
        self.both("truncate", path, size)

    @rule(path=PATHS, name=st.sampled_from(XATTRS), size=st.integers(0, 200), flags=st.sampled_from([0, 1, 2]))
    def setxattr(self, path, name, size, flags):
        if self.xattrs:
            self.both("setxattr", path, name, size, flags)

    @rule(path=PATHS, name=st.sampled_from(XATTRS))
    def removexattr(self, path, name):
        if self.xattrs:
            self.both("removexattr", path, name)

    @rule(slot=st.integers(0, 2), path=PATHS)
    def open(self, slot, path):
        self.both("open", slot, path)

    @rule(slot=st.integers(0, 2), offset=st.sampled_from(OFFSETS), length=st.sampled_from(LENGTHS), seed=SEEDS)
    def write_open(self, slot, offset, length, seed):
        self.both("handle_write", slot, offset, length, seed)
        self.both("handle_read", slot, max(0, offset - 5000), length + 10_000)

    @rule(slot=st.integers(0, 2), size=st.sampled_from(OFFSETS))
    def truncate_open(self, slot, size):
        self.both("handle_truncate", slot, size)

    @rule()
    def mount_again(self):
        for root in self.roots:
            root.close_all()
        type(self).remount()

    @invariant()
    def trees_are_equal(self):
        found, expected = (describe(root.path) for root in self.roots)
        assert differences(expected, found) == []

    def teardown(self):
        for root in self.roots:
            root.close_all()


@pytest.mark.limit(400)
@pytest.mark.heavy
def test_any_sequence_of_operations_gives_the_same_tree_as_on_a_plain_directory(mnt, remount, work):
    (work / "model").mkdir()
    Trees.place, Trees.model, Trees.remount = mnt, work / "model", staticmethod(remount)
    run_state_machine_as_test(
        Trees,
        settings=settings(
            max_examples=max(5, int(int(os.environ.get("MAPFS_TEST_EXAMPLES", "25")) / SLOW)),
            stateful_step_count=40,
            deadline=None,
            database=None,
            # The same sequences each time, unless a number of them is asked for.
            derandomize="MAPFS_TEST_EXAMPLES" not in os.environ,
            suppress_health_check=list(HealthCheck),
        ),
    )
