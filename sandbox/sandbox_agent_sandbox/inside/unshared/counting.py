"""How many processes a user has, as the kernel counts them for RLIMIT_NPROC: in all containers and
sandboxes that have no user namespace of their own, also where /proc does not show them.

Found out by trying: fork(2) fails with EAGAIN if the user would have more than the soft limit.
getrlimit(2)
"""

from __future__ import annotations

import errno
import os
import resource

import msgspec

from sandbox_agent_sandbox.inside.unshared.kernel import WALL, fork_unnoticed
from sandbox_agent_sandbox.plan import Plan

_MOST = 1 << 22
"""The largest number of processes of a kernel. proc_sys_kernel(5), pid_max"""


def with_room(plan: Plan) -> Plan:
    """The plan for calls. Where the user's other processes take up more than half of what the
    policy allows, they are added to it: else tools could start few or none.

    Only where they count.
    """
    limit = plan.limits.processes
    if limit is None or not plan.counts_user:
        return plan
    user = plan.identity.outside_uid
    try:
        if _can_fork(user, limit // 2):
            return plan
        limits = msgspec.structs.replace(plan.limits, processes=limit + _count(user, limit // 2))
    except OSError:  # no process can be started at all: each call will say so
        return plan
    return msgspec.structs.replace(plan, limits=limits)


def _count(user: int, known: int) -> int:
    """The number of a user's processes and threads, at least `known`."""
    low, high = known, 2 * known + 2
    while high < _MOST and not _can_fork(user, high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _can_fork(user, middle) else (middle, high)
    return low


def _can_fork(user: int, limit: int) -> bool:
    """Whether a process of this user could start another one, if this were its limit."""
    child = fork_unnoticed()  # the spawner ignores SIGCHLD
    if child == 0:
        try:
            os._exit(_fork_once(user, limit))
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, WALL)[1]) == 0


def _fork_once(user: int, limit: int) -> int:
    if user != os.geteuid():
        os.setresuid(user, user, user)
    _, most = resource.getrlimit(resource.RLIMIT_NPROC)
    # A hard limit that is lower is the agent's own, and stays.
    if most == resource.RLIM_INFINITY or limit < most:
        resource.setrlimit(resource.RLIMIT_NPROC, (limit, most))
    try:
        child = fork_unnoticed()
    except OSError as error:
        return 1 if error.errno == errno.EAGAIN and (limit < most or most < 0) else 0
    if child == 0:
        os._exit(0)
    os.waitpid(child, WALL)
    return 0
