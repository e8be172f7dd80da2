"""The host's ends: many messages per wake-up, bounded ones, hostile ones, and the end told once."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from sandbox_agent_ipc.aio import (
    DRAIN_BYTES,
    MESSAGE_BYTES_PER_WAKE_UP,
    OUTPUT_BYTES_PER_WAKE_UP,
    MessageReader,
    OutputReader,
)
from sandbox_agent_ipc.channel import Outbox
from sandbox_agent_ipc.codec import encode
from sandbox_agent_ipc.errors import ProtocolError
from sandbox_agent_ipc.framing import encode_frame
from sandbox_agent_ipc.messages import FromWorker, Ready, Result, ResultKind, Started

DEADLINE = 20.0


@dataclass
class Seen:
    """What a reader has told."""

    messages: list[Any] = field(default_factory=list)
    ends: list[ProtocolError | None] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def message(self, one: Any) -> None:
        self.messages.append(one)
        self.changed.set()

    def end(self, error: ProtocolError | None) -> None:
        self.ends.append(error)
        self.changed.set()

    @property
    def data(self) -> bytes:
        return b"".join(self.messages)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE):
            while not condition():
                self.changed.clear()
                await self.changed.wait()


class Writer:
    """The write end of a pipe, closed at the latest with the test."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def write(self, data: bytes) -> None:
        assert os.write(self.fd, data) == len(data)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


@pytest.fixture
def pipe() -> Iterator[tuple[int, Writer]]:
    """The read end belongs to the reader under test, which must close it."""
    reader, writer = os.pipe()
    end = Writer(writer)
    yield reader, end
    end.close()


def frame(message: Any) -> bytes:
    return encode_frame(encode(message))


def run(body: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await body()

    asyncio.run(main())


def test_messages_arrive_in_order_and_then_the_end_is_told_once(pipe: tuple[int, Writer]) -> None:
    async def body() -> None:
        seen = Seen()
        reader = MessageReader(pipe[0], FromWorker, seen.message, seen.end)
        reader.start(asyncio.get_running_loop())
        pipe[1].write(frame(Ready(1)))
        await seen.until(lambda: len(seen.messages) == 1)
        pipe[1].write(frame(Started()) + frame(Result(ResultKind.OK, "done")))
        pipe[1].close()
        await seen.until(lambda: bool(seen.ends))
        assert seen.messages == [Ready(1), Started(), Result(ResultKind.OK, "done")]
        reader.drain()
        reader.close()
        assert seen.ends == [None] and reader.closed

    run(body)


def test_many_messages_come_with_one_wake_up_and_no_more_than_the_bound(
    pipe: tuple[int, Writer],
) -> None:
    fd, writer = pipe
    one = frame(Started())
    assert len(one) * 1000 < MESSAGE_BYTES_PER_WAKE_UP

    async def body() -> None:
        loop = asyncio.get_running_loop()
        seen = Seen()
        counts: list[int] = []
        reader = MessageReader(fd, FromWorker, seen.message, seen.end)
        writer.write(one * 1000)
        reader.start(loop)
        await seen.until(lambda: bool(seen.messages))
        counts.append(len(seen.messages))
        reader.close()
        assert counts == [1000]

    run(body)


@pytest.mark.parametrize(
    ("kind", "bound"),
    [("messages", MESSAGE_BYTES_PER_WAKE_UP), ("output", OUTPUT_BYTES_PER_WAKE_UP)],
)
def test_a_flood_leaves_the_loop_to_others(kind: str, bound: int) -> None:
    """A child that floods as fast as it can; between two turns of the loop only so much is read."""
    one = frame(Result(ResultKind.OK, "x" * 1000))
    fd, write_end = os.pipe()
    stop = threading.Event()

    def flood() -> None:
        try:
            while not stop.is_set():
                os.write(write_end, one * 60)
        except BrokenPipeError:
            pass
        finally:
            os.close(write_end)

    async def body() -> None:
        loop = asyncio.get_running_loop()
        total = 0
        turns: list[int] = []

        def count(piece: Any) -> None:
            nonlocal total
            total += len(piece) if kind == "output" else len(one)

        reader: MessageReader | OutputReader
        if kind == "messages":
            reader = MessageReader(fd, FromWorker, count, lambda _: None)
        else:
            reader = OutputReader(fd, count, lambda _: None)
        reader.start(loop)
        before = 0
        async with asyncio.timeout(DEADLINE):
            while total < 20 * bound:
                await asyncio.sleep(0)  # one turn of the loop
                turns.append(total - before)
                before = total
        reader.close()
        # A frame that was begun in one turn counts in the next.
        assert max(turns) <= bound + len(one)

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        run(body)
    finally:
        stop.set()
        thread.join(DEADLINE)


@pytest.mark.parametrize(
    ("data", "messages"),
    [
        (b"\xff\xff\xff\xff", 0),
        (b"\0\0\0\0", 0),
        (frame(Ready(1)) + b"\xff\xff\xff\xff", 1),
        (frame(Ready(1)) + encode_frame(b"garbage") + frame(Started()), 1),
        (encode_frame(b"\x91" * 100_000), 0),
    ],
    ids=["huge", "empty", "good then huge", "good then garbage", "nested"],
)
@pytest.mark.parametrize("way", ["loop", "drain"])
def test_a_protocol_error_is_told_once_after_the_good_messages(
    data: bytes, messages: int, way: str
) -> None:
    fd, write_end = os.pipe()
    writer = threading.Thread(target=lambda: (os.write(write_end, data), os.close(write_end)))

    async def body() -> None:
        seen = Seen()
        reader = MessageReader(fd, FromWorker, seen.message, seen.end)
        if way == "loop":
            reader.start(asyncio.get_running_loop())
            writer.start()
            await seen.until(lambda: bool(seen.ends))
        else:
            writer.start()
            while not seen.ends:
                reader.drain()
        reader.drain()
        reader.close()
        assert len(seen.messages) == messages
        assert len(seen.ends) == 1 and isinstance(seen.ends[0], ProtocolError)

    try:
        run(body)
    finally:
        writer.join(DEADLINE)


def test_a_fault_behind_a_good_message_is_told_while_the_writer_lives_on(
    pipe: tuple[int, Writer],
) -> None:
    seen = Seen()
    reader = MessageReader(pipe[0], FromWorker, seen.message, seen.end)
    pipe[1].write(frame(Ready(1)) + b"\xff\xff\xff\xff")
    reader.drain()
    assert seen.messages == [Ready(1)] and isinstance(seen.ends[0], ProtocolError)


def test_an_end_inside_a_frame_is_a_protocol_error(pipe: tuple[int, Writer]) -> None:
    seen = Seen()
    reader = MessageReader(pipe[0], FromWorker, seen.message, seen.end)
    pipe[1].write(frame(Ready(1))[:-1])
    pipe[1].close()
    reader.drain()
    assert isinstance(seen.ends[0], ProtocolError) and not seen.messages


def test_drain_reads_what_is_there_without_waiting_for_the_end(pipe: tuple[int, Writer]) -> None:
    seen = Seen()
    reader = MessageReader(pipe[0], FromWorker, seen.message, seen.end)
    pipe[1].write(frame(Started()) + frame(Ready(7))[:3])
    reader.drain()  # the writer lives and is silent: this must return
    assert seen.messages == [Started()] and seen.ends == []
    pipe[1].write(frame(Ready(7))[3:])
    reader.drain()
    assert seen.messages == [Started(), Ready(7)]
    reader.close()
    reader.close()
    assert seen.ends == []


def test_draining_a_writer_that_never_stops_ends(pipe: tuple[int, Writer]) -> None:
    seen = Seen()
    reader = OutputReader(pipe[0], seen.message, seen.end)

    def flood() -> None:
        try:
            while True:
                os.write(pipe[1].fd, b"x" * 65536)
        except BrokenPipeError:
            pass

    thread = threading.Thread(target=flood)
    thread.start()
    total = 0
    while total < 2 * DRAIN_BYTES:
        total += reader.drain()
    assert reader.drain(1000) <= 1000
    reader.close()
    thread.join(DEADLINE)
    assert not thread.is_alive()


@pytest.mark.parametrize("count", [1, 5])
def test_closing_from_within_a_callback_stops_at_once(pipe: tuple[int, Writer], count: int) -> None:
    async def body() -> None:
        seen = Seen()

        def stop(message: Any) -> None:
            seen.message(message)
            reader.close()

        reader = MessageReader(pipe[0], FromWorker, stop, seen.end)
        pipe[1].write(frame(Started()) * count + b"\xff\xff\xff\xff")
        reader.start(asyncio.get_running_loop())
        await seen.until(lambda: bool(seen.messages))
        await asyncio.sleep(0)
        assert seen.messages == [Started()] and seen.ends == []

    run(body)


def test_a_failing_callback_is_reported_and_loses_nothing(pipe: tuple[int, Writer]) -> None:
    async def body() -> None:
        loop = asyncio.get_running_loop()
        reported: list[dict[str, Any]] = []
        loop.set_exception_handler(lambda _, context: reported.append(context))
        seen = Seen()

        def fail(message: Any) -> None:
            seen.message(message)
            raise RuntimeError("our own bug")

        reader = MessageReader(pipe[0], FromWorker, fail, seen.end)
        pipe[1].write(frame(Started()) * 3)
        pipe[1].close()
        reader.start(loop)
        await seen.until(lambda: bool(seen.ends))
        assert len(seen.messages) == 3 and seen.ends == [None]
        assert [str(context["exception"]) for context in reported] == ["our own bug"] * 3

    run(body)


def test_closing_after_the_loop_has_gone_is_harmless(pipe: tuple[int, Writer]) -> None:
    readers: list[MessageReader] = []

    async def body() -> None:
        reader = MessageReader(pipe[0], FromWorker, lambda _: None, lambda _: None)
        reader.start(asyncio.get_running_loop())
        readers.append(reader)

    run(body)
    readers[0].close()


def test_output_arrives_as_it_was_written_and_then_the_end(pipe: tuple[int, Writer]) -> None:
    async def body() -> None:
        seen = Seen()
        reader = OutputReader(pipe[0], seen.message, seen.end)
        reader.start(asyncio.get_running_loop())
        pipe[1].write(b"\xff\x00raw ")
        await seen.until(lambda: bool(seen.messages))
        pipe[1].write(b"bytes")
        pipe[1].close()
        await seen.until(lambda: bool(seen.ends))
        assert seen.data == b"\xff\x00raw bytes" and seen.ends == [None]

    run(body)


def test_while_paused_the_writer_is_held_up_and_nothing_is_lost(pipe: tuple[int, Writer]) -> None:
    async def body() -> None:
        loop = asyncio.get_running_loop()
        seen = Seen()
        reader = OutputReader(pipe[0], seen.message, seen.end)
        reader.pause()
        reader.start(loop)
        os.set_blocking(pipe[1].fd, False)
        written = 0
        with pytest.raises(BlockingIOError):
            while True:
                written += os.write(pipe[1].fd, b"x" * 4096)
                await asyncio.sleep(0)
        assert not seen.messages
        reader.resume()
        reader.resume()
        await seen.until(lambda: len(seen.data) == written)
        reader.pause()
        reader.pause()
        pipe[1].write(b"last")
        pipe[1].close()
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(seen.data) == written and not seen.ends
        assert reader.drain() == 4
        assert seen.data.endswith(b"last") and seen.ends == [None]
        reader.resume()

    run(body)


def test_pausing_from_within_the_callback_holds_after_that_piece(pipe: tuple[int, Writer]) -> None:
    async def body() -> None:
        seen = Seen()

        def once(data: bytes) -> None:
            pipe[1].write(b"second")
            reader.pause()
            seen.message(data)

        reader = OutputReader(pipe[0], once, seen.end)
        reader.start(asyncio.get_running_loop())
        pipe[1].write(b"first")
        await seen.until(lambda: bool(seen.messages))
        for _ in range(5):
            await asyncio.sleep(0)
        assert seen.data == b"first"
        reader.resume()
        await seen.until(lambda: len(seen.messages) == 2)
        reader.close()

    run(body)


def test_a_real_worker_is_read_to_its_end(
    forked: Callable[[Callable[[], object]], Any], pipe: tuple[int, Writer]
) -> None:
    def work() -> None:
        outbox = Outbox(pipe[1].fd)
        outbox.send(Ready(1))
        for n in range(30):
            outbox.send(Result(ResultKind.OK, f"{n}"))

    seen = Seen()
    reader = MessageReader(pipe[0], FromWorker, seen.message, seen.end)
    forked(work)
    pipe[1].close()
    reader.drain()
    assert [message.content for message in seen.messages[1:]] == [str(n) for n in range(30)]
    assert seen.ends == [None]
