"""The process that asks providers: one event loop, one task per request.

It holds the keys, so nobody may look into it: it cannot be traced or dumped, and it lives in a pid
namespace that tools do not see. It has no workspace and runs no tool.
"""

from __future__ import annotations

import asyncio
import os
from typing import NoReturn

import msgspec
from sandbox_agent_ipc.model_messages import Ask, Failure, FailureKind, Piece
from sandbox_agent_sandbox.inside.kernel import syscalls
from sandbox_agent_sandbox.inside.worker.serving import SessionRequest, SessionServer

from sandbox_agent.models.process.inside import completion

_AGAIN = 0.025
"""Seconds between two cancellations of a request. Closing a connection takes one or two
milliseconds, and is not to be cut short."""

_ask = msgspec.msgpack.Decoder(Ask)
_encode = msgspec.msgpack.Encoder().encode


def serve(end: SessionServer) -> None:
    """Serve until the host hangs up. Never returns: taking litellm down takes a second."""
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
    completion.load()
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    # Not by `asyncio.run`: what breaks the loop would then cancel every request, and each would
    # say that it was stopped. When the process dies of it instead, they are asked again.
    loop.run_until_complete(_serve(end))
    os._exit(0)


async def _serve(end: SessionServer) -> None:
    loop = asyncio.get_running_loop()
    hung_up: asyncio.Future[None] = loop.create_future()
    tasks: set[asyncio.Task[None]] = set()

    def on_readable() -> None:
        try:
            asked = end.receive()
        except Exception as error:  # for want of memory, most likely
            _die(error)
        if asked is None:
            loop.remove_reader(end.socket.fileno())
            hung_up.set_result(None)
            return
        task = loop.create_task(_one(end, asked))
        tasks.add(task)
        task.add_done_callback(over)

    def over(task: asyncio.Task[None]) -> None:
        tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _die(error)

    loop.add_reader(end.socket.fileno(), on_readable)
    end.ready()
    await hung_up


async def _one(end: SessionServer, asked: SessionRequest) -> None:
    loop, work = asyncio.get_running_loop(), asyncio.current_task()
    assert work is not None
    wake = asked.token.wake_fd

    def woken() -> None:
        loop.remove_reader(wake)  # it stays readable for ever
        look()

    def look() -> None:
        # Again and again: it may have been woken for nothing, and a library below may take a
        # cancellation for its own, and go on.
        if not answered:
            if asked.token.is_cancelled:
                work.cancel()
            loop.call_later(_AGAIN, look)

    def tell(piece: Piece) -> None:
        end.reply(asked, _encode(piece))

    answered = False
    loop.add_reader(wake, woken)
    try:
        result = await completion.answer(_ask.decode(asked.body), tell)
    except asyncio.CancelledError:
        result = Failure(FailureKind.CONNECTION, "cancelled")
    except Exception as error:
        result = Failure(FailureKind.PROVIDER, f"a bug in sandbox-agent: {error!r}"[:2000])
    finally:
        answered = True
        loop.remove_reader(wake)
    end.done(asked, _encode(result))
    asked.close()


def _die(error: BaseException) -> NoReturn:
    """There is a request that can never be answered. Of another process it will be asked again."""
    os.write(2, f"model process: {error!r}\n".encode())
    os._exit(70)
