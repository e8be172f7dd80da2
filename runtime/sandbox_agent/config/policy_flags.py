"""The flags of `exec` that change its policy. They are named, and mean, what they do in bwrap(1):
`--ro-bind`, `--bind`, `--share-net`, `--setenv`. A flag wins over the policy, a later one over an
earlier one.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sandbox_agent_sandbox.errors import PolicyError
from sandbox_agent_sandbox.policy.policy import EnvPolicy, Policy
from sandbox_agent_sandbox.utf8 import argument_text

from sandbox_agent.errors import ConfigError

Pair = tuple[str, str, str]
"""An option and its two values."""

_FIELDS = ("read", "write", "hide", "protect")


def with_flags(policy: Policy, pairs: Sequence[Pair], share_net: bool, workspace: Path) -> Policy:
    """The policy with these flags. pairs: in their order on the command line.

    Raises ConfigError with the flag.
    """
    binds = [(option, _bound(option, *ends)) for option, *ends in pairs if option != "--setenv"]
    changes: dict[str, Any] = dict(_binds(policy, binds, workspace)) if binds else {}
    variables = {name: value for option, name, value in pairs if option == "--setenv"}
    if variables:
        changes["env"] = _environment(policy, variables)
    if share_net:
        changes["network"] = "host"
    return policy.model_copy(update=changes)


def _bound(option: str, source: str, destination: str) -> Path:
    """The path that a bind names. A sandbox shows every path under the name that it has outside."""
    paths = [
        os.path.abspath(os.path.expanduser(_text(option, end))) for end in (source, destination)
    ]
    if "" in (source, destination):
        raise ConfigError("a path is empty", file=option, hint=f"write {option} PATH PATH")
    if paths[0] != paths[1]:
        raise ConfigError(
            f"SRC {source} and DEST {destination} differ: a path has inside the name that it has"
            " outside",
            file=option,
            hint=f"write {option} {source} {source}",
        )
    path = Path(paths[0])
    if not os.path.lexists(path):
        raise ConfigError(f"{path} does not exist", file=option, hint="create it, or name another")
    return path


def _binds(
    policy: Policy, binds: Sequence[tuple[str, Path]], workspace: Path
) -> dict[str, list[Path]]:
    """The lists of paths of a policy, with these binds. What a bind names is taken out of the other
    lists. `--ro-bind` of what would be writable protects it."""
    fields: dict[str, list[Path]] = {name: list(getattr(policy, name)) for name in _FIELDS}
    for option, path in binds:
        for name, listed in fields.items():
            fields[name] = [one for one in listed if _real(one, workspace) != _real(path)]
        fields["read" if option == "--ro-bind" else "write"].append(path)
    writable = [_real(path, workspace) for path in (workspace, *fields["write"])]
    for option, path in binds:
        read_only = option == "--ro-bind" and path in fields["read"]
        if read_only and any(_is_inside(_real(path), folder) for folder in writable):
            fields["read"].remove(path)
            fields["protect"].append(path)
    return fields


def _real(path: Path, workspace: Path = Path()) -> str:
    return os.path.realpath(workspace / path)


def _is_inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder.rstrip('/')}/")


def _environment(policy: Policy, variables: dict[str, str]) -> EnvPolicy:
    for name, value in variables.items():
        for text in (name, value):
            _text("--setenv", text)
    passed = [name for name in policy.env.pass_ if name not in variables]
    try:
        return EnvPolicy(pass_=passed, set={**policy.env.set, **variables})
    except PolicyError as error:
        raise ConfigError(error.what, file="--setenv", hint=error.hint) from None


def _text(option: str, text: str) -> str:
    try:
        return argument_text(text)
    except UnicodeError:
        raise ConfigError(
            f"{os.fsencode(text)!r} is not UTF-8", file=option, hint="encode it in UTF-8"
        ) from None
