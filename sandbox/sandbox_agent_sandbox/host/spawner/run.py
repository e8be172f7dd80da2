"""What a spawner does, from its first imports on. Here is the host's code no more."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from sandbox_agent_sandbox.inside import spawner
from sandbox_agent_sandbox.plan import PlanKind


def run(control: int, host: int) -> NoReturn:
    """Be the spawner of a sandbox. control: its end of the control socket. host: a pidfd of the
    host."""
    # Here, since a spawner for one command needs no other tool.
    from sandbox_agent_sandbox.inside.prepare_tools import prepare_tools

    build(control, host, prepare_tools)


def build(control: int, host: int, prepare: Callable[[], object]) -> NoReturn:
    """The same. prepare: makes ready what the calls have in common."""
    plan, ends = spawner.begin(control, host, prepare)
    if plan.kind is PlanKind.NO_NAMESPACES:
        # Here, since no other kind needs it.
        from sandbox_agent_sandbox.inside.unshared import spawner as unshared

        unshared.main(plan, ends)
    spawner.main(plan, ends)
