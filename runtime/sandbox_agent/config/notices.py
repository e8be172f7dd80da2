"""What a user is told of settings before anything starts, because it may not be what they mean."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sandbox_agent_sandbox.policy.any_policy import AnyPolicy


def notices(policy: AnyPolicy, workspace: Path, environ: Mapping[str, str]) -> Iterator[str]:
    """One text for each. workspace: absolute. environ: the environment outside."""
    for name in policy.env.pass_:
        if name not in environ:
            yield (
                f"sandbox.env.pass: {name} is not set here, so the tools do not get it\n"
                f"  hint: set it before the start, or remove it"
            )
    if policy.hide or policy.protect:
        yield from _of_tracked_files(policy, workspace)
    if not policy.protect_defaults:
        yield (
            "sandbox.protect_defaults is false: tools can change what starts programs when you "
            "work here later, such as hooks and settings of git, .envrc and .vscode\n"
            "  hint: look at the list after the run; remove the line to have them protected"
        )


def _of_tracked_files(policy: AnyPolicy, workspace: Path) -> Iterator[str]:
    # Imported here, since few policies name such paths.
    from sandbox_agent_sandbox.protection.git_index import tracked_files

    for path in policy.hide:
        hidden = Path(os.path.realpath(workspace / path))
        tracked = tracked_files(hidden)
        if tracked:
            files = "a file" if tracked == 1 else f"{tracked} files"
            yield (
                f"sandbox.hide: {hidden} holds {files} that git tracks. Tools do not see them: git "
                "says `Permission denied` there, and commits neither a deletion nor a change\n"
                "  hint: keep what must be hidden out of the repository, or tell the agent not to "
                "commit"
            )
    tracked = sum(
        tracked_files(Path(os.path.realpath(workspace / path))) for path in policy.protect
    )
    if tracked:
        what = "a file" if tracked == 1 else f"{tracked} files"
        yield (
            f"sandbox.protect covers {what} that git tracks: inside, `git checkout` of another "
            "version says success and leaves what is protected as it is\n"
            "  hint: tell the agent to stay on the branch"
        )
    linked = [name for path in policy.protect for name in _with_other_names(workspace / path)]
    if linked:
        more = f" and {len(linked) - 1} more" if len(linked) > 1 else ""
        yield (
            f"sandbox.protect: {linked[0]}{more} has other hard links: if one of them is in the "
            "workspace, tools can change the file by it\n"
            "  hint: make copies: cp -a --remove-destination, or protect the other names, too"
        )


_MOST_ENTRIES = 5000
"""Files below `protect` that are looked at."""


def _with_other_names(path: Path) -> Iterator[str]:
    """The regular files, at or below a path, that have more than one name. link(2)"""
    todo, left = [str(path)], _MOST_ENTRIES
    while todo and left > 0:
        one = todo.pop()
        left -= 1
        try:
            status = os.lstat(one)
            if stat.S_ISDIR(status.st_mode):
                todo += [f"{one}/{name}" for name in os.listdir(one)]
            elif stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
                yield one
        except OSError:
            continue
