"""`Conversation.stream`: what happens in a run, in its order, for `async for`."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

import msgspec
from msgspec.structs import replace
from sandbox_agent_ipc.cancel_shield import CancelShield
from sandbox_agent_ipc.futures import call_soon, resolve

from sandbox_agent.journal.events import AnyEvent
from sandbox_agent.journal.result import RunResult
from sandbox_agent.models import ModelDelta
from sandbox_agent.run.setup import Setup

_AHEAD = 1024 * 1024
"""Bytes of output that wait for a slow reader. Then the calls that print wait too."""


class OutputPiece(msgspec.Struct, frozen=True):
    """A piece of what a call printed. stream: "stdout" or "stderr"."""

    call: str
    stream: str
    data: bytes


StreamItem = AnyEvent | ModelDelta | OutputPiece | RunResult


class Tap:
    """Takes what happens in one run, until it is read in the event loop that this is made in."""

    def __init__(self) -> None:
        self.items: deque[StreamItem] = deque()
        self._loop = asyncio.get_running_loop()
        self._changed: asyncio.Future[None] = self._loop.create_future()
        self._waiting = 0
        self._room: list[asyncio.Future[None]] = []
        self._closed = False

    def put(self, item: StreamItem) -> None:
        """Add an item. For any thread: `send_message` may be called in another one."""
        self.items.append(item)
        call_soon(self._loop, self.wake)

    def wake(self, *_: object) -> None:
        """There may be something to read."""
        resolve(self._changed)

    async def changed(self) -> None:
        """Wait for `wake`."""
        await self._changed
        self._changed = self._loop.create_future()

    def take(self) -> StreamItem:
        """The next item."""
        item = self.items.popleft()
        if isinstance(item, OutputPiece):
            self._waiting -= len(item.data)
            if self._waiting <= _AHEAD:
                self._give_room()
        return item

    def close(self) -> None:
        """Nobody reads any more, so nobody waits for a reader."""
        self._closed = True
        self._give_room()

    def listening(self, setup: Setup) -> Setup:
        """The same setup for a run that this hears too."""
        own = setup.callbacks

        def on_output(call: str, stream: str, data: bytes) -> object:
            answer = None if own.on_output is None else own.on_output(call, stream, data)
            if answer is False or self._closed:
                return answer
            self.put(OutputPiece(call, stream, data))
            self._waiting += len(data)
            if answer is None and self._waiting > _AHEAD:
                answer = self._loop.create_future()
                self._room.append(answer)
            return answer

        def on_delta(delta: ModelDelta) -> None:
            self.put(delta)
            if own.on_delta is not None:
                own.on_delta(delta)

        callbacks = replace(own, on_output=on_output, on_delta=on_delta)
        return replace(setup, callbacks=callbacks)

    def _give_room(self) -> None:
        while self._room:
            resolve(self._room.pop())


async def stream_of(
    run: Callable[[Tap], Coroutine[Any, Any, RunResult]],
) -> AsyncGenerator[StreamItem, None]:
    """What a tap hears while `run` goes, then its result. Raises what `run` raises.

    If this is left early, the run is stopped first.
    """
    tap = Tap()
    task = asyncio.get_running_loop().create_task(run(tap))
    task.add_done_callback(tap.wake)
    try:
        while tap.items or not task.done():
            if tap.items:
                yield tap.take()
            else:
                await tap.changed()
        yield task.result()
    finally:
        tap.close()
        shield = CancelShield()
        if not task.done():
            task.cancel()
            await shield.wait({task})
        if not task.cancelled():
            task.exception()  # so that asyncio does not report it where nothing waits
        shield.raise_cancelled()
