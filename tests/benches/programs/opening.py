"""Opens sandboxes, one after another, and makes a first call in each.

python opening.py FOLDER COUNT
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

import either


async def opened(workspace: Path, times: either.ResultTimes) -> dict[str, float]:
    """Seconds: to plan and open one, to the first result, both, and to close it. Then both of one
    whose first process was started before, as a run does while it makes the rest ready."""
    begin = time.monotonic()
    cell = either.new_cell(workspace)
    await cell.open()
    is_open = time.monotonic()
    times.clear()
    result = await cell.call(either.request(either.LIST_FILES, workspace, {}))
    assert result.outcome == "ok", result
    assert times.last is not None
    closing = time.monotonic()
    cell.close()
    closed = time.monotonic()
    return {
        "open": is_open - begin,
        "first call": times.last - is_open,
        "both": times.last - begin,
        "close": closed - closing,
        **await opened_late(workspace, times),
    }


async def opened_late(workspace: Path, times: either.ResultTimes) -> dict[str, float]:
    """Nothing of a product that cannot start it before."""
    cell = either.new_cell(workspace)
    if not hasattr(cell, "start"):
        return {}
    cell.start()
    await asyncio.sleep(0.3)  # a run has much to do meanwhile
    begin = time.monotonic()
    cell.set_plan(either.new_plan(workspace))
    planned = time.monotonic()
    await cell.open()
    times.clear()
    result = await cell.call(either.request(either.LIST_FILES, workspace, {}))
    assert result.outcome == "ok" and times.last is not None, result
    cell.close()
    return {"started": times.last - planned, "started and planned": times.last - begin}


async def main(workspace: Path, count: int) -> dict[str, list[float]]:
    times = either.ResultTimes()
    times.install()
    all_of_them = [await opened(workspace, times) for _ in range(count + 1)]
    # The first one has read files and imported modules.
    return {name: [one[name] for one in all_of_them[1:]] for name in all_of_them[0]}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(Path(sys.argv[1]) / "work", int(sys.argv[2])))), flush=True)
