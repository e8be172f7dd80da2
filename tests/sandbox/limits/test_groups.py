"""The kernel bounds memory and processes of a sandbox, and counts what it refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from sandbox_agent_sandbox.errors import SandboxUnavailable
from sandbox_agent_sandbox.host.cell import Cell
from sandbox_agent_sandbox.limits import groups as groups_module
from sandbox_agent_sandbox.limits.groups import CallGroup, Counts, SandboxGroups
from sandbox_agent_sandbox.limits.places import PREFIX, find_places
from sandbox_agent_sandbox.plan import ControlGroups, ResourceLimits
from sandbox_agent_sandbox.policy.make_plan import make_plan
from sandbox_agent_sandbox.policy.policy import Policy
from sandbox_agent_sandbox.policy.probe import host_facts
from sandboxes import run

MIB = 1 << 20
FORK = """
import os, signal
made = []
try:
    while len(made) < 20:
        made.append(os.fork())
        if not made[-1]:
            signal.pause()
except BlockingIOError:
    pass
for pid in made:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
"""
EAT = "x = bytearray(int(__import__('sys').argv[1]) << 20)"


@pytest.fixture
def found() -> ControlGroups:
    where = find_places()
    if where is None or where.version != 1:
        pytest.skip("needs a control group for memory that can be written")
    return where


@pytest.fixture
def either() -> ControlGroups:
    """Of whichever version."""
    where = find_places()
    if where is None:
        pytest.skip("needs a control group for memory that can be written")
    return where


def run_in(group: CallGroup, *argv: str) -> int:
    def join() -> None:
        for fd in group.joins:
            os.write(fd, b"0")

    return subprocess.run(argv, preexec_fn=join, capture_output=True, check=False).returncode


def eat(group: CallGroup, mebibytes: int) -> int:
    return run_in(group, sys.executable, "-S", "-c", EAT, str(mebibytes))


def left(found: ControlGroups) -> list[str]:
    mine = f"-{os.getpid()}-"
    folders = {found.memory, found.processes} - {""}
    names = [name for folder in folders for name in os.listdir(folder)]
    return [name for name in names if name.startswith(PREFIX) and mine in name]


def test_memory_of_all_calls_is_bounded_and_the_groups_go_with_the_sandbox(
    found: ControlGroups,
) -> None:
    groups = SandboxGroups(found, ResourceLimits(memory=64 * MIB, processes=20))
    try:
        first = groups.enter()
        assert eat(first, 16) == 0
        second = groups.enter()
        assert eat(second, 128) == -9
        assert groups.leave(first, empty=True) == Counts(full=1)
        seen = groups.leave(second, empty=True)
        assert (seen.killed, seen.full, seen.call_full) == (1, 1, 0)
        # A group that was used is used again, and what happened before does not count.
        third = groups.enter()
        assert third.path in (first.path, second.path)
        assert eat(third, 16) == 0
        assert groups.leave(third, empty=True) == Counts()
    finally:
        groups.close()
    assert left(found) == []


def test_memory_of_one_call_is_bounded_apart(either: ControlGroups) -> None:
    groups = SandboxGroups(either, ResourceLimits(memory=512 * MIB, call_memory=48 * MIB))
    try:
        group = groups.enter()
        assert eat(group, 128) == -9
        seen = groups.leave(group, empty=True)
        assert (seen.killed, seen.full, seen.call_full) == (1, 0, 1)
        assert not Path(group.path).exists(), "what it left counts for no other call"
    finally:
        groups.close()
    assert left(either) == []


def test_a_sandbox_whose_groups_cannot_be_made_is_refused(tmp_path: Path) -> None:
    """They were possible when the sandbox was planned."""

    async def main() -> None:
        plan = make_plan(Policy(), host_facts(), workspace=tmp_path)
        plan = msgspec.structs.replace(plan, groups=ControlGroups(1, "/proc/self", ""))
        cell = Cell(plan, grace=0.1, term=0.1)
        with pytest.raises(SandboxUnavailable, match="cannot make the sandbox's control groups"):
            await cell.open()
        assert cell.close() == ()

    run(main)


def test_a_refused_process_is_counted(either: ControlGroups) -> None:
    if not either.processes:
        pytest.skip("needs a control group for processes that can be written")
    groups = SandboxGroups(either, ResourceLimits(call_memory=512 * MIB, processes=8))
    try:
        group = groups.enter()
        assert run_in(group, sys.executable, "-S", "-c", FORK) == 0
        assert groups.leave(group, empty=True).refused > 0
        group = groups.enter()
        assert run_in(group, "sh", "-c", "sleep 0 & wait") == 0
        assert groups.leave(group, empty=True) == Counts()
    finally:
        groups.close()
    assert left(either) == []


def test_what_version_2_has_counted_is_read(tmp_path: Path) -> None:
    """cgroup-v2.rst, memory.events and pids.events"""
    events = tmp_path / "memory.events"
    events.write_text("low 0\nhigh 0\nmax 7\noom 3\noom_kill 2\noom_group_kill 0\n")
    pids = tmp_path / "pids.events"
    pids.write_text("max 5\n")
    for path, name, number in ((events, "oom_kill", 2), (events, "oom", 3), (pids, "max", 5)):
        fd = os.open(path, os.O_RDONLY)
        assert groups_module._count(fd, name) == number
        assert groups_module._count(fd, "none") == 0
        os.close(fd)
    assert groups_module._count(None, "oom") == 0
