"""The signs by which a host is told: what it refuses, and what it shows of itself."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from sandbox_agent_sandbox.errors import SandboxUnavailable
from sandbox_agent_sandbox.policy.probe import run_child

_MAPPING = {"CAP_SETGID": 6, "CAP_SETUID": 7, "CAP_SETFCAP": 31}
"""What root needs to write the id maps of a user namespace. user_namespaces(7)"""
_CAP_SYS_ADMIN = 21
_MOUNTS = 1 << 22
"""Bytes of the list of mounts that are read. A host with many containers has long ones."""

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

_GIVEN = ("/etc/hostname", "/etc/hosts", "/etc/resolv.conf")
_SOURCES = {
    "kubernetes": "/kubelet/pods/",
    "podman": "/overlay-containers/",
    "docker": "/docker/containers/",
    "containerd": "/io.containerd.",
}
"""Parts of the paths on the host from which an engine mounts these files into its containers. The
names of control groups are no use where a container has a namespace of its own for them."""

_VARIABLES = {
    "kubernetes": ("KUBERNETES_SERVICE_HOST", ""),
    "github": ("RUNNER_ENVIRONMENT", "github-hosted"),
    "gitlab": ("GITLAB_CI", "true"),
    "lxc": ("container", "lxc"),
    "podman": ("container", "podman"),
}
"""A variable that an engine or a CI system sets, and its value; "" for any."""


class Signs(msgspec.Struct, frozen=True):
    """What a host shows of itself.

    refused: the errno of each attempt that was refused (`attempts`). uid: of this process.
    capable: it has CAP_SYS_ADMIN. lacks: what root needs for id maps, and has not. filtered: a
    filter of system calls is on. profile: of AppArmor, or the label of SELinux; "" for none, or
    "unconfined". covered: what
    is mounted over parts of /proc, with the type of the file system. whole_ids: all ids are mapped,
    as they are outside of user namespaces. group: the name of the control group. release,
    version: of the kernel, as uname(2) and proc_version(5) have it. settings: of sysctl(8), those
    that are there. marks: engines and CI systems that left one of their marks.
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
    version: str = ""
    settings: dict[str, str] = {}
    marks: frozenset[str] = frozenset()


def read_signs(environment: Mapping[str, str], root: Path = Path("/")) -> Signs:
    """The signs of this host. root: the folder that holds `proc` and so on.

    Raises SandboxUnavailable where no child can make the attempts.
    """
    status = _fields(_text(root / "proc/self/status"))
    capabilities = int(status.get("CapEff", "0"), 16)
    group = _text(root / "proc/self/cgroup").strip()
    mounts = list(_mounts(_text(root / "proc/self/mountinfo", _MOUNTS)))
    version = _text(root / "proc/version").strip()
    release = _text(root / "proc/sys/kernel/osrelease").strip()
    return Signs(
        refused={name: number for name, number in _attempts().items() if number},
        uid=os.geteuid(),
        capable=bool(capabilities >> _CAP_SYS_ADMIN & 1),
        lacks=tuple(name for name, bit in _MAPPING.items() if not capabilities >> bit & 1),
        filtered=status.get("Seccomp") == "2",
        profile=_text(root / "proc/self/attr/current").strip("\0\n "),
        covered=_covered(mounts),
        whole_ids=_text(root / "proc/self/uid_map").split() in ([], ["0", "0", "4294967295"]),
        group=group,
        release=release or version.removeprefix("Linux version ").partition(" ")[0],
        version=version,
        settings={
            name.replace("/", "."): text.strip()
            for name in _SETTINGS
            if (text := _text(root / "proc/sys" / name))
        },
        marks=frozenset(_marks(environment, root, group, mounts)),
    )


def _attempts() -> dict[str, int]:
    program = (
        "import sys; sys.path[:0] = sys.argv[1].split(':'); "
        "from sandbox_agent_sandbox.diagnosis.attempts import main; main()"
    )
    try:
        return msgspec.json.decode(run_child(program, {})[0], type=dict[str, int])
    except (OSError, subprocess.SubprocessError, msgspec.DecodeError) as error:
        raise SandboxUnavailable(f"what this host refuses could not be tried: {error}") from error


def _text(path: Path, most: int = 1 << 16) -> str:
    """The beginning of a file; "" where it cannot be read."""
    try:
        with path.open(errors="replace") as file:
            return file.read(most)
    except (OSError, ValueError):
        return ""


def _fields(status: str) -> dict[str, str]:
    pairs = (line.partition(":") for line in status.splitlines())
    return {name: value.strip() for name, _, value in pairs}


class _Mount(NamedTuple):
    """root: what of its file system is mounted. at: where. kind: of the file system."""

    root: str
    at: str
    kind: str


def _mounts(text: str) -> Iterator[_Mount]:
    """proc_pid_mountinfo(5)"""
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        fields, kinds = before.split(), after.split()
        if len(fields) > 4 and kinds:
            yield _Mount(fields[3], fields[4], kinds[0])


def _covered(mounts: Iterable[_Mount]) -> dict[str, str]:
    """The mounts below /proc and the types of their file systems."""
    return {one.at: one.kind for one in mounts if one.at.startswith("/proc/")}


def _marks(
    environment: Mapping[str, str], root: Path, group: str, mounts: Iterable[_Mount]
) -> list[str]:
    found = [name for name, path in _MARKS.items() if os.path.lexists(root / path.lstrip("/"))]
    found += [name for name, word in _GROUPS.items() if re.search(rf"\b{word}", group)]
    given = [one.root for one in mounts if one.at in _GIVEN]
    found += [name for name, part in _SOURCES.items() if any(part in path for path in given)]
    for name, (variable, value) in _VARIABLES.items():
        said = environment.get(variable, "")
        if said and value in ("", said):
            found.append(name)
    return found
