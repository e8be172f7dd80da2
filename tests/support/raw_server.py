"""An HTTP server that answers with given bytes, for what no provider would ever send."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

Send = Callable[[socket.socket], object]


@dataclass
class Raw:
    """base: of a server on this machine. bodies: of the requests so far."""

    base: str
    bodies: list[bytes] = field(default_factory=list)


@contextmanager
def raw(*answers: bytes | Send) -> Iterator[Raw]:
    """Each request gets the next of the answers, the last one again and again, and then the
    connection is closed. A function writes what it likes; OSError, which it gets when the client
    goes away, ends it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        there = Raw(f"http://127.0.0.1:{listener.getsockname()[1]}")
        thread = threading.Thread(target=_serve, args=(listener, there, answers))
        thread.start()
        try:
            yield there
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@contextmanager
def nobody() -> Iterator[str]:
    """The base of a server that is not there, at a port that no other one gets meanwhile: what is
    bound and does not listen refuses connections."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


def http(body: bytes, kind: str = "application/json", status: str = "200 OK") -> bytes:
    """A whole answer."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def events(*data: str) -> bytes:
    """An answer of server-sent events."""
    return http("".join(f"data: {one}\n\n" for one in data).encode(), "text/event-stream")


STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
"""The beginning of an answer that has no end."""


def _serve(listener: socket.socket, there: Raw, answers: tuple[bytes | Send, ...]) -> None:
    count = 0
    while True:
        try:
            connection = listener.accept()[0]
        except OSError:  # shut down
            return
        with connection, suppress(OSError):
            there.bodies.append(_request(connection))
            answer = answers[min(count, len(answers) - 1)]
            count += 1
            if isinstance(answer, bytes):
                connection.sendall(answer)
            else:
                answer(connection)


def _request(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        if not (more := connection.recv(65536)):
            raise ConnectionResetError
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(
        (int(line.partition(b":")[2]) for line in head.lower().split(b"\r\n")
         if line.startswith(b"content-length:")), 0,
    )  # fmt: skip
    while len(body) < length:
        if not (more := connection.recv(65536)):
            raise ConnectionResetError
        body += more
    return body
