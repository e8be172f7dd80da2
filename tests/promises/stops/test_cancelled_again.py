"""A run whose task is cancelled again and again returns as soon as its work has stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import observer
import pytest
import talking
from sandbox_agent.config.settings import Interrupt
from sandbox_agent.conversation import Conversation
from sandbox_agent.errors import StateError
from sandbox_agent.journal.result_file import read_record
from sandbox_agent.journal.status import Status
from sandbox_agent.models import Model
from talking import Watch, shell, sleeper, talk

PATIENCE = 20.0
"""Seconds in which a run that was stopped must have returned."""


@pytest.fixture
def mark() -> Iterator[str]:
    mark = observer.new_mark()
    yield mark
    assert observer.marked(mark) == []


async def up(watch: Watch) -> None:
    await asyncio.get_running_loop().run_in_executor(None, watch.wait_up)


async def in_a_cancel_scope(conv: Conversation, watch: Watch) -> None:
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(cancel_when_up, scope, watch)
            await conv.arun()
    assert scope.cancelled_caught


async def cancel_when_up(scope: anyio.CancelScope, watch: Watch) -> None:
    await up(watch)
    scope.cancel()


async def in_move_on_after(conv: Conversation, watch: Watch) -> None:
    with anyio.move_on_after(2) as scope:
        await conv.arun()
    assert scope.cancelled_caught


async def in_a_task_group(conv: Conversation, watch: Watch) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(conv.arun)
        await up(watch)
        group.cancel_scope.cancel()


async def by_a_loop(conv: Conversation, watch: Watch) -> None:
    task = asyncio.create_task(conv.arun())
    await up(watch)
    while not task.done():
        task.cancel()
        await asyncio.sleep(0)
    assert task.cancelled()


WAYS = [in_a_cancel_scope, in_move_on_after, in_a_task_group, by_a_loop]


@pytest.mark.timeout(60, method="signal")
@pytest.mark.parametrize("way", WAYS)
def test_a_run_that_is_cancelled_in_every_turn_of_its_loop_returns(
    tmp_path: Path, watch: Watch, mark: str, way: Callable[..., Any]
) -> None:
    async def main(conv: Conversation) -> None:
        await way(conv, watch)
        assert observer.marked(mark) == []

    with talk(tmp_path, watch, shell(sleeper(mark))) as conv:
        asyncio.run(main(conv))
        assert read_record(conv.run_dir).status is Status.INTERRUPTED
        assert talking.ends(conv)["call_1_1"].outcome == "cancelled"


@pytest.mark.timeout(60, method="signal")
def test_leaving_the_with_block_in_a_cancelled_scope_takes_the_sandbox_down(
    tmp_path: Path, watch: Watch, mark: str
) -> None:
    """`__aexit__` awaits in a scope that is cancelled already."""

    async def main() -> None:
        with anyio.CancelScope() as scope:
            async with talk(tmp_path, watch, shell(sleeper(mark))) as conv:
                task = asyncio.create_task(conv.arun())
                await up(watch)
                scope.cancel()
                await anyio.sleep_forever()
        assert scope.cancelled_caught
        assert read_record(conv.run_dir).status is Status.INTERRUPTED
        assert conv._host.cell is None
        assert (await task).status is Status.INTERRUPTED
        with pytest.raises(StateError, match="closed"):
            await conv.arun()

    asyncio.run(main())


class Deaf(Model):
    """A model that does not care for being cancelled."""

    name = "deaf"

    def __init__(self) -> None:
        self.let_go = asyncio.Event()
        self.asked = asyncio.Event()

    async def complete(self, history: Any, tools: Any, token: Any, on_delta: Any) -> Any:
        self.asked.set()
        while not self.let_go.is_set():
            try:
                await self.let_go.wait()
            except asyncio.CancelledError:
                continue


@pytest.mark.timeout(60, method="signal")
def test_a_model_that_ignores_cancellation_is_left_behind_in_time(
    tmp_path: Path, watch: Watch
) -> None:
    async def main() -> None:
        model = Deaf()
        with talk(tmp_path, watch, model=model, interrupt=Interrupt(0.3, 0.3)) as conv:
            task = asyncio.create_task(conv.arun())
            await model.asked.wait()
            clock = asyncio.get_running_loop().time
            begun = clock()
            with pytest.warns(RuntimeWarning, match="does not stop when cancelled"):
                while not task.done() and clock() - begun < PATIENCE:
                    task.cancel()
                    await asyncio.wait([task], timeout=0.1)  # below the limit of 0.7 s
            assert task.cancelled()
            model.let_go.set()

    asyncio.run(main())
