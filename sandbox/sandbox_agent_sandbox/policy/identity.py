"""The user and group that tools run as."""

from __future__ import annotations

from pathlib import Path

from sandbox_agent_sandbox.plan import Identity
from sandbox_agent_sandbox.policy.probe import HostFacts

UNPRIVILEGED_ID = 1000
"""The uid and gid inside when the agent is root and so is the workspace's owner."""

OUTSIDE_ID = 1_912_602_624
"""The id outside for UNPRIVILEGED_ID: above every range that systemd or shadow hand out, so no
other account has it."""


def identity_for(facts: HostFacts, workspace: Path | None) -> Identity:
    """The tools' user: never 0 inside, and never root outside."""
    if facts.uid != 0:
        return Identity(facts.uid, facts.gid, facts.uid, facts.gid)
    status = None if workspace is None else workspace.stat()
    if status is not None and status.st_uid != 0:
        gid = status.st_gid or status.st_uid
        return Identity(status.st_uid, gid, status.st_uid, gid)
    return Identity(UNPRIVILEGED_ID, UNPRIVILEGED_ID, OUTSIDE_ID, OUTSIDE_ID)
