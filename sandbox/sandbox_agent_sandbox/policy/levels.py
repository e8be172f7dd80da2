"""How far this host keeps each field of a policy and each layer of the walls.

A run and `doctor` read it here, from the same kind of plan, so they never disagree. A layer decides
in planning what this host allows, and the plan carries that decision; the entry here turns it into
a level. `doctor` then tries each entry in a real sandbox (`trials/`).

A field or layer without an entry fails tests/sandbox/policy/test_levels.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum

import msgspec

from sandbox_agent_sandbox.errors import SandboxUnavailable
from sandbox_agent_sandbox.plan import Plan, PlanKind, PrivateKind


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


def by_kind(namespaces: str, without: Standing | str) -> Judge:
    """A judge for what namespaces enforce, and something else where there are none. A text says by
    what it is enforced."""
    weaker = Standing(Level.ENFORCED, without) if isinstance(without, str) else without
    table = {kind: Standing(Level.ENFORCED, namespaces) for kind in PlanKind}
    table[PlanKind.NO_NAMESPACES] = weaker
    return lambda plan: table[plan.kind]


def _other_processes(plan: Plan) -> Standing:
    if plan.kind is PlanKind.FULL:
        return Standing(Level.ENFORCED, "a /proc of each call's own: they are not there")
    closed = "their memory, environment and descriptors are closed"
    if plan.kind is PlanKind.SHARED_PROC:
        return Standing(
            Level.MISSING,
            f"{closed}; what runs when a call begins is covered",
            why="no fresh /proc can be mounted: names and command lines of what begins later are"
            " shown",
            hint="unmask /proc (docker: --security-opt systempaths=unconfined; Kubernetes:"
            " procMount: Unmasked)",
        )
    return Standing(
        Level.MISSING,
        closed,
        why="there is no pid namespace: names and command lines of all processes are shown",
        hint=NAMESPACES,
    )


NAMESPACES = "use a host that allows user namespaces (`sandbox-agent doctor` says how)"
"""The hint for what only namespaces can keep."""


def _defaults(plan: Plan) -> Standing:
    if plan.guarded is None:
        return Standing(Level.ENFORCED, "it is off: what may start programs later is only listed")
    if plan.unshared is not None:
        how = _ROOT_OWNS if plan.unshared.owned else _PUT_BACK
        how += "; new settings of git that start programs are undone after each call"
        return Standing(Level.RESTORED, how, why=_NO_DENYING, hint=NAMESPACES)
    return Standing(
        Level.RESTORED,
        "read-only mounts; new settings of git that start programs are undone after each call",
        why="what is not there when the run begins cannot be mounted; it is listed after the run",
    )


_PUT_BACK = "compared after each call, and put back"
_ROOT_OWNS = "root owns it while the sandbox is there, and tools are another user"
_NO_DENYING = "Landlock cannot deny a path inside a folder that it allows"


def _hide(plan: Plan) -> Standing:
    if plan.unshared is None:
        return Standing(Level.ENFORCED, "mount view: an empty file or folder covers it")
    if plan.unshared.covered:
        return Standing(Level.ENFORCED, _ROOT_OWNS)
    shown = [path for path in plan.hidden if path in plan.unshared.shown]
    if plan.hidden and not shown:
        return Standing(Level.ENFORCED, "Landlock: nothing in it can be opened")
    return Standing(
        Level.MISSING,
        why=f"in what tools can write nothing can be hidden ({', '.join(shown)}): {_NO_DENYING}"
        if shown
        else f"in what tools can write nothing can be hidden: {_NO_DENYING}",
        hint=f"move it out of the workspace and of write, or {NAMESPACES}",
    )


def _protect(plan: Plan) -> Standing:
    if plan.unshared is None:
        return Standing(Level.ENFORCED, "mount view: a read-only mount that cannot be renamed")
    if plan.unshared.owned:
        return Standing(Level.ENFORCED, _ROOT_OWNS)
    return Standing(Level.RESTORED, _PUT_BACK, why=_NO_DENYING, hint=NAMESPACES)


def _network(plan: Plan) -> Standing:
    if plan.unshared is None:
        return Standing(Level.ENFORCED, "network namespace")
    paths = "Unix sockets with a path only in what tools can write"
    if not plan.unshared.sockets:
        paths = "no Unix sockets but pairs"
    if plan.network != "loopback":
        host = "the host's, as wanted" if plan.network == "host" else "no socket of any network"
        return Standing(Level.ENFORCED, f"seccomp: {host}; {paths}")
    if plan.unshared.broker:
        how = "seccomp and the call's supervisor: TCP to servers of the same call"
        return Standing(Level.ENFORCED, f"{how}; {paths}")
    return Standing(
        Level.MISSING,
        why="the call's supervisor cannot look at addresses: a filter of system calls can have no"
        " listener here, or descriptors cannot be taken (pidfd_getfd)",
        hint=f"write network: none, or {NAMESPACES}",
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
    if plan.unshared is not None and plan.unshared.abi:
        scopes = "" if plan.unshared.scopes else "; signals are looked at by the call's supervisor"
        return Standing(Level.ENFORCED, f"Landlock, version {plan.unshared.abi}: the view{scopes}")
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
        if plan.kind is PlanKind.NO_NAMESPACES:
            hint = NAMESPACES
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
    if plan.identity.outside_uid == 0:
        return Standing(
            Level.RESTORED,
            "best effort: looked at ten times a second; the newest processes are ended",
            "RLIMIT_NPROC does not bind root, whose processes the tools are, and no control group"
            " can be made",
            "run as an ordinary user, or as root where control groups can be made",
        )
    if plan.counts_user:
        how = (
            "RLIMIT_NPROC, which counts all processes of the tools' user, also those outside (where"
            " they take more than half of it, they are added when a sandbox begins)"
        )
        return Standing(Level.ENFORCED, how)
    return Standing(Level.ENFORCED, "RLIMIT_NPROC")


FIELDS: Mapping[str, Judge] = {
    "read": by_kind(
        "mount view: what is not named is not there",
        "Landlock: what is not named cannot be opened",
    ),
    "write": by_kind(
        "mount view: all else is read-only", "Landlock: in all else nothing can be written or made"
    ),
    "hide": _hide,
    "protect": _protect,
    "protect_defaults": _defaults,
    "network": _network,
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
    "limits.shm": by_kind(
        "size of a file system in memory",
        "System V segments are counted; files of shm_open(3) lie with those of TMPDIR",
    ),
    "limits.disk": _disk,
    "limits.output": always("the host reads no more"),
}
"""Every field of a policy that asks for something to be kept."""

CHOICES = frozenset({"plan", "allow_degraded"})
"""The fields that choose how the others are kept."""

LAYERS: Mapping[str, Judge] = {
    "namespaces": by_kind(
        "user, mount, pid, network, ipc, uts and cgroup namespaces",
        Standing(
            Level.MISSING,
            why="this host allows no user namespaces, or the policy wants none",
            hint=NAMESPACES,
        ),
    ),
    "other processes": _other_processes,
    "capabilities": always("none inside, and no_new_privs"),
    "system calls": _system_calls,
    "Landlock": _landlock,
}
"""The layers of the walls that are no field of a policy."""


EVERY_FIELD = "all"
"""Stands for every field in `allow_degraded`."""


def known_field(name: str) -> str:
    """The same name. Raises ValueError if no field of a policy has it."""
    if name != EVERY_FIELD and name not in FIELDS:
        raise ValueError(
            f"{name!r} is no field of a policy; write a name of `sandbox-agent doctor`, such as"
            f" {', '.join(list(FIELDS)[:4])}, or {EVERY_FIELD}"
        )
    return name


def facts(plan: Plan) -> tuple[Fact, ...]:
    """The level of every field, then of every layer."""
    layers = (Fact(name, True, *_found(judge, plan)) for name, judge in LAYERS.items())
    return (*_fields(plan), *layers)


def _fields(plan: Plan) -> Iterator[Fact]:
    return (Fact(name, False, *_found(judge, plan)) for name, judge in FIELDS.items())


def _found(judge: Judge, plan: Plan) -> tuple[Level, str, str, str]:
    found = judge(plan)
    return found.level, found.how, found.why, found.hint


def field_levels(plan: Plan) -> dict[str, Level]:
    """The level of every field, for the record of a run."""
    return {name: judge(plan).level for name, judge in FIELDS.items()}


ASKS: Mapping[str, Callable[[Plan], bool]] = {
    "hide": lambda plan: bool(plan.hidden),
    "protect": lambda plan: bool(plan.protected),
}
"""Whether a policy asks for a field that by default forbids nothing. It asks for all others."""


def missing(plan: Plan) -> tuple[Fact, ...]:
    """The fields that the policy asks for and this host cannot keep."""
    return tuple(
        fact
        for fact in _fields(plan)
        if fact.level is Level.MISSING and ASKS.get(fact.name, _always_asked)(plan)
    )


def _always_asked(plan: Plan) -> bool:
    return True


def refuse_missing(plan: Plan, allowed: Sequence[str] = ()) -> tuple[Fact, ...]:
    """The fields that the policy asks for, this host cannot keep, and the policy allows to be
    missing. allowed: `allow_degraded` of the policy.

    Raises SandboxUnavailable for all others, each with its reason and its hint.
    """
    found = missing(plan)
    refused = [fact for fact in found if not {fact.name, EVERY_FIELD} & {*allowed}]
    if refused:
        lines = (f"sandbox.{one.name} cannot be enforced here: {one.why}" for one in refused)
        hints = dict.fromkeys(one.hint for one in refused)
        go_on = "--allow-degraded goes on without it" + ("" if len(refused) == 1 else " all")
        raise SandboxUnavailable("\n".join(lines) + f"; hint: {'; or '.join([*hints, go_on])}")
    return found
