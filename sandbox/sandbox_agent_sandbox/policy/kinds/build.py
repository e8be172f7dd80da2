"""Builds a sandbox by the strongest kind of plan that the policy allows and this host can do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol, TypeVar

from sandbox_agent_sandbox.errors import SandboxUnavailable
from sandbox_agent_sandbox.plan import PlanKind
from sandbox_agent_sandbox.policy.kinds.choose import choose, choose_again, choose_at_once
from sandbox_agent_sandbox.policy.policy import Policy
from sandbox_agent_sandbox.policy.probe import HostFacts


class Opens(Protocol):
    """A `host.cell.Cell`, which closes itself where it cannot be opened."""

    async def open(self) -> None: ...


T = TypeVar("T", bound=Opens)


async def build(policy: Policy, facts: HostFacts, make: Callable[[PlanKind], T]) -> T:
    """Open what `make` makes for a kind of plan. Where this host cannot do the kind, `make` is
    called again with the next one.

    Raises NoPlan where no kind can be done, and what `make` and `open` raise.
    """
    loop = asyncio.get_running_loop()
    kind = choose_at_once(policy)
    if kind is None:
        kind = await loop.run_in_executor(None, choose, policy, facts)
    while True:
        cell = make(kind)
        try:
            await cell.open()
            return cell
        except SandboxUnavailable as failure:
            # Children are tried, each for some 20 ms.
            kind = await loop.run_in_executor(None, choose_again, policy, facts, kind, failure)
