"""Spares of a real sandbox, as a test looks at them."""

from __future__ import annotations

import observer
from sandbox_agent_sandbox.host.cell import Cell
from sandbox_agent_sandbox.host.spares import Spare
from sandboxes import until


def waiting(cell: Cell) -> list[Spare]:
    """Those that have sealed themselves and wait for a call."""
    return cell._supervisor.spares.waiting()


async def until_waiting(cell: Cell, number: int = 2) -> list[Spare]:
    """Until so many wait."""
    await until(lambda: len(waiting(cell)) >= number)
    return waiting(cell)


def keeper(spare: Spare) -> int:
    """The pid of its init; without namespaces, of its supervisor."""
    assert spare.process is not None
    return spare.process.pid


def worker(spare: Spare) -> int:
    """The pid of its worker, as this process's /proc shows it."""
    found = [one for one in observer.descendants(keeper(spare)) if one.name == "sandbox-worker"]
    (one,) = found
    return one.pid
