"""The smallest change that gives a host a stronger plan, in the words of whoever started it."""

from __future__ import annotations

from collections.abc import Mapping

from sandbox_agent_sandbox.diagnosis.places import MASKED, Cause, Place
from sandbox_agent_sandbox.diagnosis.signs import Signs
from sandbox_agent_sandbox.plan import PlanKind

_FULL, _SHARED = PlanKind.FULL.value, PlanKind.SHARED_PROC.value

_RUN: Mapping[Place, str] = {
    Place.DOCKER: "docker run",
    Place.PODMAN: "podman run",
    Place.CONTAINERD: "nerdctl run",
    Place.CONTAINER: "as with docker run",
}
"""The commands that start a container, with the options of docker(1)."""

_LIMITS = ("user.max_user_namespaces", "user.max_mnt_namespaces", "user.max_pid_namespaces")
_RESTRICTED = "kernel.apparmor_restrict_unprivileged_userns"
_LIFT = f"sudo sysctl -w {_RESTRICTED}=0"
_NESTING = "security.nesting=true for the container (lxc config set NAME …); Proxmox: nesting=1"
_UNMASKED: Mapping[Place, str] = {
    Place.DOCKER: "systempaths=unconfined",
    Place.PODMAN: "unmask=ALL",
    Place.CONTAINERD: "systempaths=unconfined",
    Place.CONTAINER: "systempaths=unconfined",
}
"""The option of --security-opt that takes the masks off /proc."""


def change(place: Place, cause: Cause, signs: Signs) -> tuple[str, str]:
    """The plan that the smallest change gives, and the change."""
    if place is Place.GVISOR:
        return _SHARED, "run the container with runc (docker run --runtime runc; no runtimeClass)"
    if place is Place.WSL1:
        return _FULL, "wsl --set-version DISTRIBUTION 2"
    hint = _hint(place, cause, signs)
    if MASKED & signs.covered.keys() and cause is not Cause.MASKED_PROC:
        return _SHARED, hint
    return _FULL, hint


def _hint(place: Place, cause: Cause, signs: Signs) -> str:
    match cause:
        case Cause.LIMIT:
            none = [name for name, value in signs.settings.items() if value == "0"]
            names = [name for name in none if name.startswith("user.")] or _LIMITS
            return _on_host(place, f"sudo sysctl -w {' '.join(f'{one}=15000' for one in names)}")
        case Cause.SYSCTL:
            return _on_host(place, "sudo sysctl -w kernel.unprivileged_userns_clone=1")
        case Cause.APPARMOR if place is Place.GITHUB:
            return f"a step before it: {_LIFT}"
        case Cause.APPARMOR if place is Place.LXC:
            return _NESTING
        case Cause.APPARMOR:
            profile = "an AppArmor profile with `userns,` for this Python"
            return _on_host(place, f"{_LIFT}; or {profile}")
        case Cause.READ_ONLY_PROC:
            return "mount -o remount,rw /proc, by whoever mounted it"
        case Cause.CAPABILITY:
            user = _as_user(place) or "run as an ordinary user"
            return f"{user}; or give root {', '.join(signs.lacks)}"
        case Cause.KERNEL:
            return "a kernel with CONFIG_USER_NS, Linux 5.12 or newer"
        case Cause.OLD:
            return "Linux 5.12 or newer"
        case Cause.OTHER:
            return "look whether this process is in a chroot(1), or a security module denies"
    return _unit(cause) if place is Place.SYSTEMD else _lifted(place, cause, signs)


def _on_host(place: Place, command: str) -> str:
    """A setting of the kernel, which a container cannot change."""
    return command if place in _NO_CONTAINER else f"on the host: {command}"


_NO_CONTAINER = (Place.HOST, Place.GITHUB, Place.SYSTEMD, Place.WSL2)


def _unit(cause: Cause) -> str:
    """What a unit of systemd's must say. systemd.exec(5)"""
    if cause is Cause.FILTER:
        return "RestrictNamespaces=no in the unit, and no SystemCallFilter= without @mount"
    if cause is Cause.MASKED_PROC:
        return "ProtectKernelTunables=no, ProtectKernelLogs=no and ProcSubset=all in the unit"
    if cause is Cause.FILTERED_MOUNTS:
        return "SystemCallFilter=@mount in the unit"
    return "AppArmorProfile= or SELinuxContext= of the unit that allows mounts"


def _lifted(place: Place, cause: Cause, signs: Signs) -> str:
    """What a container engine must lift: the filter, the security module or the masks."""
    if place is Place.LXC:
        return _NESTING
    filtered = cause in (Cause.FILTER, Cause.FILTERED_MOUNTS)
    masked = cause is Cause.MASKED_PROC
    is_enforced = signs.profile.endswith("(enforce)")
    selinux = cause in (Cause.SELINUX, Cause.SELINUX_MOUNTS)
    # Whatever the filter refuses first, the profile then refuses the mounts.
    apparmor = cause is Cause.APPARMOR_MOUNTS or (filtered and is_enforced)
    powerless = cause is Cause.FILTER and signs.uid == 0 and bool(signs.lacks)
    if place is Place.KUBERNETES:
        hint = _pod(
            filtered=filtered,
            apparmor=apparmor,
            selinux=selinux,
            masked=masked,
            powerless=powerless,
        )
    elif place in _RUN:
        options = ["seccomp=unconfined"] * filtered + ["apparmor=unconfined"] * apparmor
        options += ["label=disable"] * selinux + [_UNMASKED[place]] * masked
        hint = _options(place, options, signs, powerless=powerless)
    else:
        return _ELSEWHERE[cause]
    # Ubuntu: who is confined by no profile of AppArmor's may use no user namespace.
    if apparmor and signs.settings.get(_RESTRICTED) == "1" and not signs.capable:
        hint += f"; and on the host: {_LIFT}"
    return hint


_ELSEWHERE: Mapping[Cause, str] = {
    Cause.FILTER: "lift the filter of system calls for this process",
    Cause.FILTERED_MOUNTS: "lift the filter of system calls for this process",
    Cause.APPARMOR_MOUNTS: "an AppArmor profile that allows mounts, and userns",
    Cause.SELINUX: "an SELinux policy that allows user namespaces and mounts in them",
    Cause.SELINUX_MOUNTS: "an SELinux policy that allows mounts in a user namespace",
    Cause.MASKED_PROC: "unmount what covers parts of /proc",
}


def _as_user(place: Place) -> str:
    """What makes an engine start a process as an ordinary user."""
    if place is Place.KUBERNETES:
        return "securityContext: {runAsUser: 1000}"
    return f"{_RUN[place]} --user 1000" if place in _RUN else ""


def _options(place: Place, options: list[str], signs: Signs, *, powerless: bool) -> str:
    """For what has started the container: a CI system, or somebody at a shell."""
    words = [f"--security-opt {one}" for one in options]
    if powerless:
        words.insert(0, "--user 1000")
    if place is Place.DOCKER and "github" in signs.marks:
        return f"for the job: container: {{options: {' '.join(words)}}}"
    if place is Place.DOCKER and "gitlab" in signs.marks:
        if _UNMASKED[place] in options:  # an option of docker(1), and none of Docker's API
            return "a runner with the shell executor: the docker executor cannot unmask /proc"
        listed = ", ".join(f'"{one}"' for one in options)
        return f"[runners.docker] security_opt = [{listed}] in the runner's config.toml"
    return " ".join([_RUN[place], *words])


def _pod(*, filtered: bool, apparmor: bool, selinux: bool, masked: bool, powerless: bool) -> str:
    """Fields of a pod. procMount needs a user namespace for the pod."""
    fields = ["seccompProfile: {type: Unconfined}"] * filtered
    fields += ["appArmorProfile: {type: Unconfined}"] * apparmor
    fields += ["seLinuxOptions: {type: spc_t}"] * selinux
    fields += ["procMount: Unmasked"] * masked + ["runAsUser: 1000"] * powerless
    hint = f"securityContext: {{{', '.join(fields)}}}"
    return f"hostUsers: false in the pod, and {hint}" if masked else hint
