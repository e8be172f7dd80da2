"""What each kind of plan leaves open outside the sandbox, though no field of a policy allows it.

It is in the record of each run, in the first lines of its progress and in `doctor`.
sandbox/README.md has the same list; tests/sandbox/policy/test_left_open.py compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping

from sandbox_agent_sandbox.plan import PlanKind

LEFT_OPEN: Mapping[PlanKind, tuple[str, ...]] = {
    PlanKind.FULL: (),
    PlanKind.SHARED_PROC: (),
    PlanKind.NO_NAMESPACES: (
        "files of your own: whether they exist, and their metadata (stat, chmod, chown, utime,"
        " xattr)",
        "other processes: their names, command lines and numbers in /proc, and the host's"
        " connections (/proc/net)",
        "the host's accounts and its names (/etc/passwd, /etc/hosts)",
        "processes of a call whose spawner, supervisor and starter were all killed (SIGKILL) in the"
        " same moment: they live on until this user's next sandbox starts",
        "servers that tools start with network: loopback: other programs of the host reach them",
    ),
}
