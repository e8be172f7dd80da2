"""The user and group that tools run as."""

from __future__ import annotations

import os
from pathlib import Path

from sandbox_agent_sandbox.errors import SandboxUnavailable
from sandbox_agent_sandbox.plan import Identity, PlanKind
from sandbox_agent_sandbox.policy.probe import HostFacts, host_can

UNPRIVILEGED_ID = 1000
"""The uid and gid inside when the agent is root and so is the workspace's owner."""

OUTSIDE_ID = 1_912_602_624
"""The id outside for UNPRIVILEGED_ID: above every range that systemd or shadow hand out, so no
other account has it."""


def identity_for(kind: PlanKind, facts: HostFacts, workspace: Path | None) -> Identity:
    """The tools' user. Where there are namespaces it is never 0 inside, and root outside only if
    this root can neither be another user nor show its files as another's: then it is root without
    any capability.

    Raises SandboxUnavailable where that user could not run the tools.
    """
    own = Identity(facts.uid, facts.gid, facts.uid, facts.gid)
    if facts.uid != 0:
        return own
    other = None if workspace is None else _owner(workspace)
    if kind is PlanKind.NO_NAMESPACES:
        # Nothing can be shown as another's here. So tools are the workspace's owner, or root
        # without any capability.
        if other is None or not (facts.unshared or host_can()).other_user:
            return own
        for path in map(str, (facts.prefix, facts.base_prefix, *facts.code)):
            if not can_reach(path, *other):
                raise SandboxUnavailable(
                    f"tools would run as the owner of the workspace (uid {other[0]}), who does not"
                    f" reach {path}; hint: install it where that user reaches it (in /opt or"
                    " /usr/local), or give the workspace to root (chown)"
                )
        return Identity(*other, *other)
    if not facts.can_mount and (other is None or not facts.can_map):
        return Identity(UNPRIVILEGED_ID, UNPRIVILEGED_ID, facts.uid, facts.gid)
    if other is None:
        return Identity(UNPRIVILEGED_ID, UNPRIVILEGED_ID, OUTSIDE_ID, OUTSIDE_ID)
    return Identity(*other, *other)


def _owner(folder: Path) -> tuple[int, int] | None:
    """The uid and gid of a folder's owner; None if that is root."""
    status = folder.stat()
    return (status.st_uid, status.st_gid or status.st_uid) if status.st_uid != 0 else None


def can_reach(path: str, uid: int, gid: int) -> bool:
    """Whether the modes of the folders above a path let a user through."""
    for folder in Path(path).parents:
        try:
            status = os.stat(folder)
        except OSError:
            return False
        wanted = 0o100 if status.st_uid == uid else 0o010 if status.st_gid == gid else 0o001
        if not status.st_mode & wanted:
            return False
    return True
