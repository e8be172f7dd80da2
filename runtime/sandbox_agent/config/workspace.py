"""Which folders tools may work in."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from sandbox_agent_sandbox.policy.paths import is_inside
from sandbox_agent_sandbox.utf8 import is_utf8

from sandbox_agent.errors import ConfigError
from sandbox_agent.first_imports import guard_below


def existing_folder(path: Path | str) -> Path:
    """A workspace as an absolute path. Raises ConfigError if it cannot be one."""
    try:
        folder = Path(os.path.expanduser(path)).absolute()
    except FileNotFoundError:
        raise ConfigError(
            "the current folder does not exist any more",
            field="workspace",
            hint="change to another folder, or name the workspace by its whole path",
        ) from None
    if ".." in folder.parts:
        folder = Path(os.path.realpath(folder))  # the names on the way do not exist inside
    problem = problem_with(folder)
    if problem is not None:
        what, hint = problem
        raise ConfigError(what, field="workspace", hint=hint)
    return folder


def refuse_home(folder: Path, *, allowed: bool) -> None:
    """Raises ConfigError for a workspace that is the home folder or holds it, unless the user has
    said that this is meant."""
    given = os.path.expanduser("~")  # that itself, where there is no home folder
    home, real = os.path.realpath(given), os.path.realpath(folder)
    if allowed or given == "~" or home == "/" or not is_inside(home, real):
        return
    which = "is your home folder" if home == real else f"holds your home folder {home}"
    raise ConfigError(
        f"{folder} {which}: tools could change what your shell and other programs run",
        field="workspace",
        hint="work in a folder of its own; if this is meant, the task file has to say"
        " `workspace: {path: ..., allow_home: true}`, and the command line --allow-home",
    )


def usable_workspace(path: Path, *, allow_home: bool, write: Sequence[Path]) -> Path:
    """A workspace as an absolute path. From now on our own code imports nothing from it, nor from
    what else tools can write. Raises ConfigError if it cannot be one."""
    workspace = existing_folder(path)
    refuse_home(workspace, allowed=allow_home)
    guard_below([os.path.realpath(path) for path in (workspace, *write)])
    return workspace


def problem_with(folder: Path) -> tuple[str, str] | None:
    """What is wrong with a folder as a workspace, and the hint; None if nothing is."""
    if not is_utf8(str(folder)):
        return f"the name {os.fsencode(folder)!r} is not UTF-8", "rename it, or name another"
    try:
        mode = os.stat(folder).st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a null byte
        return f"there is no folder {folder}", "make it, or name another"
    except OSError as error:
        return f"{folder} cannot be looked at: {error.strerror}", "name a folder that you may enter"
    if not stat.S_ISDIR(mode):
        return f"{folder} is not a folder", "name a folder"
    if not os.access(folder, os.R_OK | os.X_OK):
        return f"you may not enter {folder}", "name a folder that you may enter"
    return None
