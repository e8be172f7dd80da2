"""A process that asks providers, and goes wrong at one moment in one way.

Copied into a folder that it may write to, and served from there by the real session, loop and
wake-up; only what would ask a provider is replaced. The environment says WHEN and HOW. It goes
wrong in the first request that is not a bystander's, and not again where a process replaces it,
unless there is a file `always`.
"""

from __future__ import annotations

import asyncio
import os
import re
import select
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import misbehaving
from sandbox_agent.models.process.inside import completion
from sandbox_agent.models.process.inside import serve as real
from sandbox_agent_ipc.model_messages import Answer, Ask, Piece

WHEN, FOLDER = os.environ.get("WHEN", ""), os.environ.get("FOLDER", ".")


def serve(end: Any) -> None:
    completion.load = load
    completion.answer = answer
    if WHEN == "after TERM":
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCONT})
        signal.signal(signal.SIGTERM, on_term)
        asyncio.BaseEventLoop.call_exception_handler = leave_the_loop  # type: ignore[method-assign]
    real.serve(end)


def leave_the_loop(loop: asyncio.BaseEventLoop, context: dict[str, Any]) -> None:
    """What `on_term` raises may strike in a callback. A loop would only log that, and nobody be
    hurt; whose code it meets is chance."""
    if isinstance(error := context.get("exception"), Exception):
        raise error


def load() -> None:
    """In the place of litellm's import."""
    if WHEN == "handshake":
        go_wrong()


async def answer(ask: Ask, tell: Callable[[Piece], None]) -> Answer:
    if ask.model == "bystander":
        tell(Piece("text", "half "))
        await let_go()
    elif ask.model == "swallower":
        tell(Piece("text", "half "))
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await asyncio.Event().wait()
    elif ask.model == "target":
        await target(tell)
    return Answer("whole")


async def target(tell: Callable[[Piece], None]) -> None:
    if WHEN == "before start":
        go_wrong()
    tell(Piece("text", "half "))
    if WHEN == "mid-frame":
        if not has_gone_wrong():
            os.write(misbehaving.outbox(), misbehaving.HALF_A_FRAME)
        go_wrong()
    elif WHEN == "mid-output":
        go_wrong()
    elif WHEN == "after flag":
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            go_wrong()
            raise
    elif WHEN == "after TERM":
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                continue  # deaf to the flag
    elif WHEN == "at exit":
        task = asyncio.current_task()
        assert task is not None
        task.add_done_callback(lambda task: go_wrong())


def on_term(number: int, frame: object) -> None:
    signal.sigwait({signal.SIGCONT})  # it follows SIGTERM, and would undo a SIGSTOP
    go_wrong()
    os._exit(0)


def has_gone_wrong() -> bool:
    return os.path.exists(f"{FOLDER}/gone") and not os.path.exists(f"{FOLDER}/always")


def go_wrong() -> None:
    if has_gone_wrong():
        return
    open(f"{FOLDER}/gone", "w").close()
    if os.environ["HOW"] == "from outside":
        with open(f"{FOLDER}/go", "rb", buffering=0) as go:
            select.select([go], [], [])  # its loop is blocked as long as that
    elif os.environ["HOW"] == "busy in C":
        re.match(r"(a|a)*b", "a" * 60)  # with the interpreter's lock held
    else:
        starved = False
        try:
            misbehaving.go_wrong()
        except MemoryError:
            starved = True  # what was eaten is let go of with its frame, as by whoever caught it
        if starved:
            raise MemoryError


async def let_go() -> None:
    """Until the test has written to the named pipe, which keeps what was written."""
    loop, opened = asyncio.get_running_loop(), asyncio.Event()
    with open(os.open(f"{FOLDER}/go", os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as go:
        loop.add_reader(go, opened.set)
        await opened.wait()
        loop.remove_reader(go)
