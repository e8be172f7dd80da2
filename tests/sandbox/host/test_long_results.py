"""A result that no single frame holds comes whole, where the call's limit allows it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from sandbox_agent_ipc.cancel_reason import CancelReason
from sandbox_agent_ipc.messages import MAX_MESSAGE, MAX_RESULT
from sandbox_agent_sandbox.host.cell import Cell
from sandbox_agent_sandbox.outcome import CallResult, Outcome
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
    """The worker waits for room in the pipe, since the host does not read."""

    async def main() -> tuple[CallResult, float]:
        async with sandbox(tmp_path, grace=0.2, term=0.2) as cell:
            begun = asyncio.Event()
            ask = asked(
                tmp_path, 64 << 20, "x", output_limit=64 << 20, on_started=begun.set, timeout=60
            )
            call = asyncio.create_task(cell.call(ask))
            await begun.wait()
            cell.cancel(ask.id, CancelReason.INTERRUPT)
            begin = time.monotonic()
            time.sleep(0.3)  # the loop stands still
            result = await call
            return result, time.monotonic() - begin

    result, _ = run(main)
    assert result.outcome in (Outcome.CANCELLED, Outcome.KILLED, Outcome.OK)
    assert result.survivors == ()
    assert (result.outcome is Outcome.OK) == (len(result.content) == 64 << 20)


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
