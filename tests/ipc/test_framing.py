"""Frames: however the stream is cut, garbled or exaggerated."""

from __future__ import annotations

import itertools
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sandbox_agent_ipc.errors import ProtocolError
from sandbox_agent_ipc.framing import FrameDecoder, encode_frame
from sandbox_agent_ipc.messages import MAX_MESSAGE

LIMIT = 200
quick = settings(database=None, deadline=None, max_examples=150)
payloads = st.lists(st.binary(min_size=1, max_size=LIMIT), max_size=8)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(places)]


def read(parts: list[bytes]) -> tuple[list[bytes], str]:
    """Everything that comes out of the parts, and how it ends."""
    decoder = FrameDecoder(LIMIT)
    frames: list[bytes] = []
    try:
        for part in parts:
            frames += decoder.feed(part)
        decoder.close()
    except ProtocolError as error:
        return frames, str(error)
    return frames, "end"


@given(payloads, st.lists(st.integers(0, 2000), max_size=12))
@quick
def test_frames_come_out_as_they_went_in_however_the_stream_is_cut(
    frames: list[bytes], cuts: list[int]
) -> None:
    stream = b"".join(map(encode_frame, frames))
    assert read(pieces(stream, cuts)) == (frames, "end")
    assert read([stream[i : i + 1] for i in range(len(stream))]) == (frames, "end")


@given(payloads, st.binary(min_size=1, max_size=LIMIT), st.integers(1, LIMIT + 3))
@quick
def test_a_truncated_stream_gives_the_whole_frames_and_then_an_error(
    frames: list[bytes], last: bytes, cut: int
) -> None:
    whole = encode_frame(last)
    partial = whole[: min(cut, len(whole) - 1)]
    got, end = read([*map(encode_frame, frames), partial])
    assert got == frames
    assert end == f"the stream ended {len(partial)} bytes into a frame (header included)"


@given(st.binary(max_size=600), st.lists(st.integers(0, 600), max_size=12))
@quick
def test_garbage_ends_the_same_way_however_it_is_cut(data: bytes, cuts: list[int]) -> None:
    assert read(pieces(data, cuts)) == read([data])


@given(payloads, st.one_of(st.just(0), st.integers(LIMIT + 1, 2**32 - 1)))
@quick
def test_a_forbidden_length_is_refused_after_the_frames_before_it(
    frames: list[bytes], length: int
) -> None:
    stream = b"".join(map(encode_frame, frames)) + length.to_bytes(4, "big")
    got, end = read([stream, b"x"])
    assert got == frames
    assert f"a frame of {length} bytes was announced; 1 to {LIMIT} are allowed" in end


def test_a_faulty_stream_stays_faulty() -> None:
    decoder = FrameDecoder(LIMIT)
    for _ in range(3):
        with pytest.raises(ProtocolError, match="announced"):
            decoder.feed(b"\xff\xff\xff\xff")
    with pytest.raises(ProtocolError, match="announced"):
        decoder.close()


def test_an_announcement_alone_allocates_nothing() -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError):
            FrameDecoder().feed(b"\xff\xff\xff\xff" + b"x" * 1000)
        allowed = FrameDecoder()
        assert allowed.feed(MAX_MESSAGE.to_bytes(4, "big") + b"x") == []
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100_000


def test_a_flood_after_a_fault_is_not_kept() -> None:
    decoder = FrameDecoder(LIMIT)
    assert decoder.feed(encode_frame(b"good") + b"\0\0\0\0" + b"x" * 100_000) == [b"good"]
    assert len(decoder._buffer) == 0
    for _ in range(10):
        with pytest.raises(ProtocolError):
            decoder.feed(b"x" * 100_000)
    assert len(decoder._buffer) == 0


@pytest.mark.parametrize("payload", [b"", b"x" * (MAX_MESSAGE + 1)])
def test_a_frame_that_nobody_would_accept_is_not_made(payload: bytes) -> None:
    with pytest.raises(ProtocolError, match=f"1 to {MAX_MESSAGE} bytes"):
        encode_frame(payload)


def test_the_longest_frame_passes() -> None:
    payload = b"x" * MAX_MESSAGE
    assert FrameDecoder().feed(encode_frame(payload)) == [payload]
