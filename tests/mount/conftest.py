# SPDX-License-Identifier: MIT
"""Fixtures of the tests on real mounts.

Every test gets its own image, mount and daemon; every test that mounts ends with an orderly unmount and a checker that
finds nothing. `--plain` runs those tests that need no command of mapfs in a directory of the host instead, to see that
they demand nothing but what a Linux filesystem does.
"""

import contextlib
import fcntl
import os
import pwd
import shutil
import stat
import tempfile
from pathlib import Path

import pytest
from helpers.commands import Build
from helpers.mounts import Mount
from helpers.spaces import Space

HERE = Path(__file__).resolve().parent
FAILED = pytest.StashKey()
WORK = pytest.StashKey()
NEEDS_MAPFS = {"build", "image", "mount", "kill9", "user_mount", "new_mount", "space"}


def pytest_addoption(parser):
    default = os.environ.get("MAPFS_BUILD", str(HERE.parent.parent / "build"))
    parser.addoption("--build-dir", default=default, help="build directory (default: $MAPFS_BUILD, or build)")
    parser.addoption("--plain", action="store_true", help="a directory of the host instead of a mount")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--plain"):
        out = [i for i in items if NEEDS_MAPFS & set(i.fixturenames)]
        config.hook.pytest_deselected(items=out)
        items[:] = [i for i in items if i not in out]
    for item in items:
        if item.get_closest_marker("root") and os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="needs root"))


def pytest_report_header(config):
    where = "a plain directory" if config.getoption("--plain") else config.getoption("--build-dir")
    return f"mapfs under test: {where}"


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.failed:
        item.stash[FAILED] = True
        work = item.stash.get(WORK, None)
        if work is not None:
            report.sections.append(("files of this test are kept in", str(work)))
            for log in sorted(work.glob("logs/*")):
                report.sections.append((log.name, log.read_text(errors="replace")[-8000:]))


@pytest.fixture
def work(request):
    """A directory of the host for this test, which other users can reach; kept when the test fails."""
    path = Path(tempfile.mkdtemp(prefix="mapfs-test-"))
    path.chmod(0o755)
    request.node.stash[WORK] = path
    old_umask = os.umask(0o022)
    yield path
    os.umask(old_umask)
    if not request.node.stash.get(FAILED, False):
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def build(request, work):
    """The build under test; a sanitizer's report fails the test."""
    build = Build(request.config.getoption("--build-dir"), work / "logs")
    yield build
    if build.reports():
        request.node.stash[FAILED] = True
        pytest.fail("sanitizer report:\n" + "\n".join(build.reports()), pytrace=False)


@pytest.fixture
def image(request, build, work):
    """A fresh image (a sparse file)."""
    marker = request.node.get_closest_marker("image")
    given = marker.kwargs if marker else {}
    path = work / "image"
    build.mkfs(path, *given.get("mkfs", ()), size=given.get("size", "256M"))
    return path


@pytest.fixture
def new_mount(request, build, work):
    """Makes Mount objects, not started, that are finished at the end of the test."""
    mounts = []

    def make(image, name="mnt", **kw):
        path = work / name
        path.mkdir(exist_ok=True)
        limit = request.node.get_closest_marker("limit")
        kw.setdefault("limit", limit.args[0] if limit else 120)
        mounts.append(Mount(build, image, path, **kw))
        return mounts[-1]

    yield make
    failures = []
    for mount in reversed(mounts):
        try:
            mount.finish()
        except (pytest.fail.Exception, Exception) as failure:
            failures.append(f"{type(failure).__name__}: {failure}")
    if failures:
        request.node.stash[FAILED] = True
        pytest.fail("\n".join(failures), pytrace=False)


@pytest.fixture
def mount(request, image, new_mount):
    """The image, mounted."""
    options = request.node.get_closest_marker("options")
    return new_mount(image, options=options.args[0] if options else "").start()


@pytest.fixture
def kill9(mount):
    """A function: kill -9 of the daemon, check of what it left, new mount."""

    def kill():
        mount.kill()
        mount.fsck()
        mount.start()

    return kill


@pytest.fixture
def mnt(request, work):
    """The mount point alone, for tests that use nothing but system calls; with --plain a directory of the host."""
    if request.config.getoption("--plain"):
        path = work / "mnt"
        path.mkdir()
        return path
    return request.getfixturevalue("mount").path


@pytest.fixture
def remount(request):
    """A function: unmount and mount again (nothing, with --plain)."""
    if request.config.getoption("--plain"):
        return lambda: None
    return request.getfixturevalue("mount").remount


@pytest.fixture
def space(build, work):
    """A mount namespace with the build's helpers in /sbin, and an /etc of its own (needs root)."""
    space = Space(build, work)
    yield space
    space.finish()


@contextlib.contextmanager
def fuse_device_with(wanted):
    """/dev/fuse is 0600 on machines without udev, 0666 elsewhere. One test at a time changes and restores that."""
    with open("/tmp/mapfs-test-dev-fuse.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        mode = stat.S_IMODE(os.stat("/dev/fuse").st_mode)
        if os.geteuid() == 0 and mode != wanted:
            os.chmod("/dev/fuse", wanted)
        try:
            yield
        finally:
            if os.geteuid() == 0 and mode != wanted:
                os.chmod("/dev/fuse", mode)


@pytest.fixture
def closed_fuse_device():
    with fuse_device_with(0o600):
        yield


@pytest.fixture
def user(work):
    """Uid of an ordinary user who owns the test's directory: `nobody` when the tests run as root."""
    if os.geteuid() != 0:
        yield os.geteuid()
        return
    uid = pwd.getpwnam("nobody").pw_uid
    os.chown(work, uid, -1)
    with fuse_device_with(0o666):
        yield uid


@pytest.fixture
def user_mount(user, build, work, new_mount):
    """An image made and mounted by an ordinary user."""
    image = work / "image"
    build.mkfs(image, size="256M", uid=user)
    mount = new_mount(image, uid=user)
    if os.geteuid() == 0:
        os.chown(mount.path, user, -1)
    return mount.start()
