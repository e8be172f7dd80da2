"""A call with a large result, in a sandbox of its own.

    python large.py FOLDER allowed|refused BYTES

allowed: what it takes from the tool's begin to the return of the call, less what the same call
takes with an empty result. refused: what becomes of a result that no limit of the call forbids.
"""

from __future__ import annotations

import asyncio
import json
import mmap
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import either
from sandbox_agent_ipc.messages import FunctionRef

HERE = Path(__file__).resolve().parent


class Large:
    """limit: bytes that the calls may return and print."""

    def __init__(self, cell: either.Cell, workspace: Path, limit: int) -> None:
        self._cell = cell
        self._workspace = workspace
        self._limit = limit

    async def taken(self, function: str, size: int) -> tuple[float, Any]:
        """Seconds from the tool's begin to the return of the call, and its result."""
        began = [0.0]

        def on_started() -> None:
            began[0] = time.monotonic()

        environ = {"LARGE_RESULT": str(size)}
        request = either.request(
            FunctionRef("large_tool", function),
            self._workspace,
            {},
            env=environ,
            output_limit=self._limit,
            on_started=on_started,
        )
        result = await self._cell.call(request)
        return time.monotonic() - began[0], result

    async def rate(self, function: str, size: int) -> tuple[float, int]:
        """Seconds beyond those of nothing, and how many bytes came."""
        small, _ = await self.taken(function, 0)
        seconds, result = await self.taken(function, size)
        assert result.outcome == "ok", result
        came = len(result.content) if function == "returned" else kept(result)
        return max(seconds - small, 1e-6), came


def kept(result: Any) -> int:
    """Bytes of standard output. In 584eb71 they are text."""
    return len(result.stdout if hasattr(result, "stdout") else result.output)


def copied(size: int) -> float:
    """Seconds of memcpy(3) into pages that this process has not touched yet."""
    source = b"x" * size
    target = mmap.mmap(-1, size)
    begin = time.monotonic()
    target[:] = source
    seconds = time.monotonic() - begin
    target.close()
    return seconds


async def main(folder: Path, what: str, size: int) -> dict[str, Any]:
    workspace = folder / "work"
    shutil.copy(HERE / "large_tool.py", workspace)
    cell = either.new_cell(workspace)
    await cell.open()
    large = Large(cell, workspace, 2 * size)
    try:
        if what == "refused":
            _, result = await large.taken("returned", size)
            text = f"{result.detail} {result.content[:1000]} {result.content[-1000:]}"
            refused = len(result.content) < size and "hint" in text
            return {"refused": refused, "outcome": str(result.outcome), "came": len(result.content)}
        returned, returned_bytes = await large.rate("returned", size)
        printed, printed_bytes = await large.rate("printed", size)
        return {
            "returned": [returned],
            "printed": [printed],
            "copied": [copied(size)],
            "returned bytes": [returned_bytes],
            "printed bytes": [printed_bytes],
        }
    finally:
        cell.close()


if __name__ == "__main__":
    found = asyncio.run(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
    print(json.dumps(found), flush=True)
    os._exit(0)
