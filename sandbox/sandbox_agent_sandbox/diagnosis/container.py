"""Where this host runs, which one thing keeps it from a stronger plan, and the smallest change.

The refusals decide (`signs`); marks that an engine leaves only tell engines apart that refuse the
same. A pure function, so tests/sandbox/diagnosis/test_container.py has the signs of each place.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from enum import StrEnum

import msgspec

from sandbox_agent_sandbox.diagnosis.signs import Signs
from sandbox_agent_sandbox.plan import PlanKind


class Place(StrEnum):
    """Where this process runs."""

    DOCKER = "Docker"
    PODMAN = "Podman"
    CONTAINERD = "containerd"
    KUBERNETES = "Kubernetes"
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
    FILTER = "a filter of system calls (seccomp) refuses user namespaces"
    LIMIT = "too few namespaces are allowed (user.max_user_namespaces and the like)"
    SYSCTL = "user namespaces are for root only (kernel.unprivileged_userns_clone)"
    APPARMOR = "AppArmor lets no ordinary program use a user namespace"
    READ_ONLY_PROC = "/proc is read-only, so no id map of a user namespace can be written"
    NO_MOUNTS = "AppArmor or a filter of system calls refuses mounts"
    CAPABILITY = "root may write no id map of a user namespace here, for want of capabilities"
    MASKED_PROC = "parts of /proc are masked, so the kernel mounts no fresh one"
    OTHER = "the kernel refuses user namespaces"


class Diagnosed(msgspec.Struct, frozen=True):
    """place: where this process runs. cause: the one thing that a stronger plan fails for; "" if
    there is none. stronger: the plan that the change of `hint` would give; "" for none. hint: the
    smallest change."""

    place: str
    cause: str = ""
    stronger: str = ""
    hint: str = ""


def diagnose(signs: Signs) -> Diagnosed:
    """Where this is, and what would make it stronger."""
    place, cause = place_of(signs), cause_of(signs)
    if cause is Cause.NONE:
        return Diagnosed(place)
    stronger, hint = _change(place, cause, signs)
    return Diagnosed(place, cause, stronger, hint)


def cause_of(signs: Signs) -> Cause:
    """The first obstacle to a full plan, in the order in which a sandbox is built."""
    refused = signs.refused
    if number := refused.get("user namespace", 0):
        return _no_user_namespace(number, signs)
    if number := refused.get("id map", 0):
        if number == errno.EROFS:
            return Cause.READ_ONLY_PROC
        return Cause.CAPABILITY if signs.uid == 0 and signs.lacks else Cause.APPARMOR
    if {*_TOO_MANY} & {refused.get(name, 0) for name in ("mount namespace", "proc")}:
        return Cause.LIMIT
    if "mount namespace" in refused or "tmpfs" in refused:
        return Cause.NO_MOUNTS
    if "proc" in refused:
        return Cause.MASKED_PROC
    return Cause.NONE


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
    if signs.filtered:
        return Cause.FILTER
    if number == errno.EACCES:
        return Cause.APPARMOR
    return Cause.OTHER


def place_of(signs: Signs) -> Place:
    """Where this is. What is refused comes first."""
    release = signs.release.lower()
    if "microsoft" in release:
        return Place.WSL1 if release.startswith("4.4.") else Place.WSL2
    # gVisor is a kernel of its own: it has no Landlock, and its version has never changed.
    if "Landlock" in signs.refused and signs.release == "4.4.0":
        return Place.GVISOR
    if "fuse.lxcfs" in signs.covered.values() or signs.profile.startswith("lxc-"):
        return Place.LXC
    if is_container(signs):
        for mark, place in _ENGINES.items():
            if mark in signs.marks:
                return place
        return Place.CONTAINERD
    if "lxc" in signs.marks and not signs.whole_ids:
        return Place.LXC
    if "github" in signs.marks:
        return Place.GITHUB
    if signs.filtered and "user namespace" in signs.refused:
        return Place.SYSTEMD
    return Place.HOST


def is_container(signs: Signs) -> bool:
    """Whether a container engine made this, with its own filter or with masks over /proc."""
    filters = "no namespace" in signs.refused and signs.refused.get("clone3") == errno.ENOSYS
    return filters or bool(_MASKED & signs.covered.keys())


_ENGINES = {
    "kubernetes": Place.KUBERNETES,
    "podman": Place.PODMAN,
    "docker": Place.DOCKER,
    "lxc": Place.LXC,
}
"""By their marks. Kubernetes first: it runs containers of the others."""

_MASKED = frozenset(
    f"/proc/{name}" for name in ("kcore", "keys", "timer_list", "sysrq-trigger", "acpi", "sys")
)
"""What runc, crun and youki cover by default: the OCI's `maskedPaths` and `readonlyPaths`."""

_DEEP = PlanKind.FULL.value
_SHARED = PlanKind.SHARED_PROC.value

_UNCONFINED: Mapping[Place, str] = {
    Place.DOCKER: "docker run{user} --security-opt seccomp=unconfined{apparmor}",
    Place.PODMAN: "podman run{user} --security-opt seccomp=unconfined",
    Place.CONTAINERD: "nerdctl run{user} --security-opt seccomp=unconfined{apparmor}",
    Place.KUBERNETES: (
        "securityContext: {{seccompProfile: {{type: Unconfined}}{pod_apparmor}{pod_user}}}"
    ),
    Place.SYSTEMD: "RestrictNamespaces=no in the unit, and no SystemCallFilter= without @mount",
    Place.LXC: "lxc config set NAME security.nesting true",
}
"""What lifts a filter of system calls."""

_MOUNTS: Mapping[Place, str] = {
    Place.DOCKER: "docker run --security-opt apparmor=unconfined",
    Place.PODMAN: "podman run --security-opt apparmor=unconfined",
    Place.CONTAINERD: "nerdctl run --security-opt apparmor=unconfined",
    Place.KUBERNETES: "securityContext: {appArmorProfile: {type: Unconfined}}",
    Place.LXC: "lxc config set NAME security.nesting true",
    Place.SYSTEMD: "SystemCallFilter=@mount in the unit",
}
"""What lets a namespace of one's own mount."""

_UNMASKED: Mapping[Place, str] = {
    Place.DOCKER: "docker run --security-opt systempaths=unconfined",
    Place.PODMAN: "podman run --security-opt unmask=ALL",
    Place.CONTAINERD: "nerdctl run --security-opt systempaths=unconfined",
    Place.KUBERNETES: "hostUsers: false in the pod, and securityContext: {procMount: Unmasked}",
    Place.LXC: "lxc config set NAME security.nesting true",
    Place.SYSTEMD: "ProtectKernelTunables=no, ProtectProc=default and ProcSubset=all in the unit",
}
"""What takes the masks off /proc."""

_USERS: Mapping[Place, str] = {
    Place.DOCKER: "docker run --user 1000",
    Place.PODMAN: "podman run --user 1000",
    Place.CONTAINERD: "nerdctl run --user 1000",
    Place.KUBERNETES: "securityContext: {runAsUser: 1000}",
}
"""What makes an engine start a process as an ordinary user."""
_LIMITS = ("user.max_user_namespaces", "user.max_mnt_namespaces", "user.max_pid_namespaces")
_SUDO = "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"


def _change(place: Place, cause: Cause, signs: Signs) -> tuple[str, str]:
    """The plan that the smallest change gives, and the change."""
    if place is Place.GVISOR:
        return _SHARED, "run the container with runc (docker run --runtime runc; no runtimeClass)"
    if place is Place.WSL1:
        return _DEEP, "wsl --set-version DISTRIBUTION 2"
    after = _SHARED if _MASKED & signs.covered.keys() else _DEEP
    match cause:
        case Cause.FILTER:
            confined = signs.profile.endswith("(enforce)")
            hint = _UNCONFINED.get(place, "lift the filter of system calls for this process")
            powerless = signs.uid == 0 and bool(signs.lacks)
            return after, hint.format(
                apparmor=" --security-opt apparmor=unconfined" if confined else "",
                pod_apparmor=", appArmorProfile: {type: Unconfined}" if confined else "",
                user=" --user 1000" if powerless else "",
                pod_user=", runAsUser: 1000" if powerless else "",
            )
        case Cause.NO_MOUNTS:
            return after, _MOUNTS.get(place, "an AppArmor profile that allows mounts, and userns")
        case Cause.MASKED_PROC:
            return _DEEP, _UNMASKED.get(place, "unmount what covers parts of /proc")
        case Cause.APPARMOR if place is Place.GITHUB:
            return _DEEP, f"a step before it: {_SUDO}"
        case Cause.APPARMOR:
            return after, f"{_SUDO}; or an AppArmor profile with `userns,` for this Python"
        case Cause.READ_ONLY_PROC:
            return after, "mount -o remount,rw /proc, by whoever mounted it"
        case Cause.LIMIT:
            none = [name for name, value in signs.settings.items() if value == "0"]
            names = [name for name in none if name.startswith("user.")]
            return after, f"sudo sysctl -w {' '.join(f'{one}=15000' for one in names or _LIMITS)}"
        case Cause.SYSCTL:
            return after, "sudo sysctl -w kernel.unprivileged_userns_clone=1"
        case Cause.CAPABILITY:
            user = _USERS.get(place, "run as an ordinary user")
            return after, f"{user}; or give root {', '.join(signs.lacks)}"
        case Cause.KERNEL:
            return _DEEP, "a kernel with CONFIG_USER_NS, Linux 5.12 or newer"
        case _:
            return after, "look whether this process is in a chroot(1), or a security module denies"
