"""Calls in one sandbox that stays open. `bench/suites/calls.py` asks for them.

python calls.py FOLDER
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import either
from answering import serve
from sandbox_agent_ipc.messages import FunctionRef

HERE = Path(__file__).resolve().parent
ECHO = FunctionRef("echo_session", "serve")
LONG = either.Patience(60, 60)


class Calls:
    """The sandbox, and what is called in it."""

    def __init__(self, cell: either.Cell, workspace: Path, times: either.ResultTimes) -> None:
        self._cell = cell
        self._workspace = workspace
        self._times = times
        self._serving: either.Cell | None = None
        self._session: Any = None

    def _request(self, kind: str, **more: Any) -> either.CallRequest:
        function, arguments = {
            "built-in": (either.LIST_FILES, {}),
            "user": (FunctionRef("measured_tools", "nothing"), {}),
            "shell": (either.SHELL, {"command": "true"}),
            "waits": (FunctionRef("measured_tools", "waits"), {}),
        }[kind]
        return either.request(function, self._workspace, arguments, **more)

    async def paced(self, kind: str, count: int, pause: float) -> dict[str, list[float]]:
        """Calls one after another. pause: seconds between the end of one and the begin of the next,
        as a model leaves them. Seconds to the result, and from there to the return of the call,
        when its processes are proven dead."""
        found: dict[str, list[float]] = {"result": [], "dead": []}
        for _ in range(count):
            await asyncio.sleep(pause)
            self._times.clear()
            begin = time.monotonic()
            result = await self._cell.call(self._request(kind))
            over = time.monotonic()
            assert result.outcome == "ok", result
            assert self._times.last is not None, "nobody saw the result"
            found["result"].append(self._times.last - begin)
            found["dead"].append(over - self._times.last)
        return found

    async def saturated(self, kind: str, count: int, at_once: int) -> list[float]:
        """Calls a second, so many at once all the time."""
        left = iter(range(count))

        async def some() -> None:
            for _ in left:
                result = await self._cell.call(self._request(kind))
                assert result.outcome == "ok", result

        begin = time.monotonic()
        await asyncio.gather(*[some() for _ in range(at_once)])
        return [count / (time.monotonic() - begin)]

    async def session(self, count: int) -> list[float]:
        """Seconds of each request to a session, which has a sandbox of its own."""
        if self._serving is None:
            self._serving = either.new_cell(None, tool_paths=[HERE])
            await self._serving.open()
            self._session = await self._serving.session(ECHO, {})
        taken = []
        for _ in range(count):
            begin = time.monotonic()
            answer = await self._session.ask(b"echo", LONG)
            taken.append(time.monotonic() - begin)
            assert answer.body == b"echo", answer
        return taken

    async def flagged(self, count: int) -> dict[str, list[float]]:
        """So many tools wait for their tokens at the same time; one token stops them all. Seconds
        until the last tool saw the flag, and until the last call is proven dead."""
        up = asyncio.Semaphore(0)
        token = either.RunToken()

        def on_output(*_: object) -> None:
            up.release()

        made = [self._request("waits", on_output=on_output) for _ in range(count)]
        calls = [asyncio.create_task(self._cell.call(one, token=token)) for one in made]
        async with asyncio.timeout(60):
            for _ in range(count):
                await up.acquire()
        begin = time.monotonic()
        token.cancel(either.CancelReason.INTERRUPT)
        results = await asyncio.gather(*calls)
        over = time.monotonic()
        assert all(result.outcome == "cancelled" for result in results), results
        seen = max(int(result.content) for result in results) / 1e9
        return {"seen": [seen - begin], "dead": [over - begin]}

    def close(self) -> None:
        self._cell.close()
        if self._serving is not None:
            self._serving.close()


async def main(folder: Path) -> None:
    workspace = folder / "work"
    shutil.copy(HERE / "measured_tools.py", workspace)
    (workspace / "a.txt").write_text("a file")
    times = either.ResultTimes()
    times.install()
    import sandbox_agent

    facade = Path(sandbox_agent.__file__).parents[1]
    cell = either.new_cell(workspace, tool_paths=[facade, HERE])
    await cell.open()
    calls = Calls(cell, workspace, times)
    try:
        await serve(
            {
                "paced": calls.paced,
                "saturated": calls.saturated,
                "session": calls.session,
                "flagged": calls.flagged,
            }
        )
    finally:
        calls.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
