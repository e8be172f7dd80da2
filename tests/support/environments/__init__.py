"""Hosts that refuse something that sandboxes need, each as a way to run a command.

    python tests/support/environments NAME -- COMMAND...

The command is executed in the same process, so its pid is the starter's own; only with runc it is
a child. Nothing changes for anybody else, and nothing is left behind. SANDBOX_AGENT_TEST_PLAN names
the kind of plan that is chosen there. Standard library only.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Environment:
    """refuses: what it refuses, and where that is found. root, user: the kind of plan that is
    chosen there, for who runs the command; "" where it is not for this person. in_container: root
    makes it, for any user, and the command is a process below that of the starter."""

    name: str
    refuses: str
    root: str
    user: str
    in_container: bool = False

    def wrap(self, argv: Sequence[str], *options: str) -> list[str]:
        """The command line that runs argv in there. options: for a container, see `runc`."""
        return [sys.executable, "-I", str(HERE), self.name, *options, "--", *argv]

    def plan(self, *, root: bool) -> str:
        return self.root if root else self.user

    def missing(self) -> str:
        """Why this machine cannot make it for this user; "" if it can."""
        if self.in_container and (os.geteuid() != 0 or not shutil.which("runc")):
            return "needs root and runc"
        return _missing(self)


@cache
def _missing(place: Environment) -> str:
    with tempfile.TemporaryDirectory() as own:
        argv = place.wrap(["true"], *(["--own", own] if place.in_container else []))
        ran = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    # A fault of the environment's own code is none of this machine's.
    assert "Traceback" not in ran.stderr, ran.stderr
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
            "no-map-capabilities",
            "to root the id maps of a user namespace that can be made: their file can be opened",
            "no_namespaces",
            "",
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
            "runc",
            "a fresh /proc, writing outside of a volume, and to root the id maps: runc's default",
            "no_namespaces",
            "shared_proc",
            in_container=True,
        ),
        Environment(
            "runc-docker",
            "namespaces: Docker's filter and capabilities, in a container of runc",
            "no_namespaces",
            "no_namespaces",
            in_container=True,
        ),
        Environment(
            "runc-restricted",
            "namespaces, every capability, new privileges and writing outside of a volume:"
            " Kubernetes' standard `restricted`",
            "no_namespaces",
            "no_namespaces",
            in_container=True,
        ),
        Environment(
            "runc-stranger",
            "a fresh /proc, a home folder and an account: OpenShift's arbitrary uid",
            "",
            "shared_proc",
            in_container=True,
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
    plan, or in all of them that need no runc."""
    names = [one.name for one in ENVIRONMENTS.values() if not one.in_container]
    return _persons(names if everywhere else ONE_OF_EACH)


def container_users() -> list[str]:
    """The same in containers of runc."""
    return _persons([one.name for one in ENVIRONMENTS.values() if one.in_container])


def _persons(names: Iterable[str]) -> list[str]:
    return [
        f"{kind} in {name}"
        for name in names
        for kind in ("root", "user")
        if ENVIRONMENTS[name].plan(root=kind == "root") not in ("", "full")
    ]
