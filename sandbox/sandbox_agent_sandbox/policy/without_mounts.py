"""A plan for a host without namespaces: the same policy, kept by Landlock, seccomp and ownership.

What the policy does not name cannot be read or written (EACCES), and is still there: there is no
view of mounts. What cannot be said to Landlock is in `Plan.unshared`, where the levels read it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

import msgspec

from sandbox_agent_sandbox.errors import SandboxUnavailable
from sandbox_agent_sandbox.plan import File, Landlock, Plan, Private, PrivateKind, Unshared
from sandbox_agent_sandbox.policy.identity import can_reach
from sandbox_agent_sandbox.policy.private import usable_base
from sandbox_agent_sandbox.policy.probe import HostFacts, host_can
from sandbox_agent_sandbox.policy.rules.carved import carve
from sandbox_agent_sandbox.policy.rules.foreign import compile_unshared, looked_at
from sandbox_agent_sandbox.policy.view import HOME, View

_LONGEST = 48
"""Characters of the folder in which TMPDIR lies. The path of a Unix socket in it may have 107, and
programs make such paths long. unix(7)"""

_TEMPORARY = {"TMUX_TMPDIR": "/tmp", "JDK_JAVA_OPTIONS": "-Djava.io.tmpdir=/tmp"}
"""For programs that look for no TMPDIR. A worker puts its own folder in the place of /tmp."""

_NO_CACHES = {"PYTHONDONTWRITEBYTECODE": "1"}
"""Where what is protected can be written, Python would put `__pycache__` in it: a change, which is
undone, and with which no `verify` command passes. A read-only mount refuses it without a word."""


def without_mounts(plan: Plan, view: View, hidden: Sequence[Path]) -> Plan:
    """The plan, changed for a host without namespaces. hidden: as in `make_plan`.

    Raises SandboxUnavailable for what cannot be kept from tools here.
    """
    found = view.facts.unshared or host_can()
    other = plan.identity.outside_uid != view.facts.uid
    carved = carve(plan.binds, plan.masks, plan.identity, terminals=found.takes)
    # Root owns what tools, who are another user, must not change or see. Only where the policy asks
    # for it: the folders above are root's then, too.
    owns = other and found.owns and bool(plan.protected or carved.shown)
    for path in hidden:
        real = view.follow(path.absolute()).real
        if real in carved.shown and not owns:
            raise SandboxUnavailable(
                f"the run's records in {real} cannot be kept from tools here, because they lie in"
                " what tools can write and this host has no namespaces; hint: name a folder"
                " elsewhere (output.dir, --out)"
            )
    # Sockets that are made for tools are kept until they are connected. Of those that never are,
    # such as UDP's, the kernel would not notice the end.
    made = found.takes or plan.network != "host"
    unix = found.broker and made and view.workspace is not None
    own = Unshared(
        abi=found.abi,
        scopes=found.scopes,
        listener=found.listener,
        broker=found.broker,
        takes=found.takes,
        other_user=other,
        undone=() if owns else _first_asked(plan, carved.undone),
        shown=() if owns else carved.shown,
        owned=carved.undone if owns else (),
        covered=carved.shown if owns else (),
        sockets=_sockets(plan, view) if unix else (),
        looked_at=looked_at(view.facts.machine, plan.network, found, unix=unix),
    )
    # Nobody could look at what a socket of TCP is connected to: see the level of `network`.
    network = "none" if plan.network == "loopback" and not found.broker else plan.network
    machine, root = view.facts.machine, _is_roots(plan)
    return msgspec.structs.replace(
        plan,
        pins=(),
        files=_files(plan, own),
        environment={**_TEMPORARY, **(_NO_CACHES if own.undone else {}), **plan.environment},
        landlock=Landlock(carved.rules, plan.landlock.tcp),
        system_calls=compile_unshared(machine, network, own, owner_is_root=root, unix=unix),
        private=_private(plan, view),
        unshared=own,
    )


def _first_asked(plan: Plan, paths: tuple[str, ...]) -> tuple[str, ...]:
    """Those first that `protect` names: there is a limit to what is put back."""
    asked = {item.path for item in plan.protected}
    return tuple(sorted(paths, key=lambda path: path not in asked))


def _files(plan: Plan, own: Unshared) -> tuple[File, ...]:
    """Those of the home folder: others cannot be shown in the place of the host's. Where root owns
    the workspace meanwhile, git would not trust it. git-config(1), safe.directory"""
    files = {one.path: one for one in plan.files if one.path.startswith(f"{HOME}/")}
    if own.owned or own.covered:
        path = f"{HOME}/.config/git/config"
        text = files[path].text if path in files else ""
        files[path] = File(path, f"{text}\n[safe]\n\tdirectory = *\n")
    return tuple(files.values())


def _is_roots(plan: Plan) -> bool:
    """Whether what tools write may be root's, or its group's."""
    return 0 in (plan.identity.outside_uid, plan.identity.outside_gid)


def _sockets(plan: Plan, view: View) -> tuple[str, ...]:
    """Where sockets are that tools may connect to: in what they can write, and those that the
    policy names."""
    named = [bind.path for bind in plan.binds if not bind.writable and _is_socket(bind.path)]
    return (*(bind.path for bind in plan.binds if bind.writable), *named)


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return False


def _private(plan: Plan, view: View) -> Private:
    """Always a folder: neither an image nor a file system in memory can be mounted."""
    private, user = plan.private, plan.identity
    candidates = [
        path
        for path in sorted(_places(view.facts), key=lambda path: len(str(path)) > _LONGEST)
        if user.outside_uid == view.facts.uid
        or can_reach(str(path), user.outside_uid, user.outside_gid)
    ]
    base = usable_base(view, [path for path in candidates if _takes_folders(path)])
    if not base:
        raise SandboxUnavailable(
            "there is no folder for the tools' TMPDIR and HOME; hint: set XDG_STATE_HOME to a"
            " folder that you may write to"
        )
    why = "" if private.size is None else "no file system of a fixed size can be mounted here"
    return msgspec.structs.replace(private, kind=PrivateKind.FOLDER, base=base, why=why)


def _takes_folders(path: Path) -> bool:
    """Whether a folder can be made where this one is, or would be. Found out by doing it: access(2)
    says nothing of the rules of a sandbox around this one. landlock(7)"""
    there = next((one for one in (path, *path.parents) if os.path.isdir(one)), Path("/"))
    trial = there / f".sandbox-agent-{os.urandom(8).hex()}"
    try:
        trial.mkdir(0o700)
        trial.rmdir()
    except OSError:
        return False
    return True


def _places(facts: HostFacts) -> tuple[Path, ...]:
    """As `HostFacts.disks`, and what is left in a container whose root is read-only."""
    more = (Path(f"{folder}/sandbox-agent-tmp-{facts.uid}") for folder in ("/tmp", "/dev/shm"))
    return (*facts.disks, *more)
