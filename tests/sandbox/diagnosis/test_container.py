"""Where a host runs and what would make it stronger, from its signs. Those of Docker, of a limit
and of masked parts of /proc are real ones too: tests/cli/test_doctor_places.py."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
from sandbox_agent_sandbox.diagnosis import attempts
from sandbox_agent_sandbox.diagnosis.container import diagnose
from sandbox_agent_sandbox.diagnosis.places import Cause, Place
from sandbox_agent_sandbox.diagnosis.signs import Signs, read_signs

MOUNTS = ("tmpfs", "detached mounts", "proc")
NAMESPACES = ("user namespace", "id map", "mount namespace", *MOUNTS)
FILTER = {
    **dict.fromkeys(("no namespace", *NAMESPACES, "keyring"), errno.EPERM),
    "clone3": errno.ENOSYS,
}
"""What the default filter of Docker, containerd and Podman's older versions refuses."""
MASKS = {"/proc/kcore": "tmpfs", "/proc/keys": "tmpfs", "/proc/sys": "proc", "/proc/acpi": "tmpfs"}
LXCFS = {"/proc/meminfo": "fuse.lxcfs", "/proc/stat": "fuse.lxcfs"}
ENFORCED = "docker-default (enforce)"
UNIT = "0::/system.slice/agent.service"
RESTRICTED = {"kernel.apparmor_restrict_unprivileged_userns": "1"}
LIFT = "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"


def refuses(number: int, *names: str, **signs: Any) -> dict[str, Any]:
    return {"refused": dict.fromkeys(names, number), **signs}


def filtered(**signs: Any) -> dict[str, Any]:
    return {"refused": FILTER, "filtered": True, "covered": MASKS, **signs}


UBUNTU = refuses(errno.EPERM, *NAMESPACES[1:], profile="unconfined", settings=RESTRICTED)

NESTING = "security.nesting=true for the container (lxc config set NAME …); Proxmox: nesting=1"
RUNC = "run the container with runc (docker run --runtime runc; no runtimeClass)"

CASES: dict[str, tuple[dict[str, Any], Place, Cause, str, str]] = {
    "a host that can do all": ({}, Place.HOST, Cause.NONE, "", ""),
    "docker, as a user": (
        filtered(marks=frozenset({"docker"})), Place.DOCKER, Cause.FILTER, "shared_proc",
        "docker run --security-opt seccomp=unconfined",
    ),
    "docker with AppArmor, as root": (
        filtered(marks=frozenset({"docker"}), profile=ENFORCED, uid=0), Place.DOCKER, Cause.FILTER,
        "shared_proc",
        "docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined",
    ),
    "docker without capabilities, as root": (
        filtered(marks=frozenset({"docker"}), uid=0, lacks=("CAP_SETFCAP",)), Place.DOCKER,
        Cause.FILTER, "shared_proc", "docker run --user 1000 --security-opt seccomp=unconfined",
    ),
    "runc's own capabilities, as root": (
        refuses(errno.EPERM, *NAMESPACES[1:], uid=0, lacks=("CAP_SETUID", "CAP_SETFCAP"),
                covered=MASKS),
        Place.CONTAINER, Cause.CAPABILITY, "shared_proc",
        "as with docker run --user 1000; or give root CAP_SETUID, CAP_SETFCAP",
    ),
    "docker, seccomp lifted": (
        refuses(errno.EACCES, *MOUNTS, covered=MASKS, profile=ENFORCED,
                marks=frozenset({"docker"})),
        Place.DOCKER, Cause.APPARMOR_MOUNTS, "shared_proc",
        "docker run --security-opt apparmor=unconfined",
    ),
    "docker on Ubuntu 24.04": (
        filtered(marks=frozenset({"docker"}), profile=ENFORCED, uid=0, settings=RESTRICTED),
        Place.DOCKER, Cause.FILTER, "shared_proc",
        "docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined; and on"
        f" the host: {LIFT}",
    ),
    "docker on Ubuntu 24.04, seccomp and AppArmor lifted": (
        {**UBUNTU, "marks": frozenset({"docker"}), "covered": MASKS}, Place.DOCKER, Cause.APPARMOR,
        "shared_proc",
        f"on the host: {LIFT}; or an AppArmor profile with `userns,` for this Python",
    ),
    "docker on WSL 2": (
        filtered(marks=frozenset({"docker"}), release="5.15.167.4-microsoft-standard-WSL2"),
        Place.DOCKER, Cause.FILTER, "shared_proc", "docker run --security-opt seccomp=unconfined",
    ),
    "a job of GitLab's docker executor": (
        filtered(marks=frozenset({"docker", "gitlab"}), profile=ENFORCED), Place.DOCKER,
        Cause.FILTER, "shared_proc",
        '[runners.docker] security_opt = ["seccomp=unconfined", "apparmor=unconfined"] in the'
        " runner's config.toml",
    ),
    "docker, seccomp and AppArmor lifted": (
        refuses(errno.EPERM, "proc", covered=MASKS, marks=frozenset({"docker"})),
        Place.DOCKER, Cause.MASKED_PROC, "full",
        "docker run --security-opt systempaths=unconfined",
    ),
    "a job of GitLab's docker executor without a filter": (
        refuses(errno.EPERM, "proc", covered=MASKS, marks=frozenset({"docker", "gitlab"})),
        Place.DOCKER, Cause.MASKED_PROC, "full",
        "a runner with the shell executor: the docker executor cannot unmask /proc",
    ),
    "podman": (
        refuses(errno.EPERM, "proc", covered=MASKS, marks=frozenset({"podman"}), whole_ids=False),
        Place.PODMAN, Cause.MASKED_PROC, "full", "podman run --security-opt unmask=ALL",
    ),
    "podman with SELinux": (
        refuses(errno.EACCES, *MOUNTS, covered=MASKS, marks=frozenset({"podman"}), filtered=True,
                profile="system_u:system_r:container_t:s0:c142,c352"),
        Place.PODMAN, Cause.SELINUX_MOUNTS, "shared_proc",
        "podman run --security-opt label=disable",
    ),
    "podman with a filter older than mount_setattr": (
        refuses(errno.ENOSYS, "detached mounts", covered=MASKS, marks=frozenset({"podman"}),
                filtered=True),
        Place.PODMAN, Cause.FILTERED_MOUNTS, "shared_proc",
        "podman run --security-opt seccomp=unconfined",
    ),
    "an engine without a mark": (
        filtered(), Place.CONTAINER, Cause.FILTER, "shared_proc",
        "as with docker run --security-opt seccomp=unconfined",
    ),
    "containerd": (
        filtered(profile="nerdctl-default (enforce)", marks=frozenset({"containerd"})),
        Place.CONTAINERD, Cause.FILTER, "shared_proc",
        "nerdctl run --security-opt seccomp=unconfined --security-opt apparmor=unconfined",
    ),
    "kubernetes, restricted": (
        filtered(marks=frozenset({"kubernetes", "containerd"})), Place.KUBERNETES, Cause.FILTER,
        "shared_proc", "securityContext: {seccompProfile: {type: Unconfined}}",
    ),
    "kubernetes without a filter": (
        refuses(errno.EPERM, "proc", covered=MASKS, marks=frozenset({"kubernetes", "docker"})),
        Place.KUBERNETES, Cause.MASKED_PROC, "full",
        "hostUsers: false in the pod, and securityContext: {procMount: Unmasked}",
    ),
    "LXC": (
        refuses(errno.EACCES, *MOUNTS, covered=LXCFS, whole_ids=False,
                profile="lxc-container-default-cgns (enforce)"),
        Place.LXC, Cause.APPARMOR_MOUNTS, "full", NESTING,
    ),
    "LXC on Ubuntu 24.04": (
        refuses(errno.EACCES, *NAMESPACES, profile="lxd-c1_</var/snap/lxd> (enforce)"),
        Place.LXC, Cause.APPARMOR, "full", NESTING,
    ),
    "gVisor": (
        refuses(errno.ENOSYS, "detached mounts", "seccomp", release="4.19.0-gvisor"),
        Place.GVISOR, Cause.OLD, "shared_proc", RUNC,
    ),
    "gVisor, an older version": (
        refuses(errno.ENOSYS, "detached mounts", "Landlock", "seccomp", release="4.4.0",
                version="Linux version 4.4.0 #1 SMP Sun Jan 10 15:06:54 PST 2016"),
        Place.GVISOR, Cause.OLD, "shared_proc", RUNC,
    ),
    "an older kernel": (
        refuses(errno.ENOSYS, "detached mounts", release="4.18.0-553.el8.x86_64"),
        Place.HOST, Cause.OLD, "full", "Linux 5.12 or newer",
    ),
    "SELinux, a confined user": (
        refuses(errno.EACCES, *NAMESPACES, profile="user_u:user_r:user_t:s0"), Place.HOST,
        Cause.SELINUX, "full", "an SELinux policy that allows user namespaces and mounts in them",
    ),
    "WSL 1": (
        refuses(errno.EINVAL, *NAMESPACES, "Landlock", "seccomp", release="4.4.0-19041-Microsoft"),
        Place.WSL1, Cause.KERNEL, "full", "wsl --set-version DISTRIBUTION 2",
    ),
    "WSL 2": (
        {"release": "5.15.167.4-microsoft-standard-WSL2"}, Place.WSL2, Cause.NONE, "", "",
    ),
    "a GitHub-hosted runner": (
        {**UBUNTU, "marks": frozenset({"github"})}, Place.GITHUB, Cause.APPARMOR, "full",
        f"a step before it: {LIFT}",
    ),
    "a container job of GitHub": (
        filtered(marks=frozenset({"github", "docker"})), Place.DOCKER, Cause.FILTER, "shared_proc",
        "for the job: container: {options: --security-opt seccomp=unconfined}",
    ),
    "Ubuntu 24.04": (
        UBUNTU, Place.HOST, Cause.APPARMOR, "full",
        f"{LIFT}; or an AppArmor profile with `userns,` for this Python",
    ),
    "a systemd unit": (
        {"refused": {**dict.fromkeys(NAMESPACES, errno.EPERM), "clone3": errno.ENOSYS},
         "filtered": True, "group": UNIT},
        Place.SYSTEMD, Cause.FILTER, "full",
        "RestrictNamespaces=no in the unit, and no SystemCallFilter= without @mount",
    ),
    "a systemd unit with @system-service": (
        refuses(errno.EPERM, "mount namespace", *MOUNTS, filtered=True, group=UNIT),
        Place.SYSTEMD, Cause.FILTERED_MOUNTS, "full", "SystemCallFilter=@mount in the unit",
    ),
    "a systemd unit with ProtectKernelTunables": (
        refuses(errno.EPERM, "proc", covered={"/proc/sys": "proc", "/proc/kcore": "tmpfs"},
                group=UNIT),
        Place.SYSTEMD, Cause.MASKED_PROC, "full",
        "ProtectKernelTunables=no, ProtectKernelLogs=no and ProcSubset=all in the unit",
    ),
    "another program's filter": (
        refuses(errno.EPERM, *NAMESPACES, filtered=True, group="0::/user.slice/app.scope"),
        Place.HOST, Cause.FILTER, "full", "lift the filter of system calls for this process",
    ),
    "user namespaces limited to 0": (
        refuses(errno.ENOSPC, *NAMESPACES, settings={"user.max_user_namespaces": "0"}),
        Place.HOST, Cause.LIMIT, "full", "sudo sysctl -w user.max_user_namespaces=15000",
    ),
    "Debian's switch": (
        refuses(errno.EPERM, *NAMESPACES, settings={"kernel.unprivileged_userns_clone": "0"}),
        Place.HOST, Cause.SYSCTL, "full", "sudo sysctl -w kernel.unprivileged_userns_clone=1",
    ),
    "a read-only /proc": (
        refuses(errno.EROFS, *NAMESPACES[1:]), Place.HOST, Cause.READ_ONLY_PROC, "full",
        "mount -o remount,rw /proc, by whoever mounted it",
    ),
    "root without any capability": (
        refuses(errno.EPERM, *NAMESPACES[1:], uid=0, lacks=("CAP_SETGID",)),
        Place.HOST, Cause.CAPABILITY, "full",
        "run as an ordinary user; or give root CAP_SETGID",
    ),
    "a marked container that refuses nothing": (
        {"marks": frozenset({"docker"})}, Place.HOST, Cause.NONE, "", "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_place_is_told_by_what_it_refuses(name: str) -> None:
    signs, place, cause, stronger, hint = CASES[name]
    found = diagnose(Signs(**signs))
    assert (found.place, found.stronger) == (place, stronger)
    assert found.cause == (cause if cause is not Cause.NONE else "")
    assert found.hint == hint


def test_every_place_and_cause_has_a_case() -> None:
    assert {place for _, place, *_ in CASES.values()} == {*Place}
    assert {cause for _, _, cause, *_ in CASES.values()} == {*Cause} - {Cause.OTHER}
    assert diagnose(Signs(refused=dict.fromkeys(NAMESPACES, errno.EPERM))).cause == Cause.OTHER


def test_the_signs_of_a_host_are_read_from_its_files(tmp_path: Path) -> None:
    files = {
        "proc/self/status": "Name:\tpython\nCapEff:\t00000000a80425fb\nSeccomp:\t2\n",
        "proc/self/attr/current": "docker-default (enforce)\n",
        "proc/self/uid_map": "         0       1000          1\n",
        "proc/self/cgroup": "0::/\n",
        "proc/self/mountinfo": (
            "40 30 0:50 / /proc rw - proc proc rw\n"
            "41 40 0:51 / /proc/kcore rw,nosuid shared:1 - tmpfs tmpfs rw\n"
            "42 30 8:1 /var/lib/kubelet/pods/x/etc-hosts /etc/hosts rw - ext4 /dev/sda1 rw\n"
            "43 30 8:1 /io.containerd.grpc.v1.cri/s/hostname /etc/hostname rw - ext4 /dev/sda1 rw\n"
            "44 30 8:1 /var/lib/docker/containers/x/mounts/shm /mnt rw - ext4 /dev/sda1 rw\n"
            "a broken line\n"
        ),
        "proc/sys/kernel/osrelease": "6.8.0-45-generic\n",
        "proc/version": "Linux version 6.8.0-45-generic (builder) #45 SMP\n",
        "proc/sys/kernel/unprivileged_userns_clone": "0\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    said = {"RUNNER_ENVIRONMENT": "github-hosted", "container": "other", "GITLAB_CI": "true"}
    found = read_signs(said, tmp_path)
    assert (found.filtered, found.capable, found.whole_ids) == (True, False, False)
    assert found.profile == "docker-default (enforce)"
    assert found.lacks == ()
    assert found.covered == {"/proc/kcore": "tmpfs"}
    assert found.release == "6.8.0-45-generic"
    assert found.settings == {"kernel.unprivileged_userns_clone": "0"}
    assert found.version == "Linux version 6.8.0-45-generic (builder) #45 SMP"
    assert found.marks == {"containerd", "kubernetes", "github", "gitlab"}
    assert set(found.refused) <= set(attempts.ATTEMPTS)
