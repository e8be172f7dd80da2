"""Finds the run that a command names: by its id, the beginning of the id, a path, or `last`.

`last` is the run that was made last. Ids begin with the time, and the clock may be set back. So a
run that gets an id before others is noted in the folders of those. A command of `exec` is meant
only where there are no runs: there is nothing to resume in one.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Sequence
from pathlib import Path

import msgspec

from sandbox_agent.errors import AgentError, ConfigError, NotRecorded
from sandbox_agent.journal.events import JournalOpened
from sandbox_agent.journal.file import JOURNAL_FILE, read_regular_file
from sandbox_agent.journal.folder import default_output_dir, is_fault_of_host, is_run_id

LAST = "last"
COMMAND = "exec"
"""What the record of a command of `exec` says as name and as model."""

_LATER = "later_runs.txt"
_NOTED_IN = 64
_FIRST_LINE = 1024 * 1024
SHOWN = 5
"""Candidates that a message lists."""


def is_path(run: str) -> bool:
    """Whether `run` is a path, no matter which runs there are."""
    return os.sep in run


def find_run(run: str, output_dir: Path | None = None, here: Path | None = None) -> Path:
    """The folder of a run.

    run: an id, the beginning of exactly one id, the path of a run folder or of its journal, or
    `last`. Text with a slash is a path. output_dir: where run folders are; None for the default.
    here: where relative paths start; None for the current folder. Raises ConfigError if no run or
    several are found, if the path is not a run, or if this user may not read it; NotRecorded if the
    disk fails.
    """
    base, here = output_dir or default_output_dir(), here or Path()
    if not run:
        raise ConfigError("no run was named", field="RUN", hint=_HINT)
    if is_path(run):
        return _checked(here / os.path.expanduser(run), run)
    if run == LAST:
        return _last(base)
    names = _runs(base)
    if run in names:
        return base / run
    found = [name for name in names if name.startswith(run)]
    if len(found) == 1:
        return base / found[0]
    if found:
        shown = found[-SHOWN:]
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        raise ConfigError(
            f"{run} may be any of {', '.join(shown)}{more}",
            field="RUN",
            hint="write more of the id",
        )
    for path in (base / run, here / run):
        if os.path.lexists(path):
            return _checked(path, run)
    raise ConfigError(f"there is no run {run} in {base}", field="RUN", hint=_HINT)


_HINT = (
    "give a run's id or the beginning of one, the path of its folder, or `last`; --out names the "
    "folder of runs"
)


def _runs(base: Path) -> list[str]:
    """The names of the runs in a folder, sorted."""
    return sorted(name for name in _names(base) if _has_journal(base / name))


def _has_journal(folder: Path) -> bool:
    """Whether this user sees a journal there. Raises NotRecorded if the disk fails."""
    try:
        return stat.S_ISREG(os.stat(folder / JOURNAL_FILE).st_mode)
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and is_fault_of_host(error):
            raise _unreadable(folder, error) from None
        return False


def _names(base: Path) -> list[str]:
    try:
        return os.listdir(base)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise _unreadable(base, error) from None


def _last(base: Path) -> Path:
    command: Path | None = None
    for name in _newest_first(base, _names(base)):
        if not _has_journal(base / name):
            continue
        if not is_command(base / name):
            return base / name
        command = command or base / name
    if command is None:
        raise ConfigError(f"there are no runs in {base}", field="RUN", hint=_HINT)
    return command


def _newest_first(base: Path, names: Sequence[str]) -> list[str]:
    """Ids first: a folder with another name was put there by hand, such as a copy of a run."""
    ids = sorted((name for name in names if is_run_id(name)), reverse=True)
    noted = [name for name in reversed(_later(base / ids[0])) if name in ids] if ids else []
    others = sorted((name for name in names if not is_run_id(name)), reverse=True)
    return list(dict.fromkeys([*noted, *ids, *others]))


def note_order(folder: Path) -> None:
    """Note a new run where its id does not say that it is the last one. Never raises.

    It is noted in each folder whose id comes after its own: also if some of them are removed, one
    of the others says so.
    """
    try:
        names = os.listdir(folder.parent)
    except OSError:
        return
    after = sorted(name for name in names if name > folder.name and is_run_id(name))
    for name in after[-_NOTED_IN:]:
        with contextlib.suppress(OSError), open(folder.parent / name / _LATER, "ab") as file:
            file.write(f"{folder.name}\n".encode())


def _later(folder: Path) -> list[str]:
    """The runs that were made after this one, with ids that come before its own."""
    try:
        raw = read_regular_file(folder / _LATER)
    except OSError:
        return []
    return raw.decode("ascii", "replace").split()


def is_command(folder: Path) -> bool:
    """Whether the journal in a folder is that of a command of `exec`."""
    try:
        with open(folder / JOURNAL_FILE, "rb") as file:
            opened = msgspec.json.decode(file.readline(_FIRST_LINE), type=JournalOpened)
    except (OSError, msgspec.MsgspecError, ValueError, RecursionError):
        return False  # whatever is wrong with it is told to whom asks for it
    settings = opened.settings
    return opened.name == COMMAND and settings is not None and settings.model == COMMAND


def _checked(path: Path, run: str) -> Path:
    """`path` as the folder of a run."""
    try:
        folder = path.parent if path.name == JOURNAL_FILE else path
        if not stat.S_ISREG(os.stat(folder / JOURNAL_FILE).st_mode):
            raise ConfigError(
                f"{run} is not a run: {JOURNAL_FILE} in it is no ordinary file",
                field="RUN",
                hint=_HINT,
            )
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(
            f"{run} is not a run: there is no {JOURNAL_FILE} in it", field="RUN", hint=_HINT
        ) from None
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None
    return folder.absolute()


def _unreadable(path: Path, error: OSError | ValueError) -> AgentError:
    if isinstance(error, OSError) and is_fault_of_host(error):
        return NotRecorded(f"{path} cannot be read: {error.strerror}")
    if not isinstance(error, PermissionError):
        why = error.strerror if isinstance(error, OSError) else str(error)
        return ConfigError(f"{path}: {why}", field="RUN", hint=_HINT)
    return ConfigError(
        f"{path} is not yours to enter", field="RUN", hint="ask its owner, or become that user"
    )
