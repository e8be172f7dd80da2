"""What a step of building a sandbox that failed means, and the hint that is right for it."""

from __future__ import annotations

import errno
import os
from contextlib import suppress

from sandbox_agent_ipc.messages import InitFailed
from sandbox_agent_ipc.shortage import SHORTAGES

from sandbox_agent_sandbox.steps import Step

_FORBIDDEN = (
    "allow user namespaces: sysctl -w kernel.unprivileged_userns_clone=1; on Ubuntu 24.04 and later"
    " kernel.apparmor_restrict_unprivileged_userns=0; in a container, a seccomp profile that allows"
    " unshare"
)
_TOO_MANY = (
    "raise the limits of namespaces, which may be 0: sysctl -w user.max_user_namespaces=15000, and"
    " the other user.max_*_namespaces"
)
_KERNEL = "use a kernel with user, mount, pid, net, ipc, uts and cgroup namespaces"
_PROC = "in a container, unmask /proc (docker: --security-opt systempaths=unconfined)"
_OLD = "use Linux 5.12 or newer"
_GROUPS = (
    "let this user write its control groups (cgroup.max.descendants, memory.max), or leave"
    " limits.memory to init: run as an ordinary user"
)
_SCARCE = (errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM, errno.EDQUOT, errno.ECHILD)

_HINTS: dict[tuple[Step, int], str] = {
    (Step.NAMESPACES, errno.EPERM): _FORBIDDEN,
    (Step.NAMESPACES, errno.EACCES): _FORBIDDEN,
    (Step.NAMESPACES, errno.ENOSPC): _TOO_MANY,
    (Step.NAMESPACES, errno.EUSERS): _TOO_MANY,
    (Step.NAMESPACES, errno.EINVAL): _KERNEL,
    (Step.NAMESPACES, errno.ENOSYS): _KERNEL,
    (Step.MAPS, errno.EPERM): _FORBIDDEN,
    (Step.MAPS, errno.EACCES): _FORBIDDEN,
    (Step.NO_NESTING, errno.EACCES): _PROC,
    (Step.NO_NESTING, errno.EPERM): _PROC,
    (Step.NO_NESTING, errno.EROFS): _PROC,
    (Step.NO_NESTING, errno.ENOENT): _PROC,
    (Step.COPY, errno.ENOSPC): _TOO_MANY,
    (Step.COPY, errno.ENOSYS): _OLD,
    (Step.COPY, errno.EPERM): (
        "root needs CAP_SYS_ADMIN over its mount namespace (in a container: --privileged); run as"
        " an ordinary user where root has not"
    ),
    (Step.COPY, errno.EACCES): "take that path out of the policy, or let this user read it",
    (Step.COPY, errno.ENOENT): "it was there a moment ago: run again",
    (
        Step.COPY,
        errno.EINVAL,
    ): "take that path out of the policy: its mount is locked",
    (Step.VIEW, errno.ENOENT): "it was there a moment ago: run again",
    (Step.VIEW, errno.EPERM): _PROC,
    (Step.VIEW, errno.ENOSYS): _OLD,
    (Step.VIEW, errno.ENOSPC): "raise sandbox.limits.tmp, or the number of mounts (fs.mount-max)",
    (Step.GROUPS, errno.EACCES): _GROUPS,
    (Step.GROUPS, errno.EPERM): _GROUPS,
    (Step.GROUPS, errno.ENOSPC): _GROUPS,
    (Step.CALL_GROUPS, errno.ENODEV): "something removed its control group: run again",
    (Step.CALL_NAMESPACES, errno.ENOSPC): _TOO_MANY,
    (Step.CALL_NAMESPACES, errno.EUSERS): _TOO_MANY,
    (Step.CALL_PROC, errno.EPERM): _PROC,
}
"""The hint for what a host refuses, by step and errno. What a host has run out of is in SHORTAGES;
ENOSPC has a meaning of its own at each step. unshare(2), mount(2), mount_setattr(2)."""


def why_failed(step: str, reason: str, number: int, hint: str = "") -> str:
    """What a failed step means, with the one hint that is right for it, where there is one.

    number: the errno, 0 for none. hint: where the step itself knows better.
    """
    if number in _SCARCE and not hint:
        return f"cannot {step}: {SHORTAGES[number]}"
    reason = reason.removeprefix(f"[Errno {number}] ") or os.strerror(number)
    with suppress(ValueError):  # a step of another version
        hint = hint or _HINTS.get((Step(step), number), "")
    if hint is _TOO_MANY:  # and not what strerror(3) says of ENOSPC and EUSERS
        reason = "too many namespaces"
    return f"cannot {step}: {reason}; hint: {hint}" if hint else f"cannot {step}: {reason}"


def explain(failed: InitFailed) -> str:
    """The message for a sandbox that could not be built."""
    why = why_failed(failed.step, failed.reason, failed.number, failed.hint)
    more = (
        "" if failed.number in _SCARCE else " (`sandbox-agent doctor` shows what this host can do)"
    )
    return f"the sandbox cannot be built: {why}{more}"
