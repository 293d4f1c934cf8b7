# SPDX-License-Identifier: MIT
"""mount-scripts/quickstart, and what it tells a newcomer to type next."""

import os
import shlex
from pathlib import Path

import pytest
from helpers.commands import run
from helpers.mounts import daemons_of, mount_entry, wait_for

TOP = Path(__file__).resolve().parents[3]

pytestmark = [pytest.mark.heavy]


@pytest.fixture
def quickstart(work):
    """Runs it with an image and a mount point in the test's directory; ends with a clean image."""
    if not (TOP / ".git").exists() or not (TOP / "build/build.ninja").exists():
        pytest.skip("quickstart clones the checkout that it is in, and this is none, or is not built in build/")
    image, point = work / "quick image.mapfs", work / "quick mnt"

    def start(*options):
        # As if not called through sudo, which the printed commands would go through, too.
        env = {name: value for name, value in os.environ.items() if not name.startswith("SUDO_")}
        return run([TOP / "mount-scripts/quickstart", *options, image, point], timeout=900, env=env)

    start.image, start.point = image, point
    yield start
    mapfs, fsck = TOP / "build/mapfs", TOP / "build/fsck.mapfs"
    if mount_entry(point):
        run([mapfs, "umount", point])
    wait_for(lambda: not daemons_of(image), "the daemon to end")
    run([fsck, "-n", image], timeout=120)


def test_quickstart_leaves_a_mount_and_commands_that_work_in_their_order(quickstart, work):
    result = quickstart("-s", "600M")
    steps = [line for line in result.out.splitlines() if line.startswith("[")]
    assert [line.split("]")[0] for line in steps] == [f"[{n}/{len(steps)}" for n in range(1, len(steps) + 1)]
    assert mount_entry(quickstart.point)[1] == os.fspath(quickstart.image)
    assert (quickstart.point / "quickstart-trial/mapfs/build/mapfs").exists()

    text = result.out.split("What to type next:")[1]
    commands = [line.strip() for line in text.splitlines() if line.startswith("    ") and not line.startswith("    #")]
    names = [os.path.basename(shlex.split(command)[0]) for command in commands]
    assert names == ["mapfs", "mapfs", "mapfs", "fsck.mapfs", "mapfs", "mkfs.mapfs", "run"]
    for command in commands[:-1]:
        run(["bash", "-c", command], cwd=work, timeout=120)
    assert (work / "my.mapfs").exists() and os.access(shlex.split(commands[-1])[0], os.X_OK)
    assert mount_entry(quickstart.point), "after all that it is mounted again"
    (quickstart.point / "own").write_text("kept")

    again = quickstart()
    assert "is kept" in again.out
    assert (quickstart.point / "own").read_text() == "kept"


def test_quickstart_refuses_what_it_cannot_use_and_says_why(quickstart):
    quickstart.point.mkdir()
    (quickstart.point / "f").write_text("would be hidden")
    for argv, told in (
        ([quickstart.image, quickstart.point], "is not empty"),
        (["--frob"], "usage"),
        (["a", "b", "c"], "usage"),
    ):
        result = run([TOP / "mount-scripts/quickstart", *argv], check=False, timeout=300)
        assert result.status != 0 and told in result.err, result
    run([TOP / "build/mkfs.mapfs", "-s", "4M", quickstart.image])
