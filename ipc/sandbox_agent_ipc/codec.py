"""Messages <-> bytes (MessagePack). Whatever a hostile peer sends ends in a message or an error."""

from __future__ import annotations

from functools import cache
from typing import Any, TypeVar, overload

import msgspec

from .errors import HandshakeError, ProtocolError
from .messages import PROTOCOL

T = TypeVar("T")

_EXCERPT = 48
_encoder = msgspec.msgpack.Encoder()


def encode(message: msgspec.Struct) -> bytes:
    """The bytes of a message.

    Raises ProtocolError when a field holds what MessagePack cannot carry, such as an integer of
    more than 64 bits, or text with lone surrogates (undecodable file names).
    """
    try:
        return _encoder.encode(message)
    except (msgspec.MsgspecError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise ProtocolError(
            f"a {type(message).__name__} message cannot be encoded: {_short(error)}"
        ) from error


@overload
def decode(data: bytes | memoryview, kind: type[T]) -> T: ...
@overload
def decode(data: bytes | memoryview, kind: Any) -> Any: ...
def decode(data: bytes | memoryview, kind: Any) -> Any:
    """The message in `data`, which must be one of `kind` (a Struct or a union of Structs).

    Raises ProtocolError for everything else. Memory and time stay proportional to the length of
    `data`: msgspec believes no announced length.
    """
    try:
        return _decoder(kind).decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError, MemoryError, OverflowError) as error:
        raise ProtocolError(
            f"{len(data)} bytes are not a message that is due here: {_short(error)};"
            f" they start with {bytes(data[:_EXCERPT])!r}"
        ) from None


def check_protocol(version: int, who: str) -> None:
    """Compares the version in a handshake with ours. who: the other side, for the message.

    Raises HandshakeError when they differ.
    """
    if version != PROTOCOL:
        raise HandshakeError(
            f"{who} speaks version {version} of the protocol, this process version {PROTOCOL}:"
            " sandbox-agent was probably upgraded while this program ran; start it again"
        )


@cache
def _decoder(kind: Any) -> msgspec.msgpack.Decoder[Any]:
    return msgspec.msgpack.Decoder(kind)


def _short(error: BaseException) -> str:
    """The error's text on one short line: it may quote the peer, at any length, in any bytes."""
    text = str(error) or type(error).__name__
    return ascii(text[:200])[1:-1]
