"""A call that does nothing, played to have written to what a call writes to.

A process that was forked has its parent's pages until it writes to them, and the first write to
each costs a page fault and a copy. A call writes to some hundred of them. A spare has the time to
do that before, while it waits for its call.

It touches nothing of the workspace, imports nothing, and leaves nothing behind: the folder, the
environment and the import path are those of the call, which come with its message.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable
from contextlib import suppress

from sandbox_agent_ipc.board_view import BoardView
from sandbox_agent_ipc.cancel_reason import live_word
from sandbox_agent_ipc.channel import recv_datagram, send_datagram
from sandbox_agent_ipc.codec import decode, encode
from sandbox_agent_ipc.framing import encode_frame
from sandbox_agent_ipc.messages import (
    PROTOCOL,
    Call,
    FunctionRef,
    Ready,
    Result,
    Started,
    ToWorker,
)
from sandbox_agent_ipc.token import CallToken

from sandbox_agent_sandbox.inside.worker import leftovers
from sandbox_agent_sandbox.inside.worker.environment import take_environment
from sandbox_agent_sandbox.inside.worker.invoke import invoke
from sandbox_agent_sandbox.plan import Plan


def nothing(text: str, limit: int | None = None) -> str:
    """A tool that does nothing."""
    return text


_NOTHING = FunctionRef(nothing.__module__, nothing.__qualname__)


def play() -> None:
    """Play a call that does nothing, in this process, which has bound `nothing`."""
    word = live_word(1)
    encode(Ready(PROTOCOL))
    call = Call("", 0, word, _NOTHING, b"{}", "/", {}, 1 << 20)
    message = decode(encode(call), ToWorker)
    words = memoryview(word.to_bytes(8, "little") + bytes(8)).cast("Q")
    token = CallToken(words, 0, word, -1)
    result = invoke(message, b'{"text": "x"}', token, lambda: encode(Started()))
    encode(result)
    assert type(result) is Result and result.content == "x", result


def is_spare(inbox: socket.socket) -> bool:
    """Whether no call has come yet. That of an ordinary call is there before its worker is."""
    poll = select.poll()
    poll.register(inbox, select.POLLIN)
    return not poll.poll(0)


def rehearse(
    plan: Plan, board_fd: int, others: Callable[[], list[int]], move: Callable[[str], str]
) -> None:
    """Play a call that does nothing, with what comes before and after its tool."""
    variables = dict(plan.environment)
    with suppress(OSError):  # no descriptor is left, for instance: the call will say so
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours, theirs:
            send_datagram(ours, Call("", 0, 0, _NOTHING, b"{}", "/", variables, 1 << 20))
            message, _ = recv_datagram(theirs, ToWorker)
        take_environment({name: move(value) for name, value in message.env.items()})
        leftovers.wait(BoardView(board_fd).token(0, 0, -1), others)
        encode_frame(encode(Ready(PROTOCOL)))
        play()
