"""Waiting that cancellation cannot cut short."""

from __future__ import annotations

import asyncio
from typing import Any

from sandbox_agent.waiting import settle


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
            await settle({asyncio.ensure_future(work())}, on_cancel)
            told.append("waiter goes on")

        task = asyncio.create_task(waiter())
        for _ in range(3):
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.sleep(0)
        await task
        return told

    assert asyncio.run(main()) == ["told to stop"] * 3 + ["work is over", "waiter goes on"]


def test_the_first_or_all_are_waited_for() -> None:
    async def main() -> tuple[Any, Any, Any]:
        loop = asyncio.get_running_loop()
        now, later = loop.create_future(), loop.create_future()
        now.set_result(1)
        first = await settle({now, later}, lambda: None, first=True)
        late = await settle({later}, lambda: None, timeout=0.001)
        later.set_result(2)
        both = await settle({now, later}, lambda: None)
        return len(first), len(late), len(both)

    assert asyncio.run(main()) == (1, 0, 2)


def test_nothing_to_wait_for_is_no_wait() -> None:
    assert asyncio.run(settle(set(), lambda: None)) == set()
