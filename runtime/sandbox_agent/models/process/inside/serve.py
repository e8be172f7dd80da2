"""The model process: one event loop, one task per request.

It holds the keys, so it cannot be traced or dumped, and it runs in a pid namespace that tools do
not see. It has no workspace and runs no tool.
"""

from __future__ import annotations

import asyncio
import os
from typing import NoReturn

import msgspec
from sandbox_agent_ipc.model_messages import Ask, Failure, FailureKind, Piece
from sandbox_agent_sandbox.inside.worker.serving import SessionRequest, SessionServer

from sandbox_agent.models.process.inside import completion

_CANCEL_INTERVAL = 0.025
"""Seconds between two cancellations of a request. Closing a connection takes one or two
milliseconds and must not be cut short."""

_ask = msgspec.msgpack.Decoder(Ask)
_encode = msgspec.msgpack.Encoder().encode


def serve(end: SessionServer) -> None:
    """Serves until the host closes the session. Never returns: unloading litellm takes a second."""
    completion.load()
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    # Not `asyncio.run`: an error that ends the loop would cancel every request, and each would
    # report that it was cancelled. If the process dies instead, the host asks them again.
    loop.run_until_complete(_serve(end))
    os._exit(0)


async def _serve(end: SessionServer) -> None:
    loop = asyncio.get_running_loop()
    closed: asyncio.Future[None] = loop.create_future()
    tasks: set[asyncio.Task[None]] = set()

    def on_readable() -> None:
        try:
            asked = end.receive()
        except Exception as error:  # out of memory, most likely
            _die(error)
        if asked is None:
            loop.remove_reader(end.socket.fileno())
            closed.set_result(None)
            return
        task = loop.create_task(_answer_one(end, asked))
        tasks.add(task)
        task.add_done_callback(done)

    def done(task: asyncio.Task[None]) -> None:
        tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _die(error)

    loop.add_reader(end.socket.fileno(), on_readable)
    end.ready()
    await closed


async def _answer_one(end: SessionServer, asked: SessionRequest) -> None:
    loop, work = asyncio.get_running_loop(), asyncio.current_task()
    assert work is not None
    wake = asked.token.wake_fd

    def woken() -> None:
        loop.remove_reader(wake)  # the descriptor stays readable for ever
        cancel()

    def cancel() -> None:
        # Repeated: a wake-up may be spurious, and a library below may swallow a cancellation.
        if not answered:
            if asked.token.is_cancelled:
                work.cancel()
            loop.call_later(_CANCEL_INTERVAL, cancel)

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
    """Ends the process: a request in it can never be answered. The host asks another process."""
    os.write(2, f"model process: {error!r}\n".encode())
    os._exit(70)
