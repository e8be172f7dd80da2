"""The view once more, by rules: a backstop for the mounts. landlock(7).

The plan's rules have all rights that are known. Here they are cut to those that this kernel knows.
"""

from __future__ import annotations

import os
from contextlib import suppress
from functools import cache

from sandbox_agent_sandbox.inside.kernel import syscalls
from sandbox_agent_sandbox.plan import Access, Landlock

OLDEST = 2
"""The first ABI that is of use (Linux 5.19). Under the one before, no file can be moved to another
folder (EXDEV), whatever the rules say."""

_RIGHTS = {2: 14, 3: 15, 5: 16}
"""By ABI: how many rights for files there are, from the lowest bit on."""
FIRST_SCOPES = 6
"""The ABI with scopes (Linux 6.12)."""

_FIRST_TCP, _FIRST_LOG = 4, 7
_SCOPES = 3
"""LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET, LANDLOCK_SCOPE_SIGNAL."""
_QUIET = 1 | 4
"""LANDLOCK_RESTRICT_SELF_LOG_SAME_EXEC_OFF, _LOG_SUBDOMAINS_OFF: a tool must not be able to fill
the host's audit log with what it is denied."""


@cache
def landlock_abi() -> int:
    """The version of this kernel's Landlock; 0 for none. Init asks once, for all calls."""
    return syscalls.landlock_abi()


def restrict_access(rules: Landlock) -> None:
    """Restrict this process, and all that comes from it, to what the rules allow, for good. Needs
    no_new_privs. Without rules, and where Landlock is missing or too old, it does nothing.

    The places are looked up here and not in init: a call may have a home folder and a /tmp of its
    own, and has its own /proc.
    """
    abi = landlock_abi()
    if abi < OLDEST or not rules.files:
        return
    known = (1 << max(count for first, count in _RIGHTS.items() if first <= abi)) - 1
    ruleset = syscalls.landlock_create_ruleset(
        known,
        rules.tcp if abi >= _FIRST_TCP else 0,
        _SCOPES if abi >= FIRST_SCOPES else 0,
    )
    try:
        for access in rules.files:
            # What this process cannot reach, no tool can; it has no rule, so it stays shut.
            with suppress(FileNotFoundError, PermissionError):
                _allow(ruleset, access, known)
        syscalls.landlock_restrict_self(ruleset, _QUIET if abi >= _FIRST_LOG else 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, access: Access, known: int) -> None:
    place = os.open(access.path, os.O_PATH | os.O_CLOEXEC)
    try:
        syscalls.landlock_add_rule(ruleset, place, access.rights & known)
    finally:
        os.close(place)
