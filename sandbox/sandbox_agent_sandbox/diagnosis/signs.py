"""The signs by which a host is told: what it refuses, and what it shows of itself."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

import msgspec

from sandbox_agent_sandbox.errors import SandboxUnavailable
from sandbox_agent_sandbox.import_roots import import_roots
from sandbox_agent_sandbox.policy.probe import interpreter

_MAPPING = {"CAP_SETGID": 6, "CAP_SETUID": 7, "CAP_SETFCAP": 31}
"""What root needs to write the id maps of a user namespace. user_namespaces(7)"""
_CAP_SYS_ADMIN = 21
_LIMIT = 30
"""Seconds for all attempts."""

_SETTINGS = (
    "user/max_user_namespaces",
    "user/max_mnt_namespaces",
    "user/max_pid_namespaces",
    "kernel/unprivileged_userns_clone",
    "kernel/apparmor_restrict_unprivileged_userns",
)
"""Files below /proc/sys: sysctl(8)."""

_MARKS = {
    "docker": "/.dockerenv",
    "podman": "/run/.containerenv",
    "kubernetes": "/var/run/secrets/kubernetes.io",
    "lxc": "/dev/lxd/sock",
}
"""Files that an engine makes in each of its containers."""

_GROUPS = {
    "kubernetes": "kubepods",
    "podman": "libpod",
    "docker": "docker",
    "lxc": "lxc",
    "containerd": "containerd",
}
"""Words in the names of the control groups that an engine makes."""

_VARIABLES = {
    "kubernetes": ("KUBERNETES_SERVICE_HOST", ""),
    "github": ("RUNNER_ENVIRONMENT", "github-hosted"),
    "lxc": ("container", "lxc"),
    "podman": ("container", "podman"),
}
"""A variable that an engine sets, and its value; "" for any."""


class Signs(msgspec.Struct, frozen=True):
    """What a host shows of itself.

    refused: the errno of each attempt that was refused (`attempts`). uid: of this process.
    capable: it has CAP_SYS_ADMIN. lacks: what root needs for id maps, and has not. filtered: a
    filter of system calls is on. profile: of AppArmor; "" for none, or "unconfined". covered: what
    is mounted over parts of /proc, with the type of the file system. whole_ids: all ids are mapped,
    as they are outside of user namespaces. group: the name of the control group. release: of the
    kernel. settings: of sysctl(8), those that are there. marks: engines that left one of their
    marks.
    """

    refused: dict[str, int] = {}
    uid: int = 1000
    capable: bool = False
    lacks: tuple[str, ...] = ()
    filtered: bool = False
    profile: str = ""
    covered: dict[str, str] = {}
    whole_ids: bool = True
    group: str = ""
    release: str = ""
    settings: dict[str, str] = {}
    marks: frozenset[str] = frozenset()


def read_signs(environment: Mapping[str, str], root: Path = Path("/")) -> Signs:
    """The signs of this host. root: the folder that holds `proc` and so on.

    Raises SandboxUnavailable where no child can make the attempts.
    """
    status = _fields(_text(root / "proc/self/status"))
    capabilities = int(status.get("CapEff", "0"), 16)
    group = _text(root / "proc/self/cgroup").strip()
    return Signs(
        refused={name: number for name, number in _attempts().items() if number},
        uid=os.geteuid(),
        capable=bool(capabilities >> _CAP_SYS_ADMIN & 1),
        lacks=tuple(name for name, bit in _MAPPING.items() if not capabilities >> bit & 1),
        filtered=status.get("Seccomp") == "2",
        profile=_text(root / "proc/self/attr/current").strip("\0\n "),
        covered=_covered(_text(root / "proc/self/mountinfo")),
        whole_ids=_text(root / "proc/self/uid_map").split() in ([], ["0", "0", "4294967295"]),
        group=group,
        release=_text(root / "proc/sys/kernel/osrelease").strip(),
        settings={
            name.replace("/", "."): text.strip()
            for name in _SETTINGS
            if (text := _text(root / "proc/sys" / name))
        },
        marks=frozenset(_marks(environment, root, group)),
    )


def _attempts() -> dict[str, int]:
    program = (
        "import sys; sys.path[:0] = sys.argv[1].split(':'); "
        "from sandbox_agent_sandbox.diagnosis.attempts import main; main()"
    )
    try:
        ran = subprocess.run(
            [interpreter(), "-I", "-S", "-B", "-c", program, ":".join(import_roots())],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_LIMIT,
            check=False,
            env={},
        )
        return msgspec.json.decode(ran.stdout, type=dict[str, int])
    except (OSError, subprocess.SubprocessError, msgspec.DecodeError) as error:
        raise SandboxUnavailable(f"what this host refuses could not be tried: {error}") from error


def _text(path: Path) -> str:
    """The beginning of a file; "" where it cannot be read."""
    try:
        with path.open(errors="replace") as file:
            return file.read(1 << 16)
    except (OSError, ValueError):
        return ""


def _fields(status: str) -> dict[str, str]:
    pairs = (line.partition(":") for line in status.splitlines())
    return {name: value.strip() for name, _, value in pairs}


def _covered(mounts: str) -> dict[str, str]:
    """The mounts below /proc and the types of their file systems: proc_pid_mountinfo(5)."""
    found = {}
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        fields, kinds = before.split(), after.split()
        if len(fields) > 4 and kinds and fields[4].startswith("/proc/"):
            found[fields[4]] = kinds[0]
    return found


def _marks(environment: Mapping[str, str], root: Path, group: str) -> list[str]:
    found = [name for name, path in _MARKS.items() if os.path.lexists(root / path.lstrip("/"))]
    found += [name for name, word in _GROUPS.items() if re.search(rf"\b{word}", group)]
    for name, (variable, value) in _VARIABLES.items():
        said = environment.get(variable, "")
        if said and value in ("", said):
            found.append(name)
    return found
