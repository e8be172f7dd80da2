"""The notebook cell of the manual, where an event loop is running and code awaits at the top.

tests/peers/test_notebook.py runs it in a real kernel.
"""

from __future__ import annotations

import ast
import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import notebook
import observer
import pytest
from sandboxes import run, until


async def execute(cell: str) -> dict[str, Any]:
    """As a kernel does: compiled with `await` at the top, in the loop that is running."""
    names: dict[str, Any] = {}
    code = compile(cell, "cell", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    result = eval(code, names)
    assert isinstance(result, Coroutine)
    await result
    return names


def test_a_cell_runs_in_the_running_loop_and_its_cancellation_stops_the_work_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    mark = notebook.write_steps(tmp_path)

    async def main() -> None:
        # ipykernel cancels the task of a cell when the kernel is interrupted.
        cell = asyncio.create_task(execute(notebook.CELL))
        await until(lambda: len(observer.marked(mark)) >= 2)
        cell.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cell
        assert observer.marked(mark) == []
        notebook.write_quick_steps(tmp_path)
        assert (await execute(notebook.CELL))["result"].status == "done"

    run(main)
