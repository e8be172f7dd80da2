"""Writing without waiting for a reader, and knowing what did not arrive."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from identity import Person
from sandbox_agent.cli.stream import QUEUE_BYTES, GiveUp, Stream

# Pipes are the same for every user; the limit of processes does not hold for root.
PERSONS = ["user"]

FULL = QUEUE_BYTES + 2 * 65536
"""Bytes that fill the queue, however much of them the pipe has taken already."""


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe, (read end, write end)."""
    ends = os.pipe()
    try:
        yield ends
    finally:
        for end in ends:
            os.close(end)


def within(seconds: float) -> GiveUp:
    until = time.monotonic() + seconds
    return lambda: time.monotonic() > until


def read(fd: int, count: int) -> bytes:
    data = b""
    while len(data) < count:
        data += os.read(fd, min(65536, count - len(data)))
    return data


def test_what_the_reader_does_not_read_is_counted_and_nothing_comes_after_a_gap(
    pipe: tuple[int, int],
) -> None:
    stream = Stream(pipe[1])
    stream.write(b"x" * FULL, lambda: True)
    asked = threading.Event()

    def give_up() -> bool:
        asked.set()
        return True

    stream.write(b"gap", give_up)
    assert asked.is_set()
    assert stream.lost == 3
    assert read(pipe[0], FULL) == b"x" * FULL
    stream.write(b"after", lambda: False)
    assert stream.lost == 8
    stream.finish(within(20))
    os.set_blocking(pipe[0], False)
    with pytest.raises(BlockingIOError):
        os.read(pipe[0], 1)


def test_a_note_is_left_out_where_the_reader_is_slow_and_a_line_says_so(
    pipe: tuple[int, int],
) -> None:
    stream = Stream(pipe[1])
    stream.note(b"x" * FULL)
    stream.note(b"left out", may_be_left_out=True)
    stream.note(b"the end")
    stream.note(b"again left out", may_be_left_out=True)
    assert read(pipe[0], FULL) == b"x" * FULL
    stream.finish(within(20))
    said = b"\n[... 8 bytes left out ...]\nthe end\n[... 14 bytes left out ...]\n"
    assert read(pipe[0], len(said)) == said
    stream.note(b"z", may_be_left_out=True)
    stream.finish(within(20))
    assert os.read(pipe[0], 100) == b"z"
    assert stream.lost == 0


def test_a_slow_reader_is_waited_for_until_one_gives_up(pipe: tuple[int, int]) -> None:
    stream = Stream(pipe[1])
    stream.write(b"x" * 300_000)
    stream.finish(within(0.5))
    # 64 KiB are in the pipe.
    assert 300_000 - 2 * 65536 <= stream.lost <= 300_000 - 65536
    begin = time.monotonic()
    stream.note(b"more")
    stream.finish(lambda: False)
    assert time.monotonic() - begin < 10, "a reader that was given up is waited for again"


def test_a_reader_that_closes_ends_the_writing_only() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        stream = Stream(write_end)
        stream.write(b"x")
        stream.finish(within(20))
        assert isinstance(stream.error, BrokenPipeError)
        stream.write(b"yz", lambda: False)
        stream.finish(within(20))
        assert stream.lost == 3
    finally:
        os.close(write_end)


def test_a_descriptor_that_another_process_made_non_blocking(pipe: tuple[int, int]) -> None:
    os.set_blocking(pipe[1], False)
    stream = Stream(pipe[1])
    stream.write(b"x" * 300_000)
    assert read(pipe[0], 300_000) == b"x" * 300_000
    stream.finish(within(20))
    assert (stream.lost, stream.error) == (0, None)


NO_THREADS = """
import resource
resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
from sandbox_agent.cli.stream import Stream
stream = Stream(1)
stream.write(b"all the same")
stream.finish(lambda: False)
"""


def test_what_is_written_arrives_where_no_thread_can_be_started(person: Person) -> None:
    done = person.run([sys.executable, "-c", NO_THREADS], stderr=subprocess.STDOUT)
    assert (done.returncode, done.stdout) == (0, "all the same")


def test_whoever_fills_the_queue_hears_when_it_has_room(pipe: tuple[int, int]) -> None:
    stream, heard = Stream(pipe[1]), threading.Event()
    stream.write(b"x" * QUEUE_BYTES)
    assert stream.is_full
    stream.call_when_it_has_room(heard.set)
    assert not heard.is_set() or not stream.is_full
    read(pipe[0], QUEUE_BYTES)
    assert heard.wait(20)
    heard.clear()
    stream.call_when_it_has_room(heard.set)
    assert heard.is_set()
    stream.write(b"x" * 2 * QUEUE_BYTES)
    heard.clear()
    stream.call_when_it_has_room(heard.set)
    stream.finish(lambda: True)
    assert heard.is_set()
