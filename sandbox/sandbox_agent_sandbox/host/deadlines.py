"""How long the host waits for each step before it gives up on it."""

from __future__ import annotations

import msgspec


class Deadlines(msgspec.Struct, frozen=True):
    """Seconds that each step of a sandbox may take.

    The defaults suit a busy machine. The policy has the time limits of calls. These limits are for
    the sandbox itself, and users do not set them.
    """

    open: float = 30.0
    """Building a sandbox, from the plan until init is ready for calls."""

    launch: float = 0.25
    """A spawner of a closed sandbox may take so long from fork to exec. Then it is killed."""

    orphan: float = 0.25
    """How long a process that a spawner started may outlive it while the sandbox is built."""

    start: float = 10.0
    """Init may take so long to make a call's processes. Then the whole sandbox is ended."""

    finish: float = 0.25
    """A call may take so long to end after its result. Then the ladder kills what is left."""

    order: float = 0.25
    """After the order to end a call's namespace. Then its init gets SIGKILL."""

    proof: float = 5.0
    """After SIGKILL. Processes that still exist then are reported as survivors."""

    describe: float = 60.0
    """Importing the tools' modules in order to describe the tools."""

    serve: float = 60.0
    """A session's worker may take so long until it serves requests. Then it is ended."""


DEFAULT = Deadlines()
