"""What a spare does while it waits for its call: it plays one.

A process that was forked has its parent's pages until it writes to them, and the first write to
each costs a page fault and a copy. A call writes to some hundred of them. A spare has the time to
do that before.

It touches nothing of the workspace, imports nothing, and leaves nothing behind: the folder, the
environment and the import path are those of the call, which come with its message.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable
from contextlib import suppress

from sandbox_agent_ipc.board_view import BoardView
from sandbox_agent_ipc.channel import recv_datagram, send_datagram
from sandbox_agent_ipc.codec import encode
from sandbox_agent_ipc.framing import encode_frame
from sandbox_agent_ipc.messages import PROTOCOL, Call, Ready, ToWorker

from sandbox_agent_sandbox.inside.prepare import NOTHING, play
from sandbox_agent_sandbox.inside.worker import leftovers
from sandbox_agent_sandbox.inside.worker.environment import take_environment
from sandbox_agent_sandbox.plan import Plan


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
            send_datagram(ours, Call("", 0, 0, NOTHING, b"{}", "/", variables, 1 << 20))
            message, _ = recv_datagram(theirs, ToWorker)
        take_environment({name: move(value) for name, value in message.env.items()})
        leftovers.wait(BoardView(board_fd).token(0, 0, -1), others)
        encode_frame(encode(Ready(PROTOCOL)))
        play()
