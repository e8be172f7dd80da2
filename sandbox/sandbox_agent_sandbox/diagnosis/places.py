"""Where this host runs, and which one thing keeps it from a stronger plan, by what it refuses.

The refusals decide (`signs`); marks that an engine leaves only tell engines apart that refuse the
same. Pure functions, so tests/sandbox/diagnosis/test_container.py has the signs of each place.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from enum import StrEnum

from sandbox_agent_sandbox.diagnosis.signs import Signs


class Place(StrEnum):
    """Where this process runs."""

    DOCKER = "Docker"
    PODMAN = "Podman"
    CONTAINERD = "containerd"
    KUBERNETES = "Kubernetes"
    CONTAINER = "a container"
    LXC = "LXC"
    GVISOR = "gVisor"
    WSL1 = "WSL 1"
    WSL2 = "WSL 2"
    GITHUB = "a GitHub-hosted runner"
    SYSTEMD = "a hardened systemd unit"
    HOST = "a host"


class Cause(StrEnum):
    """The first thing that keeps a host from a full plan."""

    NONE = "nothing"
    KERNEL = "the kernel has no user namespaces"
    OLD = "the kernel has no detached mounts (open_tree, mount_setattr: Linux 5.12)"
    FILTER = "a filter of system calls (seccomp) refuses user namespaces"
    LIMIT = "too few namespaces are allowed (user.max_user_namespaces and the like)"
    SYSCTL = "user namespaces are for root only (kernel.unprivileged_userns_clone)"
    APPARMOR = "AppArmor lets no ordinary program use a user namespace"
    SELINUX = "SELinux lets no program of this domain use a user namespace"
    READ_ONLY_PROC = "/proc is read-only, so no id map of a user namespace can be written"
    FILTERED_MOUNTS = "a filter of system calls (seccomp) refuses mounts"
    APPARMOR_MOUNTS = "AppArmor refuses mounts"
    SELINUX_MOUNTS = "SELinux refuses mounts"
    CAPABILITY = "root may write no id map of a user namespace here, for want of capabilities"
    MASKED_PROC = "parts of /proc are masked, so the kernel mounts no fresh one"
    OTHER = "the kernel refuses user namespaces"


def cause_of(signs: Signs) -> Cause:
    """The first obstacle to a full plan, in the order in which a sandbox is built."""
    refused = signs.refused
    if number := refused.get("user namespace", 0):
        return _no_user_namespace(number, signs)
    if number := refused.get("id map", 0):
        if number == errno.EROFS:
            return Cause.READ_ONLY_PROC
        return Cause.CAPABILITY if signs.uid == 0 and signs.lacks else _module(signs)
    if {*_TOO_MANY} & {refused.get(name, 0) for name in ("mount namespace", "proc")}:
        return Cause.LIMIT
    for name in ("mount namespace", "tmpfs"):
        if number := refused.get(name, 0):
            return _no_mounts(number, signs)
    if number := refused.get("detached mounts", 0):
        # A filter that is older than the system calls answers as a kernel that lacks them does.
        return _no_mounts(number, signs) if signs.filtered or number != errno.ENOSYS else Cause.OLD
    return Cause.MASKED_PROC if "proc" in refused else Cause.NONE


_TOO_MANY = (errno.ENOSPC, errno.EUSERS)


def _no_user_namespace(number: int, signs: Signs) -> Cause:
    settings = signs.settings
    if number in _TOO_MANY:
        return Cause.LIMIT
    if number in (errno.EINVAL, errno.ENOSYS):
        return Cause.KERNEL
    if "no namespace" in signs.refused:  # only a filter refuses to do nothing
        return Cause.FILTER
    if settings.get("kernel.unprivileged_userns_clone") == "0" and not signs.capable:
        return Cause.SYSCTL
    if number == errno.EACCES:  # of a security module; filters answer EPERM
        return _module(signs)
    return Cause.FILTER if signs.filtered else Cause.OTHER


def _module(signs: Signs) -> Cause:
    return Cause.SELINUX if is_selinux(signs) else Cause.APPARMOR


def _no_mounts(number: int, signs: Signs) -> Cause:
    if number != errno.EACCES and signs.filtered:
        return Cause.FILTERED_MOUNTS
    return Cause.SELINUX_MOUNTS if is_selinux(signs) else Cause.APPARMOR_MOUNTS


def is_selinux(signs: Signs) -> bool:
    """Whether the label of this process is one of SELinux: user:role:type:level. AppArmor's has a
    name, and a mode in parentheses."""
    return signs.profile.count(":") >= 3 and "(" not in signs.profile


def place_of(signs: Signs) -> Place:
    """Where this is. What is refused comes first."""
    release = signs.release.lower()
    if "microsoft" in release and release.startswith("4.4."):
        return Place.WSL1
    if "gvisor" in release or _GVISOR in signs.version:
        return Place.GVISOR
    if "fuse.lxcfs" in signs.covered.values() or signs.profile.startswith(_LXC):
        return Place.LXC
    engine = next((place for mark, place in _ENGINES.items() if mark in signs.marks), None)
    if engine is None and is_unit(signs):
        return Place.SYSTEMD
    if is_container(signs):
        return engine or Place.CONTAINER
    if engine is Place.LXC and not signs.whole_ids:
        return Place.LXC
    if "github" in signs.marks:
        return Place.GITHUB
    return Place.WSL2 if "microsoft" in release else Place.HOST


_GVISOR = "Jan 10 15:06:54 PST 2016"
"""gVisor is a kernel of its own. Its release has changed (4.4.0, then 4.19.0-gvisor), and the time
at which it claims to have been built has not."""

_LXC = ("lxc-", "lxd-", "incus-")
"""How the names of their profiles of AppArmor begin."""


def is_unit(signs: Signs) -> bool:
    """Whether a unit of systemd's confines this process: RestrictNamespaces= and SystemCallFilter=
    are filters of system calls, ProtectKernelTunables= covers parts of /proc as containers do.
    systemd.exec(5)"""
    in_unit = any(line.endswith(".service") for line in signs.group.splitlines())
    return in_unit and (signs.filtered or bool(MASKED & signs.covered.keys()))


def is_container(signs: Signs) -> bool:
    """Whether a container engine made this, with its own filter or with masks over /proc."""
    filters = "no namespace" in signs.refused and signs.refused.get("clone3") == errno.ENOSYS
    return filters or bool(MASKED & signs.covered.keys())


_ENGINES: Mapping[str, Place] = {
    "kubernetes": Place.KUBERNETES,
    "podman": Place.PODMAN,
    "docker": Place.DOCKER,
    "lxc": Place.LXC,
    "containerd": Place.CONTAINERD,
}
"""By their marks. Kubernetes first: it runs containers of the others; Docker uses containerd."""

MASKED = frozenset(
    f"/proc/{name}" for name in ("kcore", "keys", "timer_list", "sysrq-trigger", "acpi", "sys")
)
"""What runc, crun and youki cover by default: the OCI's `maskedPaths` and `readonlyPaths`."""
