"""Messages <-> bytes. Any bytes of a hostile peer become a message or an error, in bounded time.

MessagePack, but JSON for the messages that hold JSON of any shape (`AS_JSON`). An untyped
MessagePack map may have arrays of numbers as keys. A peer can make their hashes collide: 650 kB
of them kept the decoder, and the interpreter's lock, busy for 6 s. JSON has strings only, hashed
with a random seed, and a decoded value is JSON again. The first byte tells the two apart: no
MessagePack map starts with a brace.
"""

from __future__ import annotations

from functools import cache
from typing import Any, TypeVar, Union, get_args, overload

import msgspec

from .errors import HandshakeError, ProtocolError
from .messages import PROTOCOL, Described

T = TypeVar("T")

AS_JSON = (Described,)
"""Messages that are sent as JSON: all that have a field of type Any."""

_EXCERPT = 48
_msgpack = msgspec.msgpack.Encoder()
_json = msgspec.json.Encoder()


def encode(message: msgspec.Struct) -> bytes:
    """The bytes of a message.

    Raises ProtocolError when a field has a value that cannot be sent, such as an integer of more
    than 64 bits, or text with lone surrogates (undecodable file names).
    """
    try:
        return (_json if isinstance(message, AS_JSON) else _msgpack).encode(message)
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
        return _decoder(kind, data[:1] == b"{").decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError, MemoryError, OverflowError) as error:
        raise ProtocolError(
            f"{len(data)} bytes are not a message that is due here: {_short(error)};"
            f" they start with {bytes(data[:_EXCERPT])!r}"
        ) from None


def check_protocol(version: int, sender: str) -> None:
    """Compares the version in a handshake with this one. sender: the other side, for the message.

    Raises HandshakeError when they differ.
    """
    if version != PROTOCOL:
        raise HandshakeError(
            f"{sender} speaks version {version} of the protocol, this process version {PROTOCOL}:"
            " sandbox-agent was probably upgraded while this program ran; start it again"
        )


@cache
def _decoder(kind: Any, as_json: bool) -> msgspec.msgpack.Decoder[Any] | msgspec.json.Decoder[Any]:
    due = tuple(k for k in get_args(kind) or (kind,) if (k in AS_JSON) == as_json)
    if not due:
        raise ValueError("wrong encoding")
    union: Any = Union[due]  # noqa: UP007
    return msgspec.json.Decoder(union) if as_json else msgspec.msgpack.Decoder(union)


def _short(error: BaseException) -> str:
    """The error's text on one short line: it may quote the peer, at any length, in any bytes."""
    text = str(error) or type(error).__name__
    return ascii(text[:200])[1:-1]
