"""Work in a thread that nobody has to wait for."""

from __future__ import annotations

import asyncio
import threading

import pytest
from sandbox_agent.embedding.daemon_thread import Background


def fail() -> None:
    raise OSError("gone")


def test_its_result_comes_whether_it_is_over_or_not() -> None:
    go = threading.Event()
    slow = Background(lambda: go.wait(10), "slow")

    async def main() -> tuple[bool, bool]:
        first = slow.result()
        assert not first.done()
        go.set()
        return await first, await slow.result()

    assert asyncio.run(main()) == (True, True)


def test_what_it_raises_comes_too() -> None:
    async def main() -> None:
        await Background(fail, "failing").result()

    with pytest.raises(OSError, match="gone"):
        asyncio.run(main())


def test_an_event_loop_ends_without_it() -> None:
    go = threading.Event()

    async def main() -> None:
        waiting = Background(lambda: go.wait(10), "slow").result()
        await asyncio.wait({waiting}, timeout=0.01)

    asyncio.run(main())
    assert not go.is_set(), "the loop has ended before the work"
    go.set()
