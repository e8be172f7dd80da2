"""What is on the disk: how much was added to it, and what killed hosts have left."""

from __future__ import annotations

import fcntl
import os
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import kinds
import pytest
from sandbox_agent_sandbox.host.disk.area import Area, remove_leftovers
from sandbox_agent_sandbox.host.disk.filled import FILE, Filled, added_below, file_clock
from sandbox_agent_sandbox.host.disk.sandbox_disk import in_words
from sandbox_agent_sandbox.plan import PlanKind
from sandboxes import run, sandbox

MIB = 2**20
PERSONS = ["user"]


def write(path: Path, size: int) -> None:
    path.write_bytes(b"x" * size)


def later_than(path: Path) -> int:
    """The time that files get, once it is later than that of the last change of this one, which may
    be finer. clock_gettime(2), CLOCK_REALTIME_COARSE"""
    changed = path.stat().st_ctime_ns
    while (now := file_clock()) <= changed:
        os.sched_yield()
    return now


def filled(folder: Path, limit: int, written: int = 0) -> Filled:
    return Filled([str(folder)], limit, file_clock(), lambda: written, threading.Event())


def test_what_is_older_does_not_count_and_no_tool_can_make_it_older(tmp_path: Path) -> None:
    write(tmp_path / "old", MIB)
    since = later_than(tmp_path / "old")
    write(tmp_path / "new", 2 * MIB)
    os.utime(tmp_path / "new", (0, 0))
    added, fresh = added_below([str(tmp_path)], since)
    assert (2 * MIB <= added < 3 * MIB, fresh) == (True, 0)
    assert added_below([str(tmp_path)], 0)[0] >= 3 * MIB


def test_empty_files_count_and_links_count_once(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    for number in range(100):
        (tmp_path / f"below/{number}").touch()
    write(tmp_path / "big", MIB)
    for number in range(10):
        os.link(tmp_path / "big", tmp_path / f"big-{number}")
    (tmp_path / "out").symlink_to("/usr")
    added, fresh = added_below([str(tmp_path)], 0)
    assert added == fresh
    assert 100 * FILE + MIB <= added < 110 * FILE + 2 * MIB


def test_what_cannot_be_looked_at_counts(tmp_path: Path) -> None:
    """A tool may hide its files below more folders than a path can name."""
    here = os.open(tmp_path, os.O_RDONLY)
    for name in ["d" * 200] * 30:
        os.mkdir(name, dir_fd=here)
        inner = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)
    assert added_below([str(tmp_path)], 0)[0] > 2**60
    assert added_below([str(tmp_path)], time.time_ns() + 10**9) == (0, 0)
    remove_leftovers(str(tmp_path))  # pytest could not


@pytest.fixture
def quiet() -> Iterator[Path]:
    """A folder in memory: on the disk of the tests, others add and remove files meanwhile, and what
    is written counts only once it is on the disk."""
    with tempfile.TemporaryDirectory(prefix="sandbox-agent-quiet-", dir="/dev/shm") as folder:
        yield Path(folder)


def test_a_limit_is_passed_by_what_was_added_here_alone(quiet: Path) -> None:
    ours, others = quiet / "ours", quiet / "others"
    ours.mkdir()
    others.mkdir()
    watched, patient = filled(ours, 8 * MIB), filled(ours, 8 * MIB)
    write(others / "big", 16 * MIB)
    assert watched.passed() is None, "others fill the disk, too"
    write(ours / "big", 12 * MIB)
    passed = patient.passed()
    assert passed is not None and 12 * MIB <= passed < 13 * MIB


def test_files_without_a_name_count_as_their_writers_count_them(quiet: Path) -> None:
    watched = filled(quiet, 8 * MIB, written=9 * MIB)
    with open(quiet / "gone", "wb") as file:
        (quiet / "gone").unlink()
        file.write(b"x" * 16 * MIB)
        file.flush()
        assert watched.passed() == 9 * MIB


def area(base: Path, name: str) -> Area:
    """As a sandbox makes one."""
    (base / name / "shared").mkdir(parents=True)
    folder = os.open(base / name, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    return Area(folder, str(base / name))


def test_what_nobody_holds_any_more_was_left(tmp_path: Path) -> None:
    base = tmp_path / "base"
    going, left = area(base, "going"), area(base, "left")
    os.close(left.folder)
    left.folder = -1
    for name in ("ext4-1", "ext4-1.77", "image-0123"):
        (base / name).touch()
    remove_leftovers(str(base))
    assert sorted(os.listdir(base)) == ["ext4-1", "going"]
    (base / "ext4-1").unlink()
    going.remove()
    going.remove()
    assert not base.exists()


def test_a_forked_child_does_not_hold_it(tmp_path: Path) -> None:
    one = area(tmp_path / "base", "one")
    ours, childs = socket.socketpair()
    with ours, childs:
        child = os.fork()
        if child == 0:
            ours.close()
            childs.send(b"!")
            childs.recv(1)
            os._exit(0)
        childs.close()
        assert ours.recv(1)
        os.close(one.folder)  # as when this process dies
        one.folder = -1
        remove_leftovers(str(tmp_path / "base"))
        assert not (tmp_path / "base").exists()
    os.waitpid(child, 0)


def test_once_it_is_built_the_host_holds_what_a_sandbox_has_and_the_spawner_does_not(
    tmp_path: Path,
) -> None:
    """Else the spawner's own end would be the end of a file system, and be waited for."""

    async def main() -> None:
        async with sandbox(tmp_path) as cell:
            process = cell._supervisor._sandbox
            assert process.disk is not None and process._launch is not None
            area = process.disk._area
            assert area is not None
            held, spawner = os.fstat(area.folder), f"/proc/{process._launch.pid}/fd"
            holds = any(os.path.samestat(os.stat(one.path), held) for one in os.scandir(spawner))
            assert holds is (kinds.IN_FORCE is PlanKind.NO_NAMESPACES)  # it is its init there

    run(main)


def test_sizes_are_told_in_words() -> None:
    assert [in_words(size) for size in (10 * 2**30, 3 * 2**19, 2**10, 5)] == [
        "10 GiB",
        "1.5 MiB",
        "1 KiB",
        "5 bytes",
    ]
