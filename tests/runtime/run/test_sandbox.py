"""The sandbox of a conversation, whose first process is started before its plan is made."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import observer
import pytest
from sandbox_agent.config.settings import Settings, Workspace
from sandbox_agent.errors import ConfigError
from sandbox_agent.run.sandbox import ConversationSandbox
from sandbox_agent_ipc.token import RunToken
from sandbox_agent_sandbox.errors import PolicyError
from sandbox_agent_sandbox.policy.policy import Policy
from sandboxes import run


def host_of(workspace: Path, **settings: Any) -> ConversationSandbox:
    return ConversationSandbox(Settings(workspace=Workspace(path=workspace), **settings), ())


def below() -> list[observer.Process]:
    return observer.descendants(os.getpid())


def gone_soon() -> bool:
    """Whether nothing is left. A process that the spawner was starting as it was killed reads an
    end of file, and exits by itself."""
    with observer.watching(below()) as handles:
        return observer.wait_gone(handles, 0.25 * observer.patience())[1] == []


def spawners() -> list[observer.Process]:
    """Those that this process has started; init, which comes from one, is not."""
    found = [one for one in below() if one.parent == os.getpid()]
    return [one for one in found if "spawner.run import run" in one.command]


def test_the_first_process_is_there_before_the_plan_and_is_the_one_that_builds_it(
    tmp_path: Path,
) -> None:
    host = host_of(tmp_path)

    async def main() -> None:
        host.begin()
        [first] = observer.eventually(spawners, 20)
        assert host.plan is None
        await host.open(RunToken())
        assert [one.pid for one in spawners()] == [first.pid]
        host.begin()  # of the next run: the sandbox is kept
        await host.open(RunToken())
        assert [one.pid for one in spawners()] == [first.pid]

    try:
        run(main)
    finally:
        assert host.close() == ()
    assert below() == []


def test_a_plan_that_cannot_be_made_ends_the_first_process_at_once(tmp_path: Path) -> None:
    host = host_of(tmp_path, sandbox=Policy(read=[str(tmp_path / "missing")]))

    async def main() -> None:
        host.begin()
        observer.eventually(below, 20)
        with pytest.raises((PolicyError, ConfigError)):
            await host.open(RunToken())
        assert below() == []  # and the conversation is not closed yet

    run(main)
    assert host.close() == ()


@pytest.mark.parametrize("steps", [0, 1, 2, 5, 20])
def test_an_opening_that_is_cancelled_leaves_nothing(tmp_path: Path, steps: int) -> None:
    host = host_of(tmp_path)

    async def main() -> None:
        host.begin()
        opening = asyncio.create_task(host.open(RunToken()))
        for _ in range(steps):
            await asyncio.sleep(0)
        opening.cancel()
        await asyncio.wait({opening})
        if steps:
            assert gone_soon()

    run(main)
    assert host.close() == ()
    assert below() == []


def test_a_run_that_never_opens_its_sandbox_leaves_nothing_once_it_is_closed(
    tmp_path: Path,
) -> None:
    host = host_of(tmp_path)
    host.begin()
    observer.eventually(below, 20)
    assert host.close() == ()
    assert below() == []
