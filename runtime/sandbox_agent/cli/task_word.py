"""The word TASK of `run` and `validate`: a task file, a folder with one, or a prompt."""

from __future__ import annotations

import errno
import os
import shlex
import stat
from itertools import islice
from pathlib import Path

from sandbox_agent.embedding.warn import notify
from sandbox_agent.errors import ConfigError

TASK_FILE = "task.yaml"
"""The task of a folder, and the task where none is named."""

_SUFFIXES = (".yaml", ".yml", ".json")
_LOOKED_AT = 1000
"""Entries of a folder that are compared with a mistyped name."""


def task_or_prompt(word: str) -> Path | str:
    """The path of a task file, or the text of a prompt.

    What exists is a task, also if its name has spaces. Otherwise a text with white space is a
    prompt. Raises ConfigError for anything else, with a guess.
    """
    found = _kind(word)
    if found is not None:
        return _task_in(Path(word)) if stat.S_ISDIR(found) else Path(word)
    if any(character.isspace() for character in word):
        if word.endswith(_SUFFIXES):
            notify(f"{shown_name(word)}: there is no such file, so this text is the prompt")
        return word
    os.getcwd()  # fails if it was removed: then that is what is wrong
    raise ConfigError("there is no such file or folder", file=shown_name(word), hint=_guess(word))


def shown_name(name: str) -> str:
    """A name for a message: on one line, whatever characters it has."""
    from sandbox_agent.reports.escape import one_line

    return one_line(name, 200)


def _kind(word: str) -> int | None:
    """The mode of what is there, or 0 if it cannot be looked at. None if there is nothing."""
    try:
        return os.stat(word).st_mode
    except ValueError:  # a NUL byte
        return None
    except OSError as error:
        if os.path.islink(word):  # to nothing, or in a circle
            return 0
        # A text may be too long for a name, or begin with the name of a closed folder.
        gone = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)
        if error.errno in gone or any(character.isspace() for character in word):
            return None
        return 0


def _task_in(folder: Path) -> Path:
    if os.path.lexists(folder / TASK_FILE):
        return folder / TASK_FILE
    near = _nearest(TASK_FILE, folder)
    hint = "name a task file; `sandbox-agent init DIR` writes a project to start from"
    raise ConfigError(
        f"there is no {TASK_FILE} in this folder",
        file=shown_name(str(folder)),
        hint=f"did you mean {near}?" if near else hint,
    )


def _guess(word: str) -> str:
    """What somebody meant by a word that is neither a task nor a prompt."""
    from sandbox_agent.journal.folder import is_run_id
    from sandbox_agent.journal.lookup import LAST

    quoted = shlex.quote(shown_name(word))
    if word.startswith(("scripted:", "replay:")):
        return f"did you mean --model {quoted}?"
    if word == "-":
        return "did you mean --prompt -, which reads the prompt from standard input?"
    if word == LAST or is_run_id(word):
        return f"did you mean sandbox-agent resume {quoted}?"
    near = _nearest(Path(word).name, Path(word).parent)
    if near is not None:
        return f"did you mean {near}?"
    if word.endswith(_SUFFIXES) or os.sep in word:
        return "check the path"
    return f"name a task file or a folder; for a prompt of one word, give --prompt {quoted}"


def _nearest(name: str, folder: Path) -> str | None:
    """The task in a folder whose name is most similar, as somebody would type it."""
    from sandbox_agent_sandbox.nearest import nearest

    try:
        with os.scandir(folder) as entries:
            known = [one.name for one in islice(entries, _LOOKED_AT) if _may_be_a_task(one)]
    except (OSError, ValueError):
        return None
    near = nearest(name, known)
    return None if near is None else shlex.quote(shown_name(str(folder / near)))


def _may_be_a_task(entry: os.DirEntry[str]) -> bool:
    try:
        if entry.is_dir():
            return os.path.lexists(os.path.join(entry.path, TASK_FILE))
    except OSError:
        return False
    return entry.name.endswith(_SUFFIXES)
