"""What each kind of plan leaves open outside the sandbox, though no field of a policy allows it.

It is in the record of each run and in `doctor`; the first lines of a run's progress and its reports
have the name of each, which is what stands before the colon. sandbox/README.md has the same list;
tests/sandbox/policy/test_left_open.py compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping

from sandbox_agent_sandbox.plan import Plan, PlanKind

_LOOPBACK = (
    "servers of tools: with `network: loopback`, other programs of the host reach what they serve"
)
_ROOTS = (
    "root's files: what only root may read in folders that are shown, such as /usr and /proc, where"
    " tools are root"
)

LEFT_OPEN: Mapping[PlanKind, tuple[str, ...]] = {
    PlanKind.FULL: (),
    PlanKind.SHARED_PROC: (
        "names of processes: command lines in /proc of what begins in the container during a call",
    ),
    PlanKind.NO_NAMESPACES: (
        "metadata of files outside: tools see which files exist, their sizes, owners and times; of"
        " files of your own they can change it (chmod, chown, utime, setxattr)",
        "names of processes: all command lines and numbers in /proc, and the host's connections"
        " (/proc/net)",
        "names of the host: its accounts (/etc/passwd), its addresses (/etc/hosts), its own name",
        "names of changing files: inotify tells which files other programs open or change, also"
        " outside",
        "devices: where a node of one lies in what the policy shows, as its mode allows",
        _ROOTS,
        "shared counts: tools can use up inotify instances, watches of epoll, buffers of pipes and"
        " terminals (kernel.pty.max) while they run",
        "processes after three kills at once: where the spawner, the supervisor and the starter of"
        " a call get SIGKILL in the same moment, its processes live on until your next sandbox"
        " starts",
        _LOOPBACK,
    ),
}


def left_open(plan: Plan) -> list[str]:
    """What a plan leaves open: without the servers that its policy does not let tools start, and
    without what is for root's tools only."""
    shut = {
        _LOOPBACK: plan.network != "loopback",
        _ROOTS: plan.identity.outside_uid != 0,
    }
    return [one for one in LEFT_OPEN[plan.kind] if not shut.get(one)]


def name_of(one: str) -> str:
    """What stands before the colon."""
    return one.partition(":")[0]
