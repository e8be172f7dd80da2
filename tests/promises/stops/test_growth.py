"""Many interrupted runs in one host process leave it as it was."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import held
import pytest
import spared
from sandboxes import command, sandbox


def test_twenty_interrupted_runs_leave_nothing_behind(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    before, after = held.growth(work, 20, warm_up=10)
    # `scripts/bench` does a thousand runs, and also looks at the cgroups of the host.
    same = {"resident_kib": 0, "cgroups": 0}
    assert replace(after, **same) == replace(before, **same)
    assert after.resident_kib - before.resident_kib < 2048


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()
    gc.collect()


@pytest.mark.usefixtures("no_collector")
def test_descriptors_are_given_back_without_the_collector(tmp_path: Path) -> None:
    """An embedder may have switched it off, or given it reason to come by late."""

    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    async def main() -> None:
        before = descriptors()
        for _ in range(3):
            async with sandbox(tmp_path) as cell:
                # As many at once as later ones and spares together: each has control groups.
                await asyncio.gather(*(cell.call(command(tmp_path, "true")) for _ in range(4)))
                await spared.until_waiting(cell)
                during = descriptors()
                for _ in range(5):
                    await cell.call(command(tmp_path, "true"))
                await spared.until_waiting(cell)
                assert descriptors() == during, "by calls"
        assert descriptors() == before, "by sandboxes"

    asyncio.run(main())
