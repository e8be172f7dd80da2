"""Where a host runs and what would make it stronger, from its signs. Those of Docker, of a limit
and of masked parts of /proc are real ones too: tests/cli/test_doctor_places.py."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
from sandbox_agent_sandbox.diagnosis import attempts
from sandbox_agent_sandbox.diagnosis.container import Cause, Place, diagnose
from sandbox_agent_sandbox.diagnosis.signs import Signs, read_signs

NAMESPACES = ("user namespace", "id map", "mount namespace", "tmpfs", "proc")
FILTER = {
    **dict.fromkeys(("no namespace", *NAMESPACES, "keyring"), errno.EPERM),
    "clone3": errno.ENOSYS,
}
"""What the default filter of Docker, containerd and Podman's older versions refuses."""
MASKS = {"/proc/kcore": "tmpfs", "/proc/keys": "tmpfs", "/proc/sys": "proc", "/proc/acpi": "tmpfs"}
LXCFS = {"/proc/meminfo": "fuse.lxcfs", "/proc/stat": "fuse.lxcfs"}
ENFORCED = "docker-default (enforce)"


def refuses(number: int, *names: str, **signs: Any) -> dict[str, Any]:
    return {"refused": dict.fromkeys(names, number), **signs}


def filtered(**signs: Any) -> dict[str, Any]:
    return {"refused": FILTER, "filtered": True, "covered": MASKS, **signs}


UBUNTU = refuses(
    errno.EPERM, *NAMESPACES[1:],
    profile="unconfined", settings={"kernel.apparmor_restrict_unprivileged_userns": "1"},
)  # fmt: skip

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
        Place.CONTAINERD, Cause.CAPABILITY, "shared_proc",
        "nerdctl run --user 1000; or give root CAP_SETUID, CAP_SETFCAP",
    ),
    "docker, seccomp lifted": (
        refuses(errno.EACCES, "tmpfs", "proc", covered=MASKS, profile=ENFORCED,
                marks=frozenset({"docker"})),
        Place.DOCKER, Cause.NO_MOUNTS, "shared_proc",
        "docker run --security-opt apparmor=unconfined",
    ),
    "docker, seccomp and AppArmor lifted": (
        refuses(errno.EPERM, "proc", covered=MASKS, marks=frozenset({"docker"})),
        Place.DOCKER, Cause.MASKED_PROC, "full",
        "docker run --security-opt systempaths=unconfined",
    ),
    "podman": (
        refuses(errno.EPERM, "proc", covered=MASKS, marks=frozenset({"podman"}), whole_ids=False),
        Place.PODMAN, Cause.MASKED_PROC, "full", "podman run --security-opt unmask=ALL",
    ),
    "containerd, no mark": (
        filtered(profile="nerdctl-default (enforce)"), Place.CONTAINERD, Cause.FILTER,
        "shared_proc",
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
        refuses(errno.EACCES, "tmpfs", "proc", covered=LXCFS, whole_ids=False,
                profile="lxc-container-default-cgns (enforce)"),
        Place.LXC, Cause.NO_MOUNTS, "full", "lxc config set NAME security.nesting true",
    ),
    "gVisor": (
        refuses(errno.EPERM, "proc", "Landlock", "seccomp", release="4.4.0"),
        Place.GVISOR, Cause.MASKED_PROC, "shared_proc",
        "run the container with runc (docker run --runtime runc; no runtimeClass)",
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
        "a step before it: sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
    ),
    "a container job of GitHub": (
        filtered(marks=frozenset({"github", "docker"})), Place.DOCKER, Cause.FILTER,
        "shared_proc", "docker run --security-opt seccomp=unconfined",
    ),
    "Ubuntu 24.04": (
        UBUNTU, Place.HOST, Cause.APPARMOR, "full",
        "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0; or an AppArmor profile with"
        " `userns,` for this Python",
    ),
    "a systemd unit": (
        refuses(errno.EPERM, *NAMESPACES, filtered=True, group="0::/system.slice/agent.service"),
        Place.SYSTEMD, Cause.FILTER, "full",
        "RestrictNamespaces=no in the unit, and no SystemCallFilter= without @mount",
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
        "proc/self/cgroup": "0::/kubepods.slice/x\n",
        "proc/self/mountinfo": (
            "40 30 0:50 / /proc rw - proc proc rw\n"
            "41 40 0:51 / /proc/kcore rw,nosuid shared:1 - tmpfs tmpfs rw\n"
            "a broken line\n"
        ),
        "proc/sys/kernel/osrelease": "6.8.0-45-generic\n",
        "proc/sys/kernel/unprivileged_userns_clone": "0\n",
        ".dockerenv": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = read_signs({"RUNNER_ENVIRONMENT": "github-hosted", "container": "other"}, tmp_path)
    assert (found.filtered, found.capable, found.whole_ids) == (True, False, False)
    assert found.profile == "docker-default (enforce)"
    assert found.lacks == ()
    assert found.covered == {"/proc/kcore": "tmpfs"}
    assert found.release == "6.8.0-45-generic"
    assert found.settings == {"kernel.unprivileged_userns_clone": "0"}
    assert found.marks == {"docker", "kubernetes", "github"}
    assert set(found.refused) <= set(attempts.ATTEMPTS)
