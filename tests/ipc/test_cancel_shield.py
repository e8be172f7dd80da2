"""A cancellation of a task that waits for work: the work stops first, then it is raised."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from sandbox_agent_ipc.cancel_shield import CancelShield


def test_a_cancelled_waiter_waits_on_until_the_work_is_done() -> None:
    async def main() -> list[str]:
        told: list[str] = []
        stop = asyncio.Event()

        async def work() -> None:
            await stop.wait()
            told.append("work is over")

        def on_cancel() -> None:
            told.append("told to stop")
            if len(told) == 3:
                stop.set()

        async def waiter() -> None:
            await CancelShield(on_cancel).wait({asyncio.ensure_future(work())})
            told.append("waiter goes on")

        task = asyncio.create_task(waiter())
        for _ in range(3):
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.sleep(0)
        await task
        return told

    assert asyncio.run(main()) == ["told to stop"] * 3 + ["work is over", "waiter goes on"]


async def _cancel_in_every_turn(task: asyncio.Task[Any]) -> None:
    """As an anyio scope does, for as long as it takes."""
    await asyncio.sleep(0)  # a task that is cancelled before its first step runs nothing
    while not task.done():
        task.cancel()
        await asyncio.sleep(0)


@pytest.mark.parametrize("first", [False, True])
def test_cancelled_in_every_turn_of_the_loop_it_sees_that_the_work_is_done(first: bool) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        work = loop.create_future()
        threading.Timer(0.05, loop.call_soon_threadsafe, (work.set_result, None)).start()
        task = asyncio.create_task(CancelShield().wait({work}, first=first))
        await asyncio.wait_for(_cancel_in_every_turn(task), 10)
        assert await task == {work}

    asyncio.run(main())


def test_a_time_limit_does_not_begin_anew_with_a_cancellation() -> None:
    async def main() -> None:
        never = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(CancelShield().wait({never}, timeout=0.1))
        await asyncio.wait_for(_cancel_in_every_turn(task), 10)
        assert await task == set()

    asyncio.run(main())


def test_the_first_or_all_are_waited_for() -> None:
    async def main() -> tuple[Any, Any, Any]:
        loop = asyncio.get_running_loop()
        now, later = loop.create_future(), loop.create_future()
        now.set_result(1)
        first = await CancelShield().wait({now, later}, first=True)
        late = await CancelShield().wait({later}, timeout=0.001)
        later.set_result(2)
        both = await CancelShield().wait({now, later})
        return len(first), len(late), len(both)

    assert asyncio.run(main()) == (1, 0, 2)


def test_nothing_to_wait_for_is_no_wait() -> None:
    assert asyncio.run(CancelShield().wait(set())) == set()


@pytest.mark.parametrize("messages", [("scope", None), (None, "scope"), (None,)])
def test_of_cancellations_the_one_that_no_scope_takes_back_is_raised(
    messages: tuple[str | None, ...],
) -> None:
    shield = CancelShield()
    shield.raise_cancelled()
    assert not shield.cancelled
    for message in messages:
        shield.absorb(asyncio.CancelledError(*([message] if message else [])))
    assert shield.cancelled
    with pytest.raises(asyncio.CancelledError) as caught:
        shield.raise_cancelled()
    assert caught.value.args == ()
