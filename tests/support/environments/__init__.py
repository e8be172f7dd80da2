"""Hosts that refuse something that sandboxes need, each as a way to run a command.

    python tests/support/environments NAME -- COMMAND...

The command is executed in the same process, so its pid is the starter's own; only with runc it is
a child. Nothing changes for anybody else, and nothing is left behind. SANDBOX_AGENT_TEST_PLAN names
the kind of plan that is chosen there. Standard library only.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Environment:
    """refuses: what it refuses, and where that is found. root, user: the kind of plan that is
    chosen there, for who runs the command; "" where it is not for this person."""

    name: str
    refuses: str
    root: str
    user: str

    def wrap(self, argv: Sequence[str]) -> list[str]:
        """The command line that runs argv in there."""
        return [sys.executable, "-I", str(HERE), self.name, "--", *argv]

    def plan(self, *, root: bool) -> str:
        return self.root if root else self.user

    def missing(self) -> str:
        """Why this machine cannot make it for this user; "" if it can."""
        return _missing(tuple(self.wrap(["true"])))


@cache
def _missing(argv: tuple[str, ...]) -> str:
    ran = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    return "" if ran.returncode == 0 else ran.stderr.strip().rpartition("\n")[2]


ENVIRONMENTS = {
    one.name: one
    for one in (
        Environment(
            "no-user-namespaces",
            "user namespaces: user.max_user_namespaces is 0, as on hardened hosts",
            "no_namespaces",
            "no_namespaces",
        ),
        Environment(
            "docker-filter",
            "unshare, setns, mount and clone of namespaces: Docker's default seccomp profile, with"
            " Docker's default capabilities; for a user also no_new_privs, as in Kubernetes"
            " restricted",
            "no_namespaces",
            "no_namespaces",
        ),
        Environment(
            "no-id-maps",
            "the id maps of a user namespace that can be made: as AppArmor on Ubuntu 24.04 does",
            "no_namespaces",
            "no_namespaces",
        ),
        Environment(
            "masked-proc",
            "a fresh /proc: the one that is there has covers, as runc and Docker make them",
            "shared_proc",
            "shared_proc",
        ),
        Environment(
            "no-sys-admin",
            "what root needs CAP_SYS_ADMIN for: Docker's capabilities without its seccomp profile",
            "full",
            "",
        ),
        Environment(
            "no-walls",
            "namespaces, Landlock and seccomp: as an old or a small kernel does. No plan is left",
            "",
            "",
        ),
    )
}
"""By name."""

ONE_OF_EACH = ("masked-proc", "docker-filter")
"""One for each kind of plan but `full`."""


def persons(*, everywhere: bool) -> list[str]:
    """Who runs the tests of the other plans: a person of each kind, in one environment for each
    plan, or in all of them."""
    names = [name for name, one in ENVIRONMENTS.items() if one.user not in ("", "full")]
    return [
        f"{kind} in {name}"
        for name in (names if everywhere else ONE_OF_EACH)
        for kind in ("root", "user")
    ]
