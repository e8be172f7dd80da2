"""Whether this host can do a plan without namespaces."""

from __future__ import annotations

from sandbox_agent_sandbox.policy.kinds.found import Found
from sandbox_agent_sandbox.policy.probe import HostFacts, host_can
from sandbox_agent_sandbox.policy.rules.numbers import NUMBERS


def try_no_namespaces(facts: HostFacts) -> Found:
    """Try what it needs in a child."""
    if facts.machine not in NUMBERS:
        return Found(
            works=False,
            why="there is no filter of system calls for this machine",
            hint="use x86-64 or AArch64, with a 64-bit Python",
        )
    can = facts.unshared or host_can()
    if not can.abi:
        # Imported here: ctypes takes 5 ms, and only who fails asks.
        from sandbox_agent_sandbox.inside.walls.landlock import landlock_abi

        if landlock_abi():
            return Found(
                works=False,
                why="Landlock takes no more rules: there are sixteen layers, and each sandbox of"
                " this kind around this one takes two",
                hint="start it outside of the other sandboxes",
            )
        return Found(
            works=False,
            why="there is no Landlock",
            hint="use Linux 5.13 or newer with landlock in its list of security modules (lsm=);"
            " in a container, a seccomp profile that allows it",
        )
    if not can.scopes and not can.listener:
        return Found(
            works=False,
            why="nothing keeps signals from the user's other processes: Landlock has no scopes, and"
            " a filter of system calls can have no listener",
            hint="use Linux 6.12 or newer, or no other sandbox around this one",
        )
    return Found(works=True)
