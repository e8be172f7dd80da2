"""A conversation in a real notebook kernel: it runs there, and "interrupt the kernel" stops it."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import notebook
import observer
import pytest

pytest.importorskip("ipykernel", reason="needs ipykernel; tests/peers/run installs it")
pytest.importorskip("jupyter_client", reason="needs jupyter_client; tests/peers/run installs it")

LIMIT = 60.0


class Kernel:
    """A kernel and its client, as a notebook has them."""

    def __init__(self, folder: Path) -> None:
        from jupyter_client.manager import KernelManager

        self.manager = KernelManager()
        self.manager.kernel_spec.argv = [
            *(sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}")
        ]
        self.manager.connection_file = str(folder / "kernel.json")
        quiet = {"stdout": -3, "stderr": -3}  # subprocess.DEVNULL
        self.manager.start_kernel(cwd=str(folder), env=dict(os.environ), **quiet)
        self.client = self.manager.blocking_client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=LIMIT)

    def begin(self, cell: str) -> str:
        return str(self.client.execute(cell))

    def reply(self, cell: str) -> dict[str, Any]:
        """The kernel's answer to the cell with this id."""
        deadline = time.monotonic() + LIMIT
        while True:
            message = self.client.get_shell_msg(timeout=max(0.0, deadline - time.monotonic()))
            if message["parent_header"].get("msg_id") == cell:
                content: dict[str, Any] = message["content"]
                return content

    def run(self, cell: str) -> dict[str, Any]:
        return self.reply(self.begin(cell))

    def end(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


@pytest.fixture(scope="module", autouse=True)
def loop_of_jupyter() -> Iterator[None]:
    """The event loop that jupyter_client makes for a whole program, and leaves."""
    from jupyter_core.utils import ensure_event_loop

    loop = ensure_event_loop()
    yield
    loop.close()


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Kernel]:
    one = Kernel(tmp_path)
    try:
        yield one
    finally:
        one.end()


def wait_up(mark: str) -> None:
    observer.eventually(lambda: observer.marked(mark), LIMIT)


def test_a_cell_runs_an_agent_and_an_interrupt_of_the_kernel_stops_it(
    kernel: Kernel, tmp_path: Path
) -> None:
    mark = notebook.write_steps(tmp_path)
    cell = kernel.begin(notebook.CELL)
    wait_up(mark)
    kernel.manager.interrupt_kernel()
    assert kernel.reply(cell)["status"] == "error"
    assert observer.marked(mark) == []
    notebook.write_quick_steps(tmp_path)
    done = kernel.run(notebook.CELL + "\nassert result.status == 'done', result\n")
    assert done["status"] == "ok", done


def test_a_kernel_that_is_killed_leaves_nothing(kernel: Kernel, tmp_path: Path) -> None:
    mark = notebook.write_steps(tmp_path)
    kernel.begin(notebook.CELL)
    wait_up(mark)
    with observer.watching(observer.marked(mark)) as handles:
        with contextlib.suppress(Exception):
            kernel.manager.shutdown_kernel(now=True)
        assert observer.wait_gone(handles, 10)[1] == []


def test_run_says_what_to_write_in_a_notebook(kernel: Kernel, tmp_path: Path) -> None:
    notebook.write_quick_steps(tmp_path)
    done = kernel.run(notebook.CELL.replace("await conversation.arun()", "conversation.run()"))
    assert done["status"] == "error"
    assert "await arun()" in done["evalue"]
