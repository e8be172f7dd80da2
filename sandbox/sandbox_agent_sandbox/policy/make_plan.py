"""Policy + host facts + workspace -> the plan of one sandbox, or a refusal.

`make_plan` changes nothing and starts no process: it reads the facts and looks at the file system.
It refuses what it cannot satisfy, and where a policy has two readings it takes the stricter one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from sandbox_agent_sandbox.errors import PolicyError
from sandbox_agent_sandbox.plan import (
    Plan,
    PlanKind,
    Protected,
    ResourceLimits,
)
from sandbox_agent_sandbox.policy.environment import (
    account_name,
    import_path,
    make_environment,
    show_certificates,
)
from sandbox_agent_sandbox.policy.git import show_git
from sandbox_agent_sandbox.policy.identity import identity_for
from sandbox_agent_sandbox.policy.masks import masks, masks_of_records
from sandbox_agent_sandbox.policy.named_paths import refuse_link, resolve, workspace_folder
from sandbox_agent_sandbox.policy.paths import is_inside, is_inside_any
from sandbox_agent_sandbox.policy.private import place_private
from sandbox_agent_sandbox.policy.probe import HostFacts
from sandbox_agent_sandbox.policy.programs import show_programs
from sandbox_agent_sandbox.policy.rules.landlock import landlock_rules
from sandbox_agent_sandbox.policy.rules.seccomp import compile_filter
from sandbox_agent_sandbox.policy.system import add_own_files, show_system
from sandbox_agent_sandbox.policy.view import HOME, OWN_FOLDERS, View
from sandbox_agent_sandbox.protection.binds import to_bind
from sandbox_agent_sandbox.protection.scan import Seen, look

if TYPE_CHECKING:
    from sandbox_agent_sandbox.policy.any_policy import AnyLimits, AnyPolicy

_TMP = Path("/tmp")
"""The sandbox's own. The working folder of a sandbox that has no workspace."""


def make_plan(
    policy: AnyPolicy,
    facts: HostFacts,
    *,
    workspace: Path | None,
    hidden: Sequence[Path] = (),
    tool_paths: Sequence[Path] = (),
    task_files: Sequence[Path] = (),
    seen: Seen | None = None,
    listens: bool = True,
    kind: PlanKind = PlanKind.FULL,
) -> Plan:
    """Decide everything about one sandbox.

    workspace: an existing folder, bound writable; None for a sandbox that has none. hidden: paths
    that no tool may see, such as the folder of the runs' records. tool_paths: folders with tools'
    code, bound read-only and added to the import path, or one script. task_files: that the task was
    read from. seen: what `protection.scan.look` found in the folders that tools can write; None to
    look now. listens: whether tools may open TCP ports; False is best effort (Linux 6.7). kind:
    see `kinds`. Raises PolicyError with the field and the hint.
    """
    cwd = _TMP if workspace is None else workspace_folder(workspace)
    identity = identity_for(kind, facts, None if workspace is None else cwd)
    place = None if workspace is None else str(cwd)
    shared = [place] if place is not None else []
    shared += [str(resolve(path, "write", shared)) for path in policy.write]
    view = View(facts, identity, place, shared)
    _refuse_contradictions(policy, workspace, view)
    show_system(view, policy.network)
    _show_interpreters(view, tool_paths)
    show_programs(view)
    show_certificates(view, policy.network)
    _show_named(policy, workspace, view)
    protected = list(_protect(policy, cwd, view))
    guarded = tuple(_guard(shared, view, task_files, seen)) if policy.protect_defaults else None
    _guard_code(view)
    if place is not None:
        show_git(view, place)
    hides = list(masks(policy, cwd, view))
    view.masks += [*hides, *masks_of_records(cwd, hidden, view)]
    environment = make_environment(policy, view)
    user = account_name(environment, facts)
    add_own_files(view, _network(policy, kind), user, HOME)
    plan = Plan(
        private=place_private(policy.limits, view),  # first: it may add a mask and a note
        workspace=str(cwd),
        identity=identity,
        binds=view.binds,
        symlinks=view.symlinks,
        masks=tuple(view.masks),
        protected=tuple(protected),
        network=_network(policy, kind),
        limits=_limits(policy.limits),
        environment=environment,
        user=user,
        home=HOME,
        import_path=tuple(import_path(view, tool_paths)),
        files=tuple(view.files),
        notes=() if workspace is None else tuple(view.notes),
        pins=tuple(_pins(view)),
        guarded=guarded,
        disk=policy.limits.disk,
        groups=facts.groups,
        system_calls=compile_filter(facts.machine, owner_is_root=_is_roots(view)),
        landlock=landlock_rules(view.binds, listens=listens),
        kind=kind,
        hidden=tuple(mask.path for mask in hides),
    )
    _refuse_what_is_not_utf8(plan)
    return _of_kind(plan, view, hidden)


def _of_kind(plan: Plan, view: View, hidden: Sequence[Path]) -> Plan:
    if plan.kind is not PlanKind.NO_NAMESPACES:
        return plan
    # Imported here: most plans need no such rules.
    from sandbox_agent_sandbox.policy.without_mounts import without_mounts

    return without_mounts(plan, view, hidden)


def _network(policy: AnyPolicy, kind: PlanKind) -> str:
    # A network namespace has a loopback interface in any case.
    own = kind is not PlanKind.NO_NAMESPACES and policy.network == "loopback"
    return "none" if own else policy.network


def _guard_code(view: View) -> None:
    """Where our own code is itself the workspace, or in `write`, a tool could write what we import
    next."""
    for root in view.facts.code:
        view.guard(root)


def _show_named(policy: AnyPolicy, workspace: Path | None, view: View) -> None:
    """What the policy names, and the workspace."""
    for path in policy.read:
        resolve(path, "read", view.writable)
        view.add(path.absolute(), remap=True)
    if workspace is not None:
        view.add(workspace.absolute(), writable=True)
    for path in policy.write:
        view.add(path.absolute(), writable=True)


def _refuse_contradictions(policy: AnyPolicy, workspace: Path | None, view: View) -> None:
    """Refuse paths that contradict each other, and those that hold the workspace or, writable, the
    home folder."""
    if workspace is not None:
        refuse_link("workspace", workspace.absolute(), view.writable[1:])
    base = workspace or _TMP
    fields = {
        "read": [path.absolute() for path in policy.read],
        "write": [path.absolute() for path in policy.write],
        "protect": [base / path for path in policy.protect],
    }
    named = {
        field: {found.real: path for path in paths if not (found := view.follow(path)).loop}
        for field, paths in fields.items()
    }
    for field, paths in named.items():
        for real in paths:
            place = view.workspace
            if place is not None and real not in ("/", place) and is_inside(place, real):
                raise PolicyError(
                    f"{real} holds the workspace {place}",
                    field=field,
                    hint="name the folders in it that you mean, or make it the workspace",
                )
            if field == "write" and is_inside(view.home, real):
                raise PolicyError(
                    f"{real} is your home folder, or holds it",
                    field=field,
                    hint="name the folders in it that tools are to write",
                )
    for real, path in named["write"].items():
        if real in named["read"]:
            raise PolicyError(
                f"both name {path}", field="read, write", hint="remove it from one of them"
            )
        for other, protected in named["protect"].items():
            if is_inside(real, other):
                raise PolicyError(
                    f"nothing could be written in {path}, because protect names {protected}",
                    field="write",
                    hint="remove one of them, or name it in read",
                )


def _show_interpreters(view: View, tool_paths: Sequence[Path]) -> None:
    """Interpreters and code, wherever they lie; else those below $HOME would vanish. They are
    read-only also inside the workspace, because this process runs from some of them."""
    facts = view.facts
    for path in (facts.prefix, facts.base_prefix, *facts.code):
        link = next((one for one in view.follow(path).links if view.can_write(one)), None)
        if link is not None:
            raise PolicyError(
                f"the Python that runs this command lies behind the link {link}, which tools can"
                " replace: the next command could be theirs",
                field="workspace",
                hint=f"start it by its own path, below {view.follow(path).real}",
            )
    for path in (facts.prefix, facts.base_prefix, *facts.code, *tool_paths):
        real = view.follow(path).real
        too_wide = real == view.workspace or is_inside(view.home, real)
        if path.is_absolute() and os.path.exists(path) and not too_wide:
            view.add_unseen(path)
            view.guard(path)


def _pins(view: View) -> list[str]:
    """The folders between what tools can write and what is mounted in it. A mount point cannot be
    renamed (EBUSY), but a folder above it can, and what is mounted in it goes with it; then a tool
    could put another folder in its place. rename(2)"""
    mounted = {bind.path for bind in view.binds}
    pins = {
        str(folder)
        for path in (*mounted, *(mask.path for mask in view.masks))
        for folder in Path(path).parents
        if str(folder) not in mounted and _can_be_renamed(str(folder), view)
    }
    return sorted(pins, key=lambda pin: (pin.count("/"), pin))


def _can_be_renamed(folder: str, view: View) -> bool:
    if folder in OWN_FOLDERS:
        return False
    outer = view.bind_above(folder)
    if outer is None:  # made by init: in the root, which is read-only, or in a folder for all
        return is_inside_any(folder, ("/tmp", "/var/tmp"))
    return outer.writable


def _is_roots(view: View) -> bool:
    """Whether what tools write is root's on the disk, or its group's: in an idmapped mount they
    write as the owner of what is mounted."""
    if 0 in (view.identity.outside_uid, view.identity.outside_gid):
        return True
    return any(
        bind.writable and bind.idmapped and 0 in (bind.owner_uid, bind.owner_gid)
        for bind in view.binds
    )


def _refuse_what_is_not_utf8(plan: Plan) -> None:
    try:
        msgspec.msgpack.encode(plan)
    except UnicodeEncodeError as error:
        raise PolicyError(
            f"{os.fsencode(str(error.object))!r} is not UTF-8, so it cannot be passed to the"
            " sandbox; rename it, or remove it from the policy"
        ) from None


def _protect(policy: AnyPolicy, workspace: Path, view: View) -> Iterator[Protected]:
    for path in policy.protect:
        real = resolve(workspace / path, "protect", view.writable)
        refuse_link("protect", workspace / path, view.writable)
        if not view.shows(str(real)):
            raise PolicyError(
                f"{real} is not visible inside the sandbox, so tools cannot write it",
                field="protect",
                hint="remove the entry",
            )
        view.add(real, remap=True)
        status = real.stat()
        yield Protected(str(real), status.st_dev, status.st_ino)


def _guard(
    writable: Sequence[str], view: View, task_files: Sequence[Path], seen: Seen | None
) -> Iterator[str]:
    """Make read-only what may start programs later. writable: the workspace, then `write`."""
    if not writable:
        return
    found = look(writable) if seen is None else seen
    for file in task_files:
        refuse_link("task file", file.absolute(), view.writable)
    named = [view.follow(file.absolute()).real for file in task_files if file.is_file()]
    for path in to_bind(found, writable, named):
        outer = view.bind_above(path)
        # A link may have been put there meanwhile, by a tool of another run.
        if outer is not None and outer.writable and view.follow(path).real == path:
            view.add(path, remap=True)
            yield path


def _limits(limits: AnyLimits) -> ResourceLimits:
    return ResourceLimits(
        memory=limits.memory,
        call_memory=limits.call_memory,
        process_memory=limits.process_memory,
        processes=limits.processes,
        cpu_time=None if limits.cpu_time is None else ceil(limits.cpu_time),
        open_files=limits.open_files,
        file_size=limits.file_size,
    )
