"""The setting `spares`: how many workers a conversation keeps ready."""

from __future__ import annotations

import os
import warnings
from math import inf
from pathlib import Path
from typing import Any

import observer
import pytest
from sandbox_agent.config.settings import Settings, Workspace
from sandbox_agent.config.task_file import load_task
from sandbox_agent.run.sandbox import ConversationSandbox
from sandbox_agent_ipc.token import RunToken
from sandbox_agent_sandbox.host.spares import MOST
from sandboxes import command, run, until


def host_of(workspace: Path, **settings: Any) -> ConversationSandbox:
    return ConversationSandbox(Settings(workspace=Workspace(path=workspace), **settings), ())


def workers() -> list[observer.Process]:
    below = observer.descendants(os.getpid())
    return [one for one in below if one.name == "sandbox-worker"]


@pytest.mark.parametrize(("settings", "number"), [({}, 2), ({"spares": 1}, 1), ({"spares": 3}, 3)])
def test_so_many_workers_wait_as_the_setting_says(
    tmp_path: Path, settings: dict[str, int], number: int
) -> None:
    host = host_of(tmp_path, **settings)

    async def main() -> None:
        await host.open(RunToken())
        assert host.cell is not None
        spares = host.cell._supervisor.spares
        await until(lambda: len(spares.waiting()) == number)
        assert spares.due(frozen=False) == inf, "no more are made"
        assert len(workers()) == number
        result = await host.cell.call(command(tmp_path, "echo on"))
        assert result.output == "on\n"
        await until(lambda: len(spares.waiting()) == number)

    try:
        run(main)
    finally:
        assert host.close() == ()
    assert workers() == []


def test_with_none_no_worker_waits(tmp_path: Path) -> None:
    host = host_of(tmp_path, spares=0)

    async def main() -> None:
        await host.open(RunToken())
        assert host.cell is not None
        assert host.cell._supervisor.spares.due(frozen=False) == inf
        assert (await host.cell.call(command(tmp_path, "echo on"))).output == "on\n"
        assert host.cell._supervisor.spares.due(frozen=False) == inf
        assert workers() == []

    try:
        run(main)
    finally:
        assert host.close() == ()


def test_more_than_are_of_use_are_said_once(tmp_path: Path) -> None:
    host = host_of(tmp_path, spares=1000)

    async def main() -> None:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            for _ in range(2):
                host.begin()
                await host.open(RunToken())
        told = [str(one.message) for one in said if "spares" in str(one.message)]
        assert told == [f"spares: {MOST} of 1000 spare workers are kept: more would not be used"]

    try:
        run(main)
    finally:
        assert host.close() == ()


def test_a_task_file_sets_it(tmp_path: Path) -> None:
    (tmp_path / "task.yaml").write_text(
        "version: 1\nprompt: Go.\nmodel: scripted:steps.yaml\nspares: 0\n"
    )
    (tmp_path / "steps.yaml").write_text("- say: done\n")
    assert load_task(tmp_path / "task.yaml").spares == 0
