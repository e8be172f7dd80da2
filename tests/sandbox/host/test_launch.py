"""What a failed step means: one cause and one hint, and never those of something else."""

from __future__ import annotations

import errno
import os

import pytest
from sandbox_agent_ipc.messages import InitFailed
from sandbox_agent_sandbox.host.spawner.explain import explain, why_failed
from sandbox_agent_sandbox.steps import Step

GENERIC = ("5.12", "CAP_SYS_ADMIN", "unshare", "max_user_namespaces")


def said(step: str, number: int, hint: str = "") -> str:
    reason = f"[Errno {number}] something: {os.strerror(number)}"
    return why_failed(step, reason, number, hint)


@pytest.mark.parametrize("step", list(Step))
@pytest.mark.parametrize(
    ("number", "what"),
    [
        (errno.EMFILE, "too many open files"),
        (errno.ENFILE, "too many open files on this machine"),
        (errno.EAGAIN, "no more processes or threads"),
        (errno.ENOMEM, "there is not enough memory"),
        (errno.ECHILD, "SIGCHLD is ignored"),
    ],
)
def test_a_shortage_is_one_at_every_step(step: Step, number: int, what: str) -> None:
    text = said(step, number)
    assert text.startswith(f"cannot {step}: {what}")
    assert text.count("hint:") == 1
    assert not [word for word in GENERIC if word in text]
    assert "doctor" not in explain(InitFailed(1, step, "", number))


@pytest.mark.parametrize(
    ("step", "number", "hint"),
    [
        (Step.NAMESPACES, errno.EPERM, "kernel.unprivileged_userns_clone"),
        (Step.NAMESPACES, errno.ENOSPC, "user.max_user_namespaces"),
        (Step.NAMESPACES, errno.EUSERS, "user.max_user_namespaces"),
        (Step.NAMESPACES, errno.EINVAL, "use a kernel with"),
        (Step.MAPS, errno.EPERM, "kernel.apparmor_restrict_unprivileged_userns"),
        (Step.COPY, errno.ENOSYS, "5.12"),
        (Step.COPY, errno.EPERM, "CAP_SYS_ADMIN"),
        (Step.VIEW, errno.EPERM, "unmask /proc"),
        (Step.VIEW, errno.ENOSPC, "sandbox.limits.tmp"),
        (Step.CALL_NAMESPACES, errno.ENOSPC, "user.max_user_namespaces"),
        (Step.CALL_PROC, errno.EPERM, "unmask /proc"),
    ],
)
def test_a_refusal_has_the_hint_of_its_step_and_errno(step: Step, number: int, hint: str) -> None:
    text = said(step, number)
    assert hint in text.partition("; hint: ")[2]
    assert text.count("hint:") == 1


def test_what_is_not_known_gets_no_hint_and_what_knows_better_keeps_its_own() -> None:
    assert said(Step.LOOPBACK, errno.ENODEV) == "cannot bring up loopback: something: " + (
        os.strerror(errno.ENODEV)
    )
    assert said(Step.COPY, errno.EINVAL, "chown it").endswith("; hint: chown it")
    assert said("a step of another version", errno.EPERM).endswith(os.strerror(errno.EPERM))
