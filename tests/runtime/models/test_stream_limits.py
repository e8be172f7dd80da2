"""What comes from a provider is bounded in bytes, and any byte of it is a sign of life."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import gzip
import json
import socket
import threading
import time
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import pytest
from asker import PATIENCE, Asker
from provider import Answer as Say
from provider import Stub
from raw_server import STREAM, raw
from sandbox_agent.models.process.inside.stream_limits import ReadLimitExceeded, StreamLimits
from sandbox_agent_ipc.model_messages import Answer, Failure, FailureKind

GPT = "openai/gpt-4o"
CLAUDE = "anthropic/claude-sonnet-4-5"
MIB = 2**20
MOST = 8 * MIB

both = pytest.mark.parametrize("model", [GPT, CLAUDE])


def head(status: str, *more: str) -> bytes:
    lines = (f"HTTP/1.1 {status}", "Content-Type: application/json", "Connection: close", *more)
    return "\r\n".join((*lines, "", "")).encode()


class Endless:
    """Sends `first`, and then `more` until the connection is closed. sent: bytes so far."""

    def __init__(self, first: bytes, more: bytes) -> None:
        self._first, self._more = first, more
        self.sent = 0
        self.closed = threading.Event()

    def __call__(self, connection: socket.socket) -> None:
        try:
            connection.sendall(self._first)
            while True:
                self.sent += connection.send(self._more)
        except OSError:
            self.closed.set()
            raise


X = b"x" * 65536
GZIP = head("200 OK", "Content-Encoding: gzip")
GZIPPED = gzip.compress(b"{}")
ZIP = zlib.compressobj(wbits=31)
ZIPPED = ZIP.compress(b"{") + ZIP.flush(zlib.Z_FULL_FLUSH)
BOMB = ZIP.compress(b" " * 2**20) + ZIP.flush(zlib.Z_FULL_FLUSH)  # can follow itself
ENDLESS: dict[str, tuple[bool, bytes, bytes]] = {
    "a whole answer": (False, head("200 OK") + b'{"a":"', X),
    "an error": (False, head("400 Bad Request") + b'{"error":{"message":"', X),
    "a passing error": (False, head("503 Busy") + b'{"error":{"message":"', X),
    "an error instead of a stream": (True, head("400 Bad Request") + b'{"error":{"message":"', X),
    "no stream": (True, head("200 OK") + b'{"a":"', X),
    "a line of a stream": (True, STREAM + b'data: {"id":"', X),
    "comments of a stream": (True, STREAM, b": " + X + b"\n\n"),
    "a compressed answer": (False, GZIP + ZIPPED, BOMB),
    "what follows a compressed answer": (False, GZIP + GZIPPED, X),
}


def memory(pid: int, name: str) -> int:
    """Bytes, of /proc/PID/status: VmRSS, or VmHWM, the most of it since `forget_most`."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def forget_most(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # proc_pid_clear_refs(5)


@pytest.mark.parametrize("kind", ENDLESS)
@both
def test_what_has_no_end_is_cut_off_and_its_memory_given_back(
    asker: Asker, model: str, kind: str
) -> None:
    stream, first, more = ENDLESS[kind]
    endless = Endless(first, more)
    with Stub([Say(text="abcdef")]) as stub, raw(Endless(first, more)) as server:
        # From here on all is imported, and what is kept of the last answer is there.
        asker.answer(GPT, api_base=stub.openai_base)
        asker.failure(model, api_base=f"{server.base}/v1", stream=stream)
    before, own = memory(asker.pid, "VmRSS"), memory(asker.pid, "RssAnon")
    forget_most(asker.pid)
    with Stub([Say(text="abcdef", hold_at=2)]) as stub, raw(endless) as server:
        other = asker.begin(GPT, api_base=stub.openai_base)
        asker.wait_pieces(other, 1)
        asked = asker.begin(model, api_base=f"{server.base}/v1", stream=stream, retries=3)
        failure = asker.end(asked).result
        assert endless.closed.wait(PATIENCE)
        stub.open()
        # Nobody else is disturbed.
        answer = asker.end(other).result
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.attempts) == (FailureKind.PROVIDER, 1), failure
    assert "8 MiB came without" in failure.text
    assert isinstance(answer, Answer) and answer.text == "abcdef"
    if more is not BOMB:
        assert endless.sent < MOST + 16 * MIB  # what sockets hold
    assert memory(asker.pid, "VmHWM") - before < 8 * MOST
    deadline = time.monotonic() + PATIENCE
    # Without pages of files: the kernel drops those at will, and they come back when they are used.
    while memory(asker.pid, "RssAnon") - own > MOST:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_long_stream_is_not_cut_off_when_answers_are_in_it(asker: Asker) -> None:
    def chunk(text: str, finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
        said = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        data = json.dumps({**said, "choices": [choice], "obfuscation": "x" * MIB})
        return f"data: {data}\n\n".encode()

    def send(connection: socket.socket) -> None:
        connection.sendall(STREAM)
        for _ in range(12):
            connection.sendall(chunk("x"))
        connection.sendall(chunk("", "stop") + b"data: [DONE]\n\n")

    with raw(send) as server:
        assert asker.answer(GPT, api_base=server.base).text == 12 * "x"


# --- signs of life -------------------------------------------------------------------------------

SILENCE = 1.0
"""Seconds. The signs come more often, for longer."""


def pinged(first: bytes, ping: bytes, last: bytes, seconds: float) -> Any:
    def send(connection: socket.socket) -> None:
        connection.sendall(first)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            connection.sendall(ping)
            time.sleep(0.05)  # the server's pace, which is the subject
        connection.sendall(last)
        while not last and connection.recv(1):  # it says nothing more, and is not the one to go
            pass

    return send


def chunked(delta: dict[str, Any], finish: str | None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    said = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return f"data: {json.dumps({**said, 'choices': [choice]})}\n\n".encode()


def event(kind: str, **data: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **data})}\n\n".encode()


OPENAI = chunked({"content": "hi"}, None) + chunked({}, "stop") + b"data: [DONE]\n\n"
MESSAGE = {"id": "m", "type": "message", "role": "assistant", "content": [], "model": "m",
           "stop_reason": None, "stop_sequence": None,
           "usage": {"input_tokens": 1, "output_tokens": 1}}  # fmt: skip
START = event("message_start", message=MESSAGE)
ANTHROPIC = b"".join(
    [
        event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
        event("content_block_delta", index=0, delta={"type": "text_delta", "text": "hi"}),
        event("content_block_stop", index=0),
        event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 1}),
        event("message_stop"),
    ]
)
WHOLE = {"id": "x", "object": "chat.completion", "created": 1, "model": "m"}
WHOLE |= {
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
    ]
}
LIVELY: dict[str, tuple[str, bool, bytes, bytes, bytes]] = {
    "comments": (GPT, True, STREAM, b": ping\n\n", OPENAI),
    "pieces of nothing": (GPT, True, STREAM, chunked({"content": ""}, None), OPENAI),
    "ping events": (CLAUDE, True, STREAM + START, event("ping"), ANTHROPIC),
    "blanks before a whole answer": (GPT, False, head("200 OK"), b"\n", json.dumps(WHOLE).encode()),
}


@pytest.mark.parametrize("kind", LIVELY)
def test_a_model_that_thinks_while_its_provider_pings_is_not_silent(
    asker: Asker, kind: str
) -> None:
    model, stream, first, ping, last = LIVELY[kind]

    def send(connection: socket.socket) -> None:
        pinged(first, ping, last, 2.5 * SILENCE)(connection)

    if not stream:
        first = first.replace(b"Connection: close", b"Transfer-Encoding: chunked")
        ping = b"%x\r\n%b\r\n" % (len(ping), ping)
        last = b"%x\r\n%b\r\n0\r\n\r\n" % (len(last), last)
    with raw(send) as server:
        asked = asker.begin(model, api_base=server.base, stream=stream, timeout=SILENCE)
        answer = asker.end(asked).result
    assert isinstance(answer, Answer), answer
    assert answer.text == "hi"
    assert "alive" in {piece.kind for piece in asked.pieces}  # or the host thinks that it hangs


def test_silence_after_pings_ends_a_request(asker: Asker) -> None:
    with raw(pinged(STREAM, b": ping\n\n", b"", 2 * SILENCE)) as server:
        began = time.monotonic()
        failure = asker.failure(GPT, api_base=server.base, timeout=SILENCE)
    assert failure.kind is FailureKind.TIMEOUT
    assert time.monotonic() - began > 2 * SILENCE


def test_a_context_that_lives_on_holds_nothing_of_what_came() -> None:
    """Connections and timers that begin during a request keep its context."""
    kept: list[contextvars.Context] = []

    async def read_without_end() -> None:
        limits = StreamLimits(lambda piece: None)
        with limits.applied():
            kept.append(contextvars.copy_context())
            while True:
                limits.on_decoded(b"{" + X)

    tracemalloc.start()
    try:
        with pytest.raises(ReadLimitExceeded):
            asyncio.run(read_without_end())
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] < MIB
    finally:
        tracemalloc.stop()
    assert kept
