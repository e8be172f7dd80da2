"""How long the host waits for each step before it gives up on it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Deadlines:
    """Seconds that each step of a sandbox may take.

    The defaults suit a busy machine. A policy sets the times of calls; these are for what a sandbox
    does by itself, and no user needs to change them.
    """

    open: float = 30.0
    """Building a sandbox, from the start of the spawner until init is ready for calls."""

    launch: float = 0.25
    """A spawner that is to be closed may take so long from fork to exec. Then it is killed."""

    orphan: float = 0.25
    """After the end of a spawner: what it had begun to build may follow it, see `Launch.kill`."""

    start: float = 10.0
    """Until init has made a call's processes. Then the whole sandbox is given up."""

    finish: float = 0.25
    """A worker may take so long to exit after its result. Then its namespace is killed."""

    proof: float = 5.0
    """After SIGKILL. What is still there then is called a survivor."""

    describe: float = 60.0
    """Importing the tools' modules in order to describe the tools."""

    serve: float = 60.0
    """Until a session's worker serves requests. Then it is ended."""


DEFAULT = Deadlines()
