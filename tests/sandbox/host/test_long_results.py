"""A result that no single frame holds comes whole, where the call's limit allows it."""

from __future__ import annotations

import array
import asyncio
import contextlib
import fcntl
import os
import termios
from pathlib import Path
from typing import Any

import observer
import pytest
from sandbox_agent_ipc.cancel_reason import CancelReason
from sandbox_agent_ipc.messages import MAX_MESSAGE, MAX_RESULT
from sandbox_agent_sandbox.host.cell import Cell
from sandbox_agent_sandbox.outcome import CallResult, Outcome, Rung
from sandboxes import function, run, sandbox, until

TOOLS = """
def times(text: str, count: int) -> str:
    return text * count

def fails(text: str, count: int) -> str:
    raise ValueError(text * count)
"""

ODD = "aé€😀\x00\n"
"""Characters of one to four bytes, so that the pieces of a long text end anywhere in it."""


def asked(workspace: Path, count: int, text: str = ODD, name: str = "times", **more: Any) -> Any:
    (workspace / "long.py").write_text(TOOLS)
    return function(workspace, "long", name, {"text": text, "count": count}, **more)


def result_of(workspace: Path, count: int, text: str = ODD, **more: Any) -> CallResult:
    async def main() -> CallResult:
        async with sandbox(workspace) as cell:
            return await cell.call(asked(workspace, count, text, **more))

    return run(main)


@pytest.mark.parametrize("size", [MAX_MESSAGE // 16, MAX_MESSAGE, 24 * MAX_MESSAGE])
def test_a_long_result_comes_whole(tmp_path: Path, size: int) -> None:
    count = size // len(ODD.encode())
    result = result_of(tmp_path, count, output_limit=2 * size)
    assert result.outcome is Outcome.OK
    assert result.content == ODD * count


def test_many_long_results_at_once(tmp_path: Path) -> None:
    size = 4 * MAX_MESSAGE

    async def main() -> list[CallResult]:
        async with sandbox(tmp_path) as cell:
            calls = [
                cell.call(asked(tmp_path, size, str(number), output_limit=size))
                for number in range(6)
            ]
            return await asyncio.gather(*calls)

    assert [result.content for result in run(main)] == [str(n) * size for n in range(6)]


@pytest.mark.parametrize("limit", [2000, MAX_MESSAGE + 1, 3 * MAX_MESSAGE])
@pytest.mark.parametrize("name", ["times", "fails"])
def test_beyond_the_limit_the_middle_is_left_out(tmp_path: Path, limit: int, name: str) -> None:
    count = 4 * MAX_MESSAGE
    content = result_of(tmp_path, count, "x", name=name, output_limit=limit).content
    assert 0.9 * limit < len(content) <= limit
    assert "bytes left out" in content


@pytest.mark.parametrize("text", ["x", "é"])
def test_what_no_result_holds_is_refused_with_the_hint(tmp_path: Path, text: str) -> None:
    count = MAX_RESULT // len(text.encode()) + 1
    result = result_of(tmp_path, count, text, output_limit=2**62)
    assert result.outcome is Outcome.ERROR
    assert result.content.startswith(f"the tool returned {count * len(text.encode())} bytes")
    assert "hint: write it to a file in the workspace" in result.content


def test_a_call_that_is_stopped_while_its_result_comes_ends(tmp_path: Path) -> None:
    """The worker waits for room in the pipe, since the host's loop stands still. It ignores SIGTERM
    by then: its tool has returned."""

    async def main() -> CallResult:
        async with sandbox(tmp_path, grace=0.1, term=0.1, spares=0) as cell:

            def stop() -> None:
                observer.eventually(lambda: any(map(is_full, os.listdir("/proc/self/fd"))), 20)
                workers = [one for one in observer.descendants(os.getpid()) if is_worker(one)]
                assert cell.cancel(ask.id, CancelReason.INTERRUPT)
                with observer.watching(workers) as handles:
                    assert len(handles) == 1
                    assert observer.wait_gone(handles, 20)[1] == []

            ask = asked(tmp_path, 64 << 20, "x", output_limit=64 << 20, on_started=stop)
            return await cell.call(ask)

    result = run(main)
    assert (result.outcome, result.rung) == (Outcome.KILLED, Rung.KILL)
    assert (result.content, result.survivors) == ("", ())


def is_worker(process: observer.Process) -> bool:
    return process.name == "sandbox-worker"


def is_full(fd: str) -> bool:
    """Whether a descriptor is a pipe that holds as much as any pipe does at least."""
    held = array.array("i", [0])
    with contextlib.suppress(OSError):
        if os.readlink(f"/proc/self/fd/{fd}").startswith("pipe:"):
            fcntl.ioctl(int(fd), termios.FIONREAD, held)
    return held[0] >= 60 * 1024


def test_the_next_call_is_not_concerned(tmp_path: Path) -> None:
    async def main() -> None:
        async with sandbox(tmp_path) as cell:
            await _takes(cell, tmp_path, 8 << 20)
            await _takes(cell, tmp_path, 3)
            await until(lambda: len(cell._supervisor._calls) == 0)

    async def _takes(cell: Cell, workspace: Path, count: int) -> None:
        result = await cell.call(asked(workspace, count, "x", output_limit=16 << 20))
        assert result.content == "x" * count

    run(main)
