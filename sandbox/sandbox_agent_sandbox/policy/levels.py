"""How far this host keeps each field of a policy and each layer of the walls.

A run and `doctor` read it here, from the same kind of plan, so they never disagree. A layer decides
in planning what this host allows, and the plan carries that decision; the entry here turns it into
a level. `doctor` then tries each entry in a real sandbox (`trials/`).

A field or layer without an entry fails tests/sandbox/policy/test_levels.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum

import msgspec

from sandbox_agent_sandbox.errors import SandboxUnavailable
from sandbox_agent_sandbox.plan import Plan, PrivateKind


class Level(StrEnum):
    """How far something is kept.

    enforced: what it forbids does not happen. restored: it can happen; it is noticed, undone or
    stopped, and reported. missing: this host cannot keep it.
    """

    ENFORCED = "enforced"
    RESTORED = "restored"
    MISSING = "missing"


class Standing(msgspec.Struct, frozen=True):
    """A level and its reasons.

    how: by what it is kept. why: why the level is not `enforced`. hint: what to change on this host
    or in the policy. Each is empty where there is nothing to say.
    """

    level: Level
    how: str = ""
    why: str = ""
    hint: str = ""


class Fact(msgspec.Struct, frozen=True):
    """The level of one field or layer, with its reasons.

    name: of a field, dotted as in `limits.memory`, or of a layer. layer: False for a field. level,
    how, why, hint: as in `Standing`.
    """

    name: str
    layer: bool
    level: Level
    how: str = ""
    why: str = ""
    hint: str = ""


Judge = Callable[[Plan], Standing]
"""Reads a plan and says how far it keeps one field or layer."""


def always(how: str) -> Judge:
    """A judge for what every sandbox enforces: without it, the sandbox cannot be built."""
    standing = Standing(Level.ENFORCED, how)
    return lambda plan: standing


def _defaults(plan: Plan) -> Standing:
    if plan.guarded is None:
        return Standing(Level.ENFORCED, "it is off: what may start programs later is only listed")
    return Standing(
        Level.RESTORED,
        "read-only mounts; new settings of git that start programs are undone after each call",
        why="what is not there when the run begins cannot be mounted; it is listed after the run",
    )


def _system_calls(plan: Plan) -> Standing:
    if plan.system_calls:
        return Standing(Level.ENFORCED, "seccomp: a list of refused system calls")
    return Standing(
        Level.MISSING,
        why="there is no filter for this machine",
        hint="use x86-64 or AArch64, with a 64-bit Python",
    )


def _landlock(plan: Plan) -> Standing:
    # Imported here: ctypes takes 5 ms, and only `doctor` asks.
    from sandbox_agent_sandbox.inside.walls.landlock import FIRST_SCOPES, OLDEST, landlock_abi

    abi = landlock_abi()
    if plan.landlock.files and abi >= OLDEST:
        scopes = "" if abi >= FIRST_SCOPES else "; no scopes for signals and abstract sockets"
        return Standing(Level.ENFORCED, f"Landlock, version {abi}: the view once more{scopes}")
    return Standing(
        Level.MISSING,
        why=f"the kernel has version {abi} of Landlock" if abi else "the kernel has no Landlock",
        hint="use Linux 5.19 or newer, with landlock in its list of security modules (lsm=)",
    )


_WATCHED = "best effort: the host looks five times a second, and stops the calls"


def _tmp(plan: Plan) -> Standing:
    private = plan.private
    if private.size is None:
        return Standing(Level.ENFORCED, "a folder on the disk; no limit is wanted")
    if private.kind is PrivateKind.FOLDER:
        hint = "run as root, where there are loop devices and mkfs.ext4"
        return Standing(Level.RESTORED, _WATCHED, private.why, hint)
    where = "in memory" if private.kind is PrivateKind.MEMORY else "on the disk"
    return Standing(Level.ENFORCED, f"size of a file system {where}")


def _disk(plan: Plan) -> Standing:
    if plan.disk is None:
        return Standing(Level.ENFORCED, "no limit is wanted")
    hint = "put the workspace on a disk of its own"
    return Standing(Level.RESTORED, _WATCHED, "the folders are the host's", hint)


def _counted(what: str) -> Judge:
    """A judge for what a control group bounds, and init looks at where there is none."""

    def judge(plan: Plan) -> Standing:
        if plan.groups is not None:
            return Standing(
                Level.ENFORCED, f"control group (cgroup v{plan.groups.version}), {what}"
            )
        return Standing(
            Level.RESTORED,
            f"best effort: looked at ten times a second, {what}; the largest process is ended",
            "this user can make no control group for memory",
            "run as root, or as a systemd user service with Delegate=yes",
        )

    return judge


def _processes(plan: Plan) -> Standing:
    if plan.groups is not None and plan.groups.processes:
        return Standing(Level.ENFORCED, "control group (pids), and RLIMIT_NPROC")
    return Standing(Level.ENFORCED, "RLIMIT_NPROC")


FIELDS: Mapping[str, Judge] = {
    "read": always("mount view: what is not named is not there"),
    "write": always("mount view: all else is read-only"),
    "hide": always("mount view: an empty file or folder covers it"),
    "protect": always("mount view: a read-only mount that cannot be renamed"),
    "protect_defaults": _defaults,
    "network": always("network namespace"),
    "env.pass": always("the environment is replaced"),
    "env.set": always("the environment is replaced"),
    "limits.timeout": always("the ladder: flag, SIGTERM, SIGKILL"),
    "limits.memory": _counted("of all calls"),
    "limits.call_memory": _counted("of one call"),
    "limits.process_memory": always("RLIMIT_DATA, per process"),
    "limits.processes": _processes,
    "limits.cpu_time": always("RLIMIT_CPU, per process"),
    "limits.open_files": always("RLIMIT_NOFILE, per process"),
    "limits.file_size": always("RLIMIT_FSIZE, per file"),
    "limits.tmp": _tmp,
    "limits.shm": always("size of a file system in memory"),
    "limits.disk": _disk,
    "limits.output": always("the host reads no more"),
}
"""Every field of a policy."""

LAYERS: Mapping[str, Judge] = {
    "namespaces": always("user, mount, pid, network, ipc, uts and cgroup namespaces"),
    "capabilities": always("none inside, and no_new_privs"),
    "system calls": _system_calls,
    "Landlock": _landlock,
}
"""The layers of the walls that are no field of a policy."""


def facts(plan: Plan) -> tuple[Fact, ...]:
    """The level of every field, then of every layer."""
    return tuple(
        Fact(name, layer, *msgspec.structs.astuple(judge(plan)))
        for layer, table in ((False, FIELDS), (True, LAYERS))
        for name, judge in table.items()
    )


def field_levels(plan: Plan) -> dict[str, Level]:
    """The level of every field, for the record of a run."""
    return {name: judge(plan).level for name, judge in FIELDS.items()}


def refuse_missing(plan: Plan) -> None:
    """Raise SandboxUnavailable for the first field that this host cannot keep."""
    for name, judge in FIELDS.items():
        found = judge(plan)
        if found.level is Level.MISSING:
            raise SandboxUnavailable(
                f"sandbox.{name} cannot be enforced here: {found.why}; hint: {found.hint}"
            )
