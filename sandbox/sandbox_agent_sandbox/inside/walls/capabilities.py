"""Dropping every capability for good. capabilities(7), prctl(2)."""

from __future__ import annotations

from sandbox_agent_sandbox.inside.kernel import syscalls

_LAST_CAPABILITY = 63


def empty_bounding_set() -> None:
    """Let no process that comes from this one gain a capability by execve(2). What this process has
    it keeps, and so does a child of it. Once for all calls: it takes longer than the rest.

    Needs CAP_SETPCAP. Who lacks it has nothing to gain: it stays as it is.
    """
    for capability in range(_LAST_CAPABILITY + 1):
        try:
            syscalls.prctl(syscalls.PR_CAPBSET_DROP, capability)
        except OSError:
            break  # past the last capability of this kernel


def drop_capabilities() -> None:
    """Empty the other four sets, and set no_new_privs."""
    syscalls.prctl(syscalls.PR_CAP_AMBIENT, syscalls.PR_CAP_AMBIENT_CLEAR_ALL)
    syscalls.capset_none()
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
