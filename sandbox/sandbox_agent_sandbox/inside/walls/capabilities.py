"""Dropping every capability for good. capabilities(7), prctl(2)."""

from __future__ import annotations

from sandbox_agent_sandbox.inside.kernel import syscalls

_LAST_CAPABILITY = 63


def drop_capabilities() -> None:
    """Empty all five sets, the bounding and the ambient one too, and set no_new_privs."""
    for capability in range(_LAST_CAPABILITY + 1):
        try:
            syscalls.prctl(syscalls.PR_CAPBSET_DROP, capability)
        except OSError:
            break  # past the last capability of this kernel
    syscalls.prctl(syscalls.PR_CAP_AMBIENT, syscalls.PR_CAP_AMBIENT_CLEAR_ALL)
    syscalls.capset_none()
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
