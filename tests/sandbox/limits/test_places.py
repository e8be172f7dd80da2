"""Where control groups are made, and that those of dead agents are removed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from sandbox_agent_sandbox.limits import places
from sandbox_agent_sandbox.plan import ControlGroups


@pytest.fixture
def found() -> ControlGroups:
    where = places.find_places()
    if where is None:
        pytest.skip("needs a control group for memory that can be written")
    return where


def test_a_group_of_a_dead_agent_is_removed_and_that_of_a_living_one_is_not(
    found: ControlGroups,
) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    mine = Path(found.memory, places.new_name())
    name = mine.name.split("-")
    # sandbox-agent-NAMESPACE-PID-START-NUMBER
    others = mine.with_name("-".join([*name[:3], str(dead.pid), "12345", "1"]))
    elsewhere = mine.with_name("-".join([*name[:2], "1", str(dead.pid), "12345", "1"]))
    made = [mine, others, elsewhere]
    for group in made:
        group.mkdir()
    (others / "call-1").mkdir()
    try:
        places.sweep(found.memory)
        assert [group.exists() for group in made] == [True, False, True]
    finally:
        for group in (mine, elsewhere):
            group.rmdir()


def test_a_name_says_which_process_made_the_group() -> None:
    first, second = places.new_name(), places.new_name()
    assert first != second
    assert f"-{os.getpid()}-" in first


@pytest.mark.parametrize(
    ("root", "group", "folder"),
    [
        ("/", "/user/one", "/sys/fs/cgroup/user/one"),
        ("/", "/", "/sys/fs/cgroup"),
        ("/docker/1", "/docker/1/a", "/sys/fs/cgroup/a"),
        ("/docker/1", "/docker/1", "/sys/fs/cgroup"),
        ("/docker/1", "/docker/12", ""),
        ("/", "/../other", ""),
    ],
)
def test_a_group_is_found_where_its_mount_shows_it(root: str, group: str, folder: str) -> None:
    mount = places._Mount("/sys/fs/cgroup", root, 1, frozenset())
    assert places._folder(mount, group) == folder
