"""The worker's side of a session: a function of ours that stays and answers requests.

Unlike a tool it is trusted: it hangs up when the host does, keeps to the protocol, and watches the
wake pipe of each request. Where it hangs, the ladder ends it with SIGTERM, whose default action
takes effect even in the middle of a C function.
"""

from __future__ import annotations

import os
import signal
import socket
from importlib import import_module

from sandbox_agent_ipc.board_view import BoardView
from sandbox_agent_ipc.channel import Inbox, Outbox, read_arguments
from sandbox_agent_ipc.errors import ChannelClosed
from sandbox_agent_ipc.messages import Done, Reply, Request, Serve, Serving
from sandbox_agent_ipc.token import CallToken

_MAX_BODY = 256 << 20


class SessionRequest:
    """One request to a session. token: the request's own."""

    def __init__(self, id: str, body: bytes, token: CallToken) -> None:
        self.id = id
        self.body = body
        self.token = token

    def close(self) -> None:
        """Close the wake pipe, after the answer. Nothing may wait on the token any more."""
        os.close(self.token.wake_fd)


class SessionServer:
    """A session's end of its channels. One thread reads, one thread at a time writes."""

    def __init__(self, inbox: Inbox, outbox: Outbox, board: BoardView) -> None:
        self._inbox = inbox
        self._outbox = outbox
        self._board = board

    @property
    def socket(self) -> socket.socket:
        """Readable when `receive` will not wait."""
        return self._inbox.sock

    def ready(self) -> None:
        """Report to the host that requests may come."""
        self._outbox.send(Serving())

    def receive(self) -> SessionRequest | None:
        """The next request; None when the host has hung up."""
        try:
            message, fds = self._inbox.receive(Request)
        except ChannelClosed:
            return None
        body = message.body
        if body is None:
            body = read_arguments(fds[1], _MAX_BODY)
            os.close(fds[1])
        token = self._board.token(message.slot, message.word, fds[0])
        return SessionRequest(message.id, body, token)

    def reply(self, request: SessionRequest, body: bytes) -> None:
        """Send a piece of the answer."""
        self._outbox.send(Reply(request.id, body))

    def done(self, request: SessionRequest, body: bytes) -> None:
        """Send the last piece. Nothing that was started for the request may still be running."""
        self._outbox.send(Done(request.id, body))


def serve(message: Serve, inbox: Inbox, outbox: Outbox, board_fd: int) -> None:
    """Run the session's function to its end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    module = import_module(message.function.module)
    getattr(module, message.function.qualname)(SessionServer(inbox, outbox, BoardView(board_fd)))
