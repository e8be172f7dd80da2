"""A tool that has taken over its worker and writes to its pipe what it likes."""

from __future__ import annotations

from pathlib import Path

import pytest
from sandbox_agent_ipc.codec import encode
from sandbox_agent_ipc.framing import encode_frame
from sandbox_agent_ipc.messages import PROTOCOL, Part, Ready, Result, ResultKind, Started
from sandbox_agent_sandbox.outcome import CallResult, Outcome
from sandboxes import function, run, sandbox

TOOL = """
import os
def speak(path):
    # The outbox is the pipe that is open for writing and is neither output nor error.
    data = open(path, "rb").read()
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        try:
            flags = int(open(f"/proc/self/fdinfo/{fd}").read().split()[3], 8)
            target = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            continue
        if fd > 2 and target.startswith("pipe:") and flags & 3 == os.O_WRONLY:
            while data:
                data = data[os.write(fd, data):]
    __import__("time").sleep(60)
"""


def frame(*messages: object) -> bytes:
    return b"".join(encode_frame(encode(message)) for message in messages)  # type: ignore[arg-type]


def said(workspace: Path, data: bytes) -> CallResult:
    (workspace / "hostile.py").write_text(TOOL)
    (workspace / "data").write_bytes(data)

    async def main() -> CallResult:
        async with sandbox(workspace) as cell:
            request = function(
                workspace, "hostile", "speak", {"path": "data"}, output_limit=2000, timeout=30
            )
            return await cell.call(request)

    return run(main)


@pytest.mark.parametrize(
    "data",
    [
        b"\xff" * 100,
        b"\x00\x00\x00\x00",
        encode_frame(b"garbage"),
        frame(Ready(PROTOCOL)),
        frame(Ready(PROTOCOL + 1)),
        frame(Started()),
        frame(Started(), Result(ResultKind.OK, "after it")),
        frame(Part(b"x" * 1_000_000), Result(ResultKind.OK, "")),
        frame(Part(b"x"), Started()),
        frame(Result(ResultKind.OK, "one"), Part(b"two")),
        frame(Result(ResultKind.OK, "one"), Result(ResultKind.OK, "two")),
    ],
    ids=[
        "oversize",
        "empty",
        "garbage",
        "ready-again",
        "other-version",
        "started-again",
        "started-again-then-a-result",
        "parts-beyond-the-limit",
        "started-after-a-part",
        "part-after-the-result",
        "two",
    ],
)
def test_what_is_out_of_turn_ends_the_call_and_nothing_else(tmp_path: Path, data: bytes) -> None:
    result = said(tmp_path, data)
    if result.outcome is Outcome.OK:  # the first of two results had been taken by then
        assert result.content == "one"
    else:
        assert result.outcome is Outcome.CRASHED
        assert "protocol" in result.detail


def test_parts_that_are_no_text_are_text_all_the_same(tmp_path: Path) -> None:
    result = said(tmp_path, frame(Part(b"a\xff"), Part(b"\xe2\x82"), Result(ResultKind.OK, "b")))
    assert result.outcome is Outcome.OK
    assert result.content == "a\ufffd\ufffdb"


def test_a_result_of_any_length_is_cut(tmp_path: Path) -> None:
    result = said(tmp_path, frame(Result(ResultKind.OK, "x" * 1_500_000)))
    assert result.outcome is Outcome.OK
    assert len(result.content) < 3000
    assert "left out" in result.content
