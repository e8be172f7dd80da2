"""Policy + host facts + workspace -> the plan of one sandbox, or a refusal.

`make_plan` changes nothing and starts no process: it reads the facts and looks at the file system.
It refuses what it cannot satisfy, and where a policy has two readings it takes the stricter one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from pathlib import Path

import msgspec

from sandbox_agent_sandbox.errors import PolicyError
from sandbox_agent_sandbox.plan import (
    Bind,
    Identity,
    Mask,
    Plan,
    Protected,
    ResourceLimits,
    Symlink,
)
from sandbox_agent_sandbox.policy.policy import Limits, Policy
from sandbox_agent_sandbox.policy.probe import HostFacts
from sandbox_agent_sandbox.utf8 import is_utf8

_SYSTEM = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "nix/store")
_ETC = (
    "alternatives",
    "ca-certificates",
    "debian_version",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "magic",
    "mime.types",
    "nsswitch.conf",
    "os-release",
    "pki",
    "protocols",
    "python3",
    "services",
    "shells",
    "ssl",
    "terminfo",
    "timezone",
)
_ETC_NETWORK = ("gai.conf", "host.conf", "hosts", "resolv.conf")
"""Visible only with the host's network."""

_KERNEL_FOLDERS = (Path("/proc"), Path("/sys"), Path("/dev"))
"""Never shared: what lies there acts on the host's kernel."""

_TMP = Path("/tmp")
"""The sandbox's own. The working folder of a sandbox that has no workspace."""

_HOME = "/tmp/home"
_ACCOUNT = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")
_SYSTEM_PATH = ("/usr/local/bin", "/usr/bin", "/bin", "/usr/local/sbin", "/usr/sbin", "/sbin")

UNPRIVILEGED_ID = 1000
"""The uid and gid inside when the agent is root and so is the workspace's owner."""

OUTSIDE_ID = 1_912_602_624
"""The id outside for UNPRIVILEGED_ID: above every range that systemd or shadow hand out, so no
other account has it."""


def make_plan(
    policy: Policy,
    facts: HostFacts,
    *,
    workspace: Path | None,
    hidden: Sequence[Path] = (),
    tool_paths: Sequence[Path] = (),
) -> Plan:
    """Decide everything about one sandbox.

    workspace: an existing folder, bound writable; None for a sandbox that has none. hidden: paths
    that no tool may see, such as the folder of the runs' records. tool_paths: folders with tools'
    code, bound read-only and added to the import path. Raises PolicyError with the field and the
    hint.
    """
    cwd = _TMP if workspace is None else _resolve(workspace, "workspace")
    if not cwd.is_dir():
        raise PolicyError(f"workspace {cwd} is not a folder; name a folder, or create it first")
    identity = _identity(facts, None if workspace is None else cwd)
    binds: dict[str, Bind] = {}
    links: dict[str, str] = {}
    protected = []

    def add(path: Path, *, writable: bool = False, remap: bool = False) -> None:
        real = path.resolve()
        _keep_link(path, real, links)
        remap = remap or writable
        binds[str(real)] = _bind(real, identity, facts, writable=writable, remap=remap)

    for path in _system_paths(facts.root, policy.network):
        add(path)
    for path in _program_paths(facts, tool_paths, cwd):
        add(path)
    for path in policy.read:
        add(_resolve(path, "read"), remap=True)
    if workspace is not None:
        add(workspace.absolute(), writable=True)
    for path in policy.write:
        add(_resolve(path, "write"), writable=True)
    for path in policy.protect:
        real = _resolve(cwd / path, "protect")
        if not _is_inside(real, (Path(bind.path) for bind in binds.values())):
            raise PolicyError(
                f"protect: {real} is not visible inside the sandbox, so tools cannot write it;"
                " remove the entry"
            )
        add(real, remap=True)
        status = real.stat()
        protected.append(Protected(str(real), status.st_dev, status.st_ino))
    _guard_own_code(binds, identity, facts)
    ordered = tuple(sorted(binds.values(), key=lambda bind: (bind.path.count("/"), bind.path)))
    visible = [Path(bind.path) for bind in ordered]
    environment = _environment(policy, facts, visible)
    plan = Plan(
        workspace=str(cwd),
        identity=identity,
        binds=ordered,
        symlinks=tuple(Symlink(path, target) for path, target in sorted(links.items())),
        masks=tuple(_masks(policy, cwd, hidden, visible)),
        protected=tuple(protected),
        network=policy.network,
        limits=_limits(policy.limits),
        environment=environment,
        user=_account(environment, facts),
        home=_HOME,
        import_path=tuple(_import_path(facts, visible, tool_paths)),
    )
    _refuse_what_is_not_utf8(plan)
    return plan


def _refuse_what_is_not_utf8(plan: Plan) -> None:
    try:
        msgspec.msgpack.encode(plan)
    except UnicodeEncodeError as error:
        raise PolicyError(
            f"{os.fsencode(str(error.object))!r} is not UTF-8, so it cannot be passed to the"
            " sandbox; rename it, or remove it from the policy"
        ) from None


def _identity(facts: HostFacts, workspace: Path | None) -> Identity:
    """The tools' user: never 0 inside, and never root outside."""
    if facts.uid != 0:
        return Identity(facts.uid, facts.gid, facts.uid, facts.gid)
    status = None if workspace is None else workspace.stat()
    if status is not None and status.st_uid != 0:
        gid = status.st_gid or status.st_uid
        return Identity(status.st_uid, gid, status.st_uid, gid)
    return Identity(UNPRIVILEGED_ID, UNPRIVILEGED_ID, OUTSIDE_ID, OUTSIDE_ID)


def _bind(path: Path, identity: Identity, facts: HostFacts, *, writable: bool, remap: bool) -> Bind:
    """A bind. With `remap`, root shows what another user owns as the sandbox user's own."""
    status = path.stat()
    if facts.uid == 0 and remap and status.st_uid != identity.outside_uid:
        return Bind(str(path), writable, True, status.st_uid, status.st_gid)
    return Bind(str(path), writable)


def _system_paths(root: Path, network: str) -> list[Path]:
    etc = _ETC + (_ETC_NETWORK if network == "host" else ())
    paths = [root / name for name in _SYSTEM] + [root / "etc" / name for name in etc]
    return [path for path in paths if path.exists()]


def _program_paths(facts: HostFacts, tool_paths: Sequence[Path], workspace: Path) -> list[Path]:
    """Interpreters and commands, wherever they lie; else those below $HOME would vanish.

    They are read-only also inside the workspace, because this process runs from some of them. The
    exception are entries of $PATH inside the workspace (node_modules/.bin): the project owns those.
    """
    own = [facts.prefix, facts.base_prefix, *facts.code, *tool_paths]
    named = [Path(entry) for entry in facts.path if is_utf8(entry)]
    commands = [path for path in named if not _is_inside(_real(path), [workspace])]
    home = facts.home.resolve()
    shown = []
    for path in own + commands:
        # Entries of $PATH often do not exist, or cannot be looked at: no error.
        if not path.is_absolute() or not os.path.exists(path):
            continue
        real = path.resolve()
        # The home folder itself, or a folder that holds it, would show what is hidden.
        if real in (Path("/"), home, workspace) or real in home.parents:
            continue
        shown.append(path)
    return shown


def _guard_own_code(binds: dict[str, Bind], identity: Identity, facts: HostFacts) -> None:
    """Keep the code that this program runs from read-only, also inside a writable folder.

    Else a tool could write what the host imports next. `_program_paths` has bound that code
    already; this is for a folder of it that is itself the workspace, or named in `write`.
    """
    for root in facts.code:
        real = root.resolve()
        if str(real) not in binds or binds[str(real)].writable:
            binds[str(real)] = _bind(real, identity, facts, writable=False, remap=False)


def _masks(
    policy: Policy, workspace: Path, hidden: Sequence[Path], visible: Sequence[Path]
) -> Iterable[Mask]:
    for path in policy.hide:
        real = _real(workspace / path)
        if not _is_inside(real, visible):
            continue
        if not os.path.exists(real):
            raise PolicyError(
                f"hide: {real} does not exist, so it cannot be hidden; create it first"
            )
        if real == workspace or real in workspace.parents:
            raise PolicyError(f"hide: {real} would hide the workspace {workspace}")
        for field in ("read", "write", "protect"):
            for named in getattr(policy, field):
                if _is_inside(_real(workspace / named), [real]):
                    raise PolicyError(
                        f"hide: {real} would hide {named}, which {field} names; remove one of them"
                    )
        yield Mask(str(real), real.is_dir())
    for path in hidden:
        real = path.resolve()
        if not _is_inside(real, visible):
            continue
        if real == workspace or real in workspace.parents:
            raise PolicyError(
                f"the run's records in {real} would be in reach of the tools in {workspace};"
                " choose a folder of their own (output.dir, --out)"
            )
        yield Mask(str(real), True)


def _environment(policy: Policy, facts: HostFacts, visible: Sequence[Path]) -> dict[str, str]:
    own_bin = f"{facts.prefix}/bin"
    named = [entry for entry in facts.path if is_utf8(entry)]
    shown = [entry for entry in named if _is_inside(_real(Path(entry)), visible)]
    environment = {
        "PATH": ":".join(dict.fromkeys([own_bin, *shown, *_SYSTEM_PATH])),
        "HOME": _HOME,
        "TMPDIR": "/tmp",
        "USER": facts.user,
        "LOGNAME": facts.user,
        "SHELL": "/bin/bash" if (facts.root / "bin/bash").exists() else "/bin/sh",
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        "SANDBOX_AGENT": "1",
    }
    if facts.prefix != facts.base_prefix:
        environment["VIRTUAL_ENV"] = str(facts.prefix)
    for name in policy.env.pass_:
        if name in facts.environment:
            value = environment[name] = facts.environment[name]
            if not is_utf8(value):
                raise PolicyError(
                    f"env.pass: the value of {name} is not UTF-8; give it a value that is"
                )
    environment.update(policy.env.set)
    return environment


def _account(environment: Mapping[str, str], facts: HostFacts) -> str:
    """The name of the tools' user in passwd(5): USER, where that can be the name of an account."""
    name = environment["USER"]
    return name if _ACCOUNT.fullmatch(name) else facts.user


def _import_path(
    facts: HostFacts, visible: Sequence[Path], tool_paths: Sequence[Path]
) -> list[str]:
    """This process's own `sys.path`, as far as it is visible inside, then the tools' folders: a
    resumed run may have tools whose folders were on the path of another process only."""
    own = [*map(str, facts.code), *(entry for entry in facts.import_path if entry)]
    entries = dict.fromkeys([*own, *map(str, tool_paths)])
    return [entry for entry in entries if _is_inside(Path(entry).resolve(), visible)]


def _limits(limits: Limits) -> ResourceLimits:
    return ResourceLimits(
        memory=limits.memory,
        processes=limits.processes,
        cpu_time=ceil(limits.cpu_time),
        open_files=limits.open_files,
        file_size=limits.file_size,
        tmp=limits.tmp,
    )


def _keep_link(path: Path, real: Path, links: dict[str, str]) -> None:
    """Where `path` is a symbolic link outside, make the same link inside."""
    if path != real and path.is_symlink():
        links[str(path)] = os.readlink(path)


def _resolve(path: Path, field: str) -> Path:
    other = "choose another folder" if field == "workspace" else "remove the entry"
    try:
        real = path.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise PolicyError(
            f"{field}: {path} does not exist ({error}); create it, or {other}"
        ) from None
    if _is_inside(real, _KERNEL_FOLDERS) or real == Path("/"):
        raise PolicyError(
            f"{field}: {real} cannot be shared: the sandbox has a /proc and a /dev of its own, and"
            f" shows no folder of the kernel; {other}"
        )
    return real


def _real(path: Path) -> Path:
    """Where a path leads, as far as can be seen. A loop of links is no error."""
    return Path(os.path.realpath(path))


def _is_inside(path: Path, folders: Iterable[Path]) -> bool:
    return any(path == folder or folder in path.parents for folder in folders)
