"""The view once more, by rules: a backstop for the mounts. landlock(7).

The plan's rules have all rights that are known. Here they are cut to those that this kernel knows.
"""

from __future__ import annotations

import os
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
_OF_A_CALL = ("/proc",)
"""What each call has of its own."""
_MOST_USES = 64
"""Calls for which a ruleset is used."""


@cache
def landlock_abi() -> int:
    """The version of this kernel's Landlock; 0 for none."""
    return syscalls.landlock_abi()


class SharedRuleset:
    """The ruleset of all calls of a sandbox, made once in init. Each call adds the rule for its own
    /proc. The kernel forgets what a rule is about when that /proc is gone, but not the rule; so
    from time to time the ruleset is made anew."""

    def __init__(self, rules: Landlock) -> None:
        self._rules = rules
        self._fd: int | None = None
        self._uses = _MOST_USES

    def for_a_call(self) -> int | None:
        """A descriptor that a call's processes inherit; None for no ruleset."""
        if self._uses >= _MOST_USES:
            if self._fd is not None:
                os.close(self._fd)
                self._fd = None
            self._fd, self._uses = make_ruleset(self._rules), 0
        self._uses += 1
        return self._fd


def make_ruleset(rules: Landlock) -> int | None:
    """A ruleset for the view of the calling process, but for what a call has of its own. None
    without rules, and where Landlock is missing or too old."""
    abi = landlock_abi()
    if abi < OLDEST or not rules.files:
        return None
    ruleset = syscalls.landlock_create_ruleset(
        _known(abi),
        rules.tcp if abi >= _FIRST_TCP else 0,
        _SCOPES if abi >= FIRST_SCOPES else 0,
    )
    try:
        for access in rules.files:
            if access.path not in _OF_A_CALL:
                _allow(ruleset, access)
    except BaseException:
        os.close(ruleset)
        raise
    return ruleset


def restrict_access(rules: Landlock, ruleset: int | None) -> None:
    """Restrict this process, and all that comes from it, to what the rules allow, for good. Needs
    no_new_privs. ruleset: as `make_ruleset` makes it, which is closed."""
    if ruleset is None:
        return
    for access in _own_rules(rules):
        _allow(ruleset, access)
    syscalls.landlock_restrict_self(ruleset, _QUIET if landlock_abi() >= _FIRST_LOG else 0)
    os.close(ruleset)


_prepared: list[tuple[Landlock, list[Access]]] = []


def prepare_own_rules(rules: Landlock) -> None:
    """Find those that a call has of its own, once for all workers that come from this process."""
    _prepared[:] = [(rules, _own_rules(rules))]


def _own_rules(rules: Landlock) -> list[Access]:
    for known, own in _prepared:
        if known is rules:
            return own
    return [access for access in rules.files if access.path in _OF_A_CALL]


@cache
def _known(abi: int) -> int:
    return (1 << max(count for first, count in _RIGHTS.items() if first <= abi)) - 1


def _allow(ruleset: int, access: Access) -> None:
    try:
        place = os.open(access.path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, PermissionError):
        return  # what this process cannot reach, no tool can; it has no rule, so it stays shut
    try:
        syscalls.landlock_add_rule(ruleset, place, access.rights & _known(landlock_abi()))
    finally:
        os.close(place)
