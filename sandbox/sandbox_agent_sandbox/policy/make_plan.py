"""Policy + this host's facts + a workspace -> the plan of one sandbox, or a refusal.

Nothing is changed here and no process is started; the file system is only looked at. What cannot
be satisfied is refused: the stricter reading wins, never the weaker one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from math import ceil
from pathlib import Path

import msgspec

from sandbox_agent_sandbox.errors import PolicyError
from sandbox_agent_sandbox.import_roots import import_roots
from sandbox_agent_sandbox.plan import (
    Bind,
    Ceilings,
    Identity,
    Mask,
    Plan,
    Protected,
    Symlink,
)
from sandbox_agent_sandbox.policy.policy import Limits, Policy
from sandbox_agent_sandbox.policy.probe import HostFacts
from sandbox_agent_sandbox.utf8 import is_utf8

_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store")
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
"""Only where the network is the host's."""

_KERNELS = (Path("/proc"), Path("/sys"), Path("/dev"))
"""Not folders of anybody's, and not to be shared: what lies there acts on the host."""

_TMP = Path("/tmp")
"""The sandbox's own."""

_HOME = "/tmp/home"
_SYSTEM_PATH = ("/usr/local/bin", "/usr/bin", "/bin", "/usr/local/sbin", "/usr/sbin", "/sbin")

UNPRIVILEGED_ID = 1000
"""The id inside, where the workspace is root's."""

OUTSIDE_ID = 1_912_602_624
"""Its id outside: above every range that systemd or shadow hand out, so nobody else's."""


def make_plan(
    policy: Policy,
    facts: HostFacts,
    *,
    workspace: Path | None,
    hidden: Sequence[Path] = (),
    tool_paths: Sequence[Path] = (),
) -> Plan:
    """Decide everything about one sandbox.

    workspace: an existing folder, bound writable; None for a sandbox that has none. hidden: what
    no tool may see, such as the folder of the runs' records. tool_paths: where tools' code lies,
    bound read-only and imported from. Raises PolicyError, with the field and the hint.
    """
    home = _TMP if workspace is None else _resolve(workspace, "workspace")
    if not home.is_dir():
        raise PolicyError(f"workspace {home} is not a folder; name one, or create it first")
    identity = _identity(facts, None if workspace is None else home)
    binds: dict[str, Bind] = {}
    links: dict[str, str] = {}
    protected = []

    def add(path: Path, *, writable: bool = False, own: bool = False) -> None:
        real = path.resolve()
        _link(path, real, links)
        binds[str(real)] = _bind(real, identity, facts, writable=writable, own=own or writable)

    for path in _system_paths(policy.network):
        add(path)
    for path in _program_paths(facts, tool_paths, home):
        add(path)
    for path in policy.read:
        add(_resolve(path, "read"), own=True)
    if workspace is not None:
        add(workspace.absolute(), writable=True)
    for path in policy.write:
        add(_resolve(path, "write"), writable=True)
    for path in policy.protect:
        real = _resolve(home / path, "protect")
        if not _inside(real, (Path(b.path) for b in binds.values())):
            raise PolicyError(f"protect: {real} is not visible inside, so there is nothing to do")
        add(real, own=True)
        status = real.stat()
        protected.append(Protected(str(real), status.st_dev, status.st_ino))
    _guard_own_code(binds, identity, facts)
    ordered = tuple(sorted(binds.values(), key=lambda bind: (bind.path.count("/"), bind.path)))
    visible = [Path(bind.path) for bind in ordered]
    plan = Plan(
        workspace=str(home),
        identity=identity,
        binds=ordered,
        symlinks=tuple(Symlink(path, target) for path, target in sorted(links.items())),
        masks=tuple(_masks(policy, home, hidden, visible)),
        protected=tuple(protected),
        network=policy.network,
        ceilings=_ceilings(policy.limits),
        environment=_environment(policy, facts, visible),
        import_path=tuple(_import_path(visible, tool_paths)),
    )
    _refuse_other_bytes(plan)
    return plan


def _refuse_other_bytes(plan: Plan) -> None:
    try:
        msgspec.msgpack.encode(plan)
    except UnicodeEncodeError as error:
        raise PolicyError(
            f"{os.fsencode(str(error.object))!r} is not UTF-8, so the sandbox cannot be told of it;"
            " rename it, or take it out of the policy"
        ) from None


def _identity(facts: HostFacts, workspace: Path | None) -> Identity:
    """Who the tools are: never 0 inside, and never root outside."""
    if facts.uid != 0:
        return Identity(facts.uid, facts.gid, facts.uid, facts.gid)
    status = None if workspace is None else workspace.stat()
    if status is not None and status.st_uid != 0:
        gid = status.st_gid or status.st_uid
        return Identity(status.st_uid, gid, status.st_uid, gid)
    return Identity(UNPRIVILEGED_ID, UNPRIVILEGED_ID, OUTSIDE_ID, OUTSIDE_ID)


def _bind(path: Path, identity: Identity, facts: HostFacts, *, writable: bool, own: bool) -> Bind:
    """Where root shares what belongs to somebody else, the mount shows it as the tools' own."""
    status = path.stat()
    foreign = status.st_uid != identity.outside_uid
    if facts.uid == 0 and own and foreign:
        return Bind(str(path), writable, True, status.st_uid, status.st_gid)
    return Bind(str(path), writable)


def _system_paths(network: str) -> list[Path]:
    etc = _ETC + (_ETC_NETWORK if network == "host" else ())
    paths = [Path(path) for path in _SYSTEM] + [Path("/etc", name) for name in etc]
    return [path for path in paths if path.exists()]


def _program_paths(facts: HostFacts, tool_paths: Sequence[Path], workspace: Path) -> list[Path]:
    """Interpreters and commands, wherever they live, or what is under $HOME would vanish.

    Read-only also inside the workspace, since this process runs from some of it; but for entries
    of $PATH, which are the project's own there (node_modules/.bin).
    """
    own = [Path(sys.prefix), Path(sys.base_prefix), *map(Path, import_roots()), *tool_paths]
    named = [Path(entry) for entry in facts.path if is_utf8(entry)]
    commands = [path for path in named if not _inside(_real(path), [workspace])]
    home = facts.home.resolve()
    kept = []
    for path in own + commands:
        # Of $PATH nobody expects that each entry is there, or may be looked at.
        if not path.is_absolute() or not os.path.exists(path):
            continue
        real = path.resolve()
        # What is the home folder itself, or holds it, would show what is hidden.
        if real in (Path("/"), home, workspace) or real in home.parents:
            continue
        kept.append(path)
    return kept


def _guard_own_code(binds: dict[str, Bind], identity: Identity, facts: HostFacts) -> None:
    """What this program itself runs from stays read-only, also inside a writable workspace.

    Else a tool could write what the host imports next. A whole environment in the workspace is
    covered by its bind already; this is for single package folders.
    """
    for root in import_roots():
        real = Path(root).resolve()
        if str(real) not in binds or binds[str(real)].writable:
            binds[str(real)] = _bind(real, identity, facts, writable=False, own=False)


def _masks(
    policy: Policy, workspace: Path, hidden: Sequence[Path], visible: Sequence[Path]
) -> Iterable[Mask]:
    for path in policy.hide:
        real = _real(workspace / path)
        if not _inside(real, visible):
            continue
        if not os.path.exists(real):
            raise PolicyError(
                f"hide: {real} does not exist, so it cannot be hidden; create it first"
            )
        if real == workspace or real in workspace.parents:
            raise PolicyError(f"hide: {real} would hide the workspace {workspace}")
        yield Mask(str(real), real.is_dir())
    for path in hidden:
        real = path.resolve()
        if not _inside(real, visible):
            continue
        if real == workspace or real in workspace.parents:
            raise PolicyError(
                f"records in {real} would be in reach of the tools in {workspace};"
                " put them into a folder of their own (output.dir, --out)"
            )
        yield Mask(str(real), True)


def _environment(policy: Policy, facts: HostFacts, visible: Sequence[Path]) -> dict[str, str]:
    own_bin = f"{sys.prefix}/bin"
    named = [entry for entry in facts.path if is_utf8(entry)]
    shown = [entry for entry in named if _inside(_real(Path(entry)), visible)]
    environment = {
        "PATH": ":".join(dict.fromkeys([own_bin, *shown, *_SYSTEM_PATH])),
        "HOME": _HOME,
        "TMPDIR": "/tmp",
        "USER": facts.user,
        "LOGNAME": facts.user,
        "SHELL": "/bin/bash" if os.path.exists("/bin/bash") else "/bin/sh",
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        "SANDBOX_AGENT": "1",
    }
    if sys.prefix != sys.base_prefix:
        environment["VIRTUAL_ENV"] = sys.prefix
    for name in policy.env.pass_:
        if name in facts.environment:
            value = environment[name] = facts.environment[name]
            if not is_utf8(value):
                raise PolicyError(f"env.pass: the value of {name} is not UTF-8; set it anew")
    environment.update(policy.env.set)
    environment["HOME"] = _HOME  # the only home that exists inside
    return environment


def _import_path(visible: Sequence[Path], tool_paths: Sequence[Path]) -> list[str]:
    """This process's own module path, as far as it can be seen inside; then where tools' code lies
    that another process, whose run is resumed here, had on its own."""
    entries = [*import_roots(), *(entry for entry in sys.path if entry), *map(str, tool_paths)]
    return list(dict.fromkeys(e for e in entries if _inside(Path(e).resolve(), visible)))


def _ceilings(limits: Limits) -> Ceilings:
    return Ceilings(
        memory=limits.memory,
        processes=limits.processes,
        cpu_time=ceil(limits.cpu_time),
        open_files=limits.open_files,
        file_size=limits.file_size,
        tmp=limits.tmp,
    )


def _link(path: Path, real: Path, links: dict[str, str]) -> None:
    """Keep the name under which something is known, where that is a symbolic link outside."""
    if path != real and path.is_symlink():
        links[str(path)] = os.readlink(path)


def _resolve(path: Path, field: str) -> Path:
    try:
        real = path.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise PolicyError(
            f"{field}: {path} is not there ({error}); create it, or remove the entry"
        ) from None
    if _inside(real, _KERNELS) or real == Path("/"):
        raise PolicyError(
            f"{field}: {real} cannot be shared: the sandbox has its own /proc and /dev, and"
            " shows nothing of the kernel's; remove the entry"
        )
    return real


def _real(path: Path) -> Path:
    """Where it leads, as far as can be seen; a loop of links leads nowhere, and is no error."""
    return Path(os.path.realpath(path))


def _inside(path: Path, folders: Iterable[Path]) -> bool:
    return any(path == folder or folder in path.parents for folder in folders)
