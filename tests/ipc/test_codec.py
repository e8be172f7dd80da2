"""Messages and bytes: what goes in comes out, and whatever else comes ends in a ProtocolError."""

from __future__ import annotations

import contextlib
import itertools
import time
import tracemalloc
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sandbox_agent_ipc import messages
from sandbox_agent_ipc.codec import AS_JSON, check_protocol, decode, encode
from sandbox_agent_ipc.errors import HandshakeError, ProtocolError
from sandbox_agent_ipc.messages import (
    MAX_MESSAGE,
    PROTOCOL,
    Described,
    FromInit,
    FromSession,
    FromWorker,
    FunctionRef,
    Message,
    Ready,
    Result,
    ResultKind,
    Started,
    ToInit,
    ToolSpec,
    ToSession,
    ToSpawner,
    ToWorker,
)

quick = settings(database=None, deadline=None, max_examples=150)
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
json_value = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=10,
)


def values_of(kind: msgspec.inspect.Type) -> st.SearchStrategy[Any]:
    """Values of a field, by its type."""
    match kind:
        case msgspec.inspect.NoneType():
            return st.none()
        case msgspec.inspect.BoolType():
            return st.booleans()
        case msgspec.inspect.IntType():
            return st.integers(-(2**63), 2**64 - 1)
        case msgspec.inspect.FloatType():
            return st.floats(allow_nan=False)
        case msgspec.inspect.StrType():
            return text
        case msgspec.inspect.BytesType():
            return st.binary(max_size=99)
        case msgspec.inspect.EnumType():
            return st.sampled_from(kind.cls)
        case msgspec.inspect.ListType():
            return st.lists(values_of(kind.item_type), max_size=3)
        case msgspec.inspect.VarTupleType():
            return st.lists(values_of(kind.item_type), max_size=3).map(tuple)
        case msgspec.inspect.DictType():
            keys, values = values_of(kind.key_type), values_of(kind.value_type)
            return st.dictionaries(keys, values, max_size=3)
        case msgspec.inspect.UnionType():
            return st.one_of(*map(values_of, kind.types))
        case msgspec.inspect.StructType():
            fields = {field.name: values_of(field.type) for field in kind.fields}
            return st.builds(kind.cls, **fields)
        case msgspec.inspect.AnyType():
            return json_value
    raise NotImplementedError(f"this test cannot make a {kind}: teach it")


EVERY = {one: values_of(msgspec.inspect.type_info(one)) for one in Message.__subclasses__()}
DIRECTIONS = [FromInit, ToSpawner, ToInit, FromWorker, ToWorker, FromSession, ToSession]
any_message = st.one_of(*EVERY.values())


def members(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) or (kind,)


def test_every_message_has_a_direction() -> None:
    assert set(EVERY) == {one for kind in DIRECTIONS for one in members(kind)}


@given(any_message)
@quick
def test_a_message_comes_out_as_it_went_in_and_only_in_its_direction(message: Message) -> None:
    data = encode(message)
    for kind in DIRECTIONS:
        if type(message) in members(kind):
            assert decode(data, kind) == message
            assert decode(memoryview(data), kind) == message
        else:
            with pytest.raises(ProtocolError, match="not a message that is due here"):
                decode(data, kind)


@given(any_message, st.data())
@quick
def test_a_truncated_message_is_refused(message: Message, data: st.DataObject) -> None:
    whole = encode(message)
    cut = data.draw(st.integers(0, len(whole) - 1))
    for kind in DIRECTIONS:
        with pytest.raises(ProtocolError):
            decode(whole[:cut], kind)


@given(any_message, st.integers(0, 10_000), st.integers(0, 255))
@quick
def test_a_garbled_message_is_a_message_or_a_protocol_error(
    message: Message, place: int, byte: int
) -> None:
    data = bytearray(encode(message))
    data[place % len(data)] = byte
    for kind in DIRECTIONS:
        with contextlib.suppress(ProtocolError):
            assert isinstance(decode(bytes(data), kind), Message)


@given(st.binary(max_size=300))
@quick
def test_garbage_is_a_protocol_error_on_one_short_printable_line(data: bytes) -> None:
    for kind in DIRECTIONS:
        with pytest.raises(ProtocolError) as caught:
            decode(data, kind)
        assert is_a_short_line(str(caught.value))


def is_a_short_line(message: str) -> bool:
    return len(message) < 600 and message.isascii() and message.isprintable()


def packed(value: Any) -> bytes:
    return msgspec.msgpack.encode(value)


RESULT = b"\x83" + packed("type") + packed("result") + packed("kind") + packed("ok")
RESULT += packed("content")
UNKNOWN = b"\x82" + packed("type") + packed("started") + packed("unknown field")
SCHEMA = b'{"type":"described","tools":[{"type":"ToolSpec","name":"n","description":"",'
SCHEMA += b'"function":{"module":"m","qualname":"q"},"parameters":{"x":'

HOSTILE = {
    "text of 4 GiB": RESULT + b"\xdb\xff\xff\xff\xff",
    "bytes of 4 GiB": RESULT + b"\xc6\xff\xff\xff\xff",
    "list of 2**32": UNKNOWN + b"\xdd\xff\xff\xff\xff",
    "map of 2**32": UNKNOWN + b"\xdf\xff\xff\xff\xff",
    "message of 2**32 fields": b"\xdf\xff\xff\xff\xff",
    "lists in lists": UNKNOWN + b"\x91" * 1_000_000,
    "lists in lists, each announcing the rest": UNKNOWN + b"\xdd\x00\x0f\x00\x00" * 200_000,
    "maps in maps": UNKNOWN + b"\x81\xa1a" * 300_000,
    "lists in lists in a schema": SCHEMA + b"[" * 1_000_000,
    "objects in objects in a schema": SCHEMA + b'{"a":' * 300_000,
    "number of a million digits": SCHEMA + b"9" * 1_000_000 + b"}}]}",
    "exponent without end": SCHEMA + b"1e" + b"9" * 100_000 + b"}}]}",
    "tag of 2 MB": b"\x81" + packed("type") + packed("\x1b[2J\n" * 400_000),
    "lone surrogate": RESULT + b"\xa3\xed\xa0\x80",
    "schema in MessagePack": packed(Described([])),
    "result in JSON": b'{"type":"result","kind":"ok","content":""}',
    "two messages at once": encode(Started()) * 2,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_bytes_are_refused_at_once_and_without_memory(name: str) -> None:
    data = HOSTILE[name]
    tracemalloc.start()
    begin = time.monotonic()
    try:
        with pytest.raises(ProtocolError) as caught:
            decode(data, FromWorker)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert time.monotonic() - begin < 5
    assert peak < 4 * len(data) + 1_000_000
    assert is_a_short_line(str(caught.value))


def test_keys_made_to_collide_do_not_hold_up_the_host() -> None:
    """In untyped MessagePack these took 6 s, four times as many 90 s (see codec)."""
    numbers = [packed(n * (2**61 - 1)) for n in range(8)]  # all hash to 0
    keys = [
        b"\x95" + b"".join(key)
        for key in itertools.islice(itertools.product(numbers, repeat=5), 16_000)
    ]
    bomb = b"\xdf" + len(keys).to_bytes(4, "big") + b"".join(key + b"\xc0" for key in keys)
    tools = packed([ToolSpec("n", "d", {"x": "BOMB"}, FunctionRef("m", "q"))])
    data = b"\x82" + packed("type") + packed("described") + packed("tools")
    data += tools.replace(packed("BOMB"), bomb)
    begin = time.monotonic()
    with pytest.raises(ProtocolError):
        decode(data, FromWorker)
    with pytest.raises(ProtocolError):
        decode(UNKNOWN + bomb, FromInit)
    assert time.monotonic() - begin < 1


def holds_anything(kind: msgspec.inspect.Type, seen: set[type]) -> bool:
    if isinstance(kind, msgspec.inspect.AnyType):
        return True
    if isinstance(kind, msgspec.inspect.StructType):
        if kind.cls in seen:
            return False
        seen.add(kind.cls)
        return any(holds_anything(field.type, seen) for field in kind.fields)
    inner = [getattr(kind, name, None) for name in ("item_type", "key_type", "value_type")]
    inner += [*getattr(kind, "types", ()), *getattr(kind, "item_types", ())]
    return any(holds_anything(one, seen) for one in inner if one is not None)


def test_exactly_the_messages_that_hold_anything_travel_as_json() -> None:
    loose = {one for one in EVERY if holds_anything(msgspec.inspect.type_info(one), set())}
    assert loose == set(AS_JSON)


def test_the_longest_allowed_message_passes() -> None:
    message = Result(ResultKind.OK, "x" * (MAX_MESSAGE - 100))
    assert decode(encode(message), FromWorker) == message


@pytest.mark.parametrize(
    "message",
    [
        Result(ResultKind.OK, "\udcff"),
        Ready(2**64),
        Described([ToolSpec("n", "d", {"x": object()}, FunctionRef("m", "q"))]),
        Described([ToolSpec("n", "d", {"x": "\ud800"}, FunctionRef("m", "q"))]),
    ],
    ids=["surrogate", "huge number", "object in a schema", "surrogate in a schema"],
)
def test_what_cannot_be_carried_is_refused_by_the_sender(message: Message) -> None:
    with pytest.raises(ProtocolError, match="cannot be encoded"):
        encode(message)


def test_another_version_is_refused_with_the_mend() -> None:
    check_protocol(PROTOCOL, "the worker")
    with pytest.raises(HandshakeError, match=r"the worker speaks version 99.*start it again"):
        check_protocol(99, "the worker")


def test_all_messages_are_frozen_structs_with_a_docstring() -> None:
    for one in EVERY:
        assert one.__struct_config__.frozen and one.__doc__
        assert one.__struct_config__.tag and one.__module__ == messages.__name__
