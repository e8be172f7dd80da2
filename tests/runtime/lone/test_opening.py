"""The sandbox of a run of one call is built beside what else is imported."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import msgspec
import observer
import pytest
from sandbox_agent.config.functions import FunctionPlace
from sandbox_agent.config.plain import PlainSettings, PlainTool, PlainWorkspace
from sandbox_agent.errors import ConfigError
from sandbox_agent.journal.folder import new_run_id
from sandbox_agent.lone.opening import Opening
from sandbox_agent.source_root import SANDBOX_ROOT
from sandbox_agent.tools.exec_tool import EXEC
from sandbox_agent_ipc.cancel_reason import CancelReason
from sandbox_agent_ipc.futures import LoneCancelled
from sandbox_agent_sandbox.errors import PolicyError
from sandbox_agent_sandbox.policy.fields.plain import POLICY, PlainPolicy


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


def opening(work: Path, runs: Path, policy: PlainPolicy = POLICY) -> Opening:
    settings = PlainSettings(
        workspace=PlainWorkspace(work, allow_home=False),
        tools=[PlainTool(FunctionPlace(EXEC, root=SANDBOX_ROOT))],
        agents_md=False,
        sandbox=policy,
        spares=0,
    )
    return Opening(settings, runs / new_run_id(), (), None)


def build(begun: Opening) -> None:
    """Makes the plan, which waits for the look through the folders."""
    begun.begin()
    looks = [thread for thread in threading.enumerate() if thread.name == "sandbox-agent look"]
    for thread in looks:
        thread.join(30)
    begun.build()


def inits() -> list[observer.Process]:
    """Inits of sandboxes of this process, in which the view is built."""
    return [
        one
        for one in observer.descendants(os.getpid())
        if one.name == "sandbox-init" and one.namespace_pids[-1:] == (1,)
    ]


def test_it_is_built_while_this_thread_does_something_else(work: Path, tmp_path: Path) -> None:
    begun = opening(work, tmp_path / "runs")
    try:
        build(begun)
        assert observer.eventually(inits, 30)
        assert begun.host.registry is None
        registry = begun.finish()
        assert [tool.spec.name for tool in registry.tools] == ["exec_argv"]
        assert begun.host.cell is not None and begun.host.cell.usable
    finally:
        begun.close()
    assert not inits()
    begun.close()


def test_a_sandbox_that_nobody_waits_for_is_closed(work: Path, tmp_path: Path) -> None:
    begun = opening(work, tmp_path / "runs")
    build(begun)
    assert observer.eventually(inits, 30)
    begun.close()
    assert not inits()


def test_what_fails_is_said_to_who_waits(work: Path, tmp_path: Path) -> None:
    wrong = msgspec.structs.replace(POLICY, read=[Path("/there/is/no/such/folder")])
    begun = opening(work, tmp_path / "runs", wrong)
    try:
        build(begun)
        with pytest.raises(PolicyError, match="no/such/folder"):
            begun.finish()
    finally:
        begun.close()


def test_a_stop_that_came_meanwhile_ends_the_wait(work: Path, tmp_path: Path) -> None:
    begun = opening(work, tmp_path / "runs")
    try:
        build(begun)
        begun.decision.stop(CancelReason.INTERRUPT, "interrupted")
        with pytest.raises(LoneCancelled):
            begun.finish()
    finally:
        begun.close()
    assert not inits()


def test_a_folder_that_the_journal_makes_is_waited_for(work: Path, tmp_path: Path) -> None:
    """The run's folder lies where tools may write, so it is hidden: only once it is there."""
    policy = msgspec.structs.replace(POLICY, write=[tmp_path])
    begun = opening(work, tmp_path, policy)
    try:
        build(begun)
        assert not list(tmp_path.glob("2*"))
    finally:
        begun.close()


def test_a_folder_that_cannot_hold_the_run_is_refused_first(work: Path) -> None:
    with pytest.raises(ConfigError, match="is the workspace"):
        opening(work, work)
