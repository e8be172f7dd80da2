"""Builds a sandbox by the strongest kind of plan that the policy allows and this host can do."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from sandbox_agent_ipc.futures import cancelled_errors, running_loop

from sandbox_agent_sandbox.errors import SandboxUnavailable
from sandbox_agent_sandbox.plan import PlanKind
from sandbox_agent_sandbox.policy.kinds.choose import choose, choose_again, choose_at_once
from sandbox_agent_sandbox.policy.probe import HostFacts, Trials

if TYPE_CHECKING:
    from typing import Protocol

    from sandbox_agent_sandbox.policy.any_policy import AnyPolicy

    class Opens(Protocol):
        """A `host.cell.Cell`, which closes itself where it cannot be opened."""

        async def open(self) -> None: ...


T = TypeVar("T", bound="Opens")
R = TypeVar("R")


async def build(policy: AnyPolicy, facts: HostFacts, make: Callable[[PlanKind], T]) -> T:
    """Open what `make` makes for a kind of plan. Where this host cannot do the kind, `make` is
    called again with the next one.

    Raises NoPlan where no kind can be done, and what `make` and `open` raise.
    """
    kind = choose_at_once(policy)
    if kind is None:
        kind = await apart(choose, policy, facts)
    while True:
        cell = make(kind)
        try:
            await cell.open()
            return cell
        except SandboxUnavailable as failure:
            kind = await apart(choose_again, policy, facts, kind, failure)


async def apart(work: Callable[..., R], *arguments: object) -> R:
    """Do in a thread what tries things in children, for each takes 20 ms and more.

    If the awaiting task is cancelled, the children are ended. Else an interrupt would have to wait
    for all of them: at its end a loop waits for the threads of its executor.
    """
    trials = Trials()
    loop = running_loop()
    try:
        return await loop.run_in_executor(None, trials.during, work, *arguments)
    except cancelled_errors():
        trials.abandon()
        raise
