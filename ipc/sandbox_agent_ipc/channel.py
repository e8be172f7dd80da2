"""The blocking ends of the channels, for children and for the thread that owns a control socket.

Worker to host is a pipe with frames (`Outbox`); host to worker is a one-way datagram socket
(`Inbox`), since only a socket can carry descriptors and only the host may send them.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar, overload

import msgspec

from . import memfd
from .codec import decode, encode
from .errors import ChannelClosed, DescriptorsLost, ProtocolError
from .framing import encode_frame

T = TypeVar("T")

MAX_DATAGRAM = 192 * 1024
"""Bytes. A datagram of this size fits the socket buffer of a stock kernel (net.core.wmem_default).
Larger data, such as a call's arguments, is sent with `big_arguments`."""

INLINE_BODY = 64 * 1024
"""Bytes. A longer body travels in a sealed memfd."""

MAX_DESCRIPTORS = 8
"""Descriptors with one datagram."""

_INT = struct.Struct("i")

_ARGUMENT_SEALS = memfd.F_SEAL_WRITE | memfd.F_SEAL_SHRINK | memfd.F_SEAL_GROW


class Outbox:
    """The writing end of a pipe of frames. Used by one thread at a time.

    A signal handler that raises out of `send` may leave half a frame behind: let handlers raise
    only while nothing is being sent.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def send(self, message: msgspec.Struct) -> None:
        """Writes one whole frame, waiting while the pipe is full.

        Raises ChannelClosed when the pipe has no reader any more. Raises ProtocolError, and writes
        nothing, when the message cannot be encoded or is too long.
        """
        rest = memoryview(encode_frame(encode(message)))
        while rest:
            try:
                rest = rest[os.write(self.fd, rest) :]
            except BrokenPipeError:
                raise ChannelClosed("the reader of the pipe is gone") from None
            except BlockingIOError:  # another holder of the pipe made it non-blocking
                poller = select.poll()
                poller.register(self.fd, select.POLLOUT)
                poller.poll()


class Inbox:
    """The reading end of a datagram socket."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    @overload
    def receive(self, kind: type[T]) -> tuple[T, list[int]]: ...
    @overload
    def receive(self, kind: Any) -> tuple[Any, list[int]]: ...
    def receive(self, kind: Any) -> tuple[Any, list[int]]:
        """Waits for the next message; see `recv_datagram`."""
        return recv_datagram(self.sock, kind)


def call_socketpair() -> tuple[socket.socket, socket.socket]:
    """The one-way channel of a call: (host's end, worker's end).

    The host's end is shut down for reading, so the worker's send fails with EPIPE: no bytes, and
    above all no descriptors, can come back.
    """
    host, worker = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    host.shutdown(socket.SHUT_RD)
    return host, worker


def send_datagram(sock: socket.socket, message: msgspec.Struct, fds: Sequence[int] = ()) -> None:
    """Sends one message, with up to MAX_DESCRIPTORS descriptors, which stay open here.

    Raises ChannelClosed when the other side is gone, ProtocolError when the message is too long
    or the descriptors are too many, BlockingIOError on a non-blocking socket that is full.
    """
    data = encode(message)
    what = f"a {type(message).__name__} message"
    if len(data) > MAX_DATAGRAM:
        raise ProtocolError(f"{what} has {len(data)} bytes; a datagram holds {MAX_DATAGRAM}")
    if len(fds) > MAX_DESCRIPTORS:
        raise ProtocolError(f"{what} carries {len(fds)} descriptors; {MAX_DESCRIPTORS} may travel")
    ancillary = (
        [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack(f"{len(fds)}i", *fds))] if fds else []
    )
    try:
        try:
            sock.sendmsg([data], ancillary, socket.MSG_NOSIGNAL)
        except OSError as error:
            if error.errno != errno.ETOOMANYREFS:
                raise
            with _more_descriptors():
                sock.sendmsg([data], ancillary, socket.MSG_NOSIGNAL)
    except (BrokenPipeError, ConnectionError):
        raise ChannelClosed("the other end of the socket is gone") from None
    except OSError as error:
        if error.errno != errno.EMSGSIZE:
            raise
        raise ProtocolError(
            f"{what} of {len(data)} bytes does not fit the socket's buffer;"
            " raise net.core.wmem_default"
        ) from error


@contextmanager
def _more_descriptors() -> Iterator[None]:
    """Raise this process's limit of descriptors meanwhile. The kernel counts those that travel for
    a user, and takes no more than the limit of the process that sends: a tool of the same user,
    whose limit may be higher, could leave no room for ours. unix(7), ETOOMANYREFS"""
    import resource  # hardly ever needed

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@overload
def recv_datagram(sock: socket.socket, kind: type[T]) -> tuple[T, list[int]]: ...
@overload
def recv_datagram(sock: socket.socket, kind: Any) -> tuple[Any, list[int]]: ...
def recv_datagram(sock: socket.socket, kind: Any) -> tuple[Any, list[int]]:
    """Receives one message of `kind` and its descriptors, which are close-on-exec and the caller's.

    Raises ChannelClosed at the end of file, ProtocolError for anything else than one whole message
    of `kind`, after closing what came with it: DescriptorsLost where some of that was missing.
    BlockingIOError when a non-blocking socket is empty.
    """
    fds: list[int] = []
    try:
        data, ancillary, flags, _ = sock.recvmsg(
            MAX_DATAGRAM, socket.CMSG_SPACE(MAX_DESCRIPTORS * _INT.size), socket.MSG_CMSG_CLOEXEC
        )
    except ConnectionError:
        raise ChannelClosed("the other end of the socket is gone") from None
    for level, kind_of, payload in ancillary:
        if (level, kind_of) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            whole = len(payload) // _INT.size * _INT.size
            fds += [fd for (fd,) in _INT.iter_unpack(payload[:whole])]
    try:
        if flags & socket.MSG_TRUNC:
            raise ProtocolError(f"a datagram of more than {MAX_DATAGRAM} bytes arrived")
        if flags & socket.MSG_CTRUNC:
            message = None
            with suppress(ProtocolError):
                message = decode(data, kind)
            if len(fds) == MAX_DESCRIPTORS:
                raise DescriptorsLost(f"more than {MAX_DESCRIPTORS} descriptors were sent", message)
            # This process has no room for the others, for which recvmsg(2) has no error.
            short = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            raise DescriptorsLost("descriptors were lost on the way", message) from short
        if not data:
            raise ChannelClosed("the other end of the socket was closed")
        return decode(data, kind), fds
    except BaseException:
        for fd in fds:
            os.close(fd)
        raise


def big_arguments(data: bytes) -> int:
    """A sealed memfd that holds `data`, for arguments too long for a datagram.

    Returns the descriptor, close-on-exec, the caller's to close. Raises OSError.
    """
    fd = memfd.create("sandbox-agent-arguments")
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(fd, rest) :]
        memfd.add_seals(fd, _ARGUMENT_SEALS | memfd.F_SEAL_SEAL)
    except BaseException:
        os.close(fd)
        raise
    return fd


def send_with_body(
    sock: socket.socket, message: msgspec.Struct, field: str, fds: Sequence[int] = ()
) -> None:
    """Sends a message whose `field` may be long: beyond INLINE_BODY it goes in a sealed memfd, the
    last of the descriptors, and is None in the message. Raises as `send_datagram`, and OSError."""
    body = getattr(message, field, None)
    if body is None or len(body) <= INLINE_BODY:
        send_datagram(sock, message, fds)
        return
    memfd_fd = big_arguments(body)
    try:
        send_datagram(sock, msgspec.structs.replace(message, **{field: None}), [*fds, memfd_fd])
    finally:
        os.close(memfd_fd)


def read_arguments(fd: int, limit: int) -> bytes:
    """What `big_arguments` put into a descriptor. The descriptor stays open.

    limit: bytes. Raises ProtocolError when it is no memfd, is not sealed against change, or holds
    more than `limit`. The seals come first: without them size and content could still change.
    """
    try:
        seals = memfd.seals_of(fd)
    except OSError as error:
        raise ProtocolError(f"arguments came in a descriptor that is no memfd: {error}") from None
    if seals & _ARGUMENT_SEALS != _ARGUMENT_SEALS:
        raise ProtocolError("arguments came in a memfd that is not sealed, so they could change")
    size = os.fstat(fd).st_size
    if size > limit:
        raise ProtocolError(f"arguments of {size} bytes; at most {limit} are allowed")
    data = bytearray()
    while len(data) < size:
        # pread: the offset is shared with every process that holds the descriptor.
        piece = os.pread(fd, size - len(data), len(data))
        if not piece:
            raise ProtocolError(f"arguments end after {len(data)} of {size} bytes")
        data += piece
    return bytes(data)
