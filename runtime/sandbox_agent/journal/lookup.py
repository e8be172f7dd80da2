"""Finds the run that a command names: by its name, its id or a part of it, a path, or `last`.

The part is the beginning of an id, or its end: the last digits are random, so three of them are
most often enough. A name means the run that was made last of those that have it.

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
from sandbox_agent_sandbox.nearest import nearest

from sandbox_agent.errors import AgentError, ConfigError, NotRecorded
from sandbox_agent.journal.events import BOX, COMMAND, JournalOpened
from sandbox_agent.journal.file import JOURNAL_FILE, read_regular_file
from sandbox_agent.journal.folder import default_output_dir, is_fault_of_host, is_run_id

LAST = "last"
LATER_FILE = "later_runs.txt"
_NOTED_IN = 64
_FIRST_LINE = 1024 * 1024
_LIKELY = 200
"""Runs, the newest ones, that a wrong name is compared with."""
SHOWN = 5
"""Candidates that a message lists."""


def is_path(run: str) -> bool:
    """Whether `run` is a path, no matter which runs there are."""
    return os.sep in run


def find_run(
    run: str, output_dir: Path | None = None, here: Path | None = None, *, only: bool = False
) -> Path:
    """The folder of a run.

    run: an id, the beginning or the end of exactly one id, the name of a run, the path of a run
    folder or of its journal, or `last`. Text with a slash is a path. output_dir: where run folders
    are; None for the default. here: where relative paths start; None for the current folder. only:
    refuse a name that several runs have.

    Raises ConfigError if no run or several are found, if the path is not a run, or if this user may
    not read it; NotRecorded if the disk fails.
    """
    base, here = output_dir or default_output_dir(), here or Path()
    if not run:
        raise ConfigError("no run was named", field="RUN", hint=_HINT)
    if is_path(run):
        return _checked(here / os.path.expanduser(run), run)
    if run == LAST:
        return _last(base)
    names = runs_in(base)
    if run in names:
        return base / run
    called = [name for name in _newest_first(base, names) if _is_called(base / name, run)]
    if called and (len(called) == 1 or not only):
        return base / called[0]
    found = called[::-1] or [name for name in names if name.startswith(run) or name.endswith(run)]
    if len(found) == 1:
        return base / found[0]
    if found:
        raise _ambiguous(run, found, "give an id" if called else "write more of the id")
    for path in (base / run, here / run):
        if os.path.lexists(path):
            return _checked(path, run)
    near = _near(run, base, names)
    hint = f"did you mean {near}?" if near else _HINT
    raise ConfigError(f"there is no run {run} in {base}", field="RUN", hint=hint)


def _near(run: str, base: Path, names: Sequence[str]) -> str | None:
    """The name of a run, or the id, that is like what was asked for."""
    known = {name_of(base / name) or name for name in names[-_LIKELY:]}
    if names:
        known |= {LAST, *names[-_LIKELY:]}
    return nearest(run, known, cutoff=0.75)


def _ambiguous(run: str, found: Sequence[str], hint: str) -> ConfigError:
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    shown = ", ".join(found[-SHOWN:])
    return ConfigError(f"{run} may be any of {shown}{more}", field="RUN", hint=hint)


_HINT = (
    "give a run's name, its id or the beginning or the end of one, the path of its folder, or "
    "`last`; --out names the folder of runs"
)


def runs_in(base: Path) -> list[str]:
    """The names of the run folders in a folder, sorted. Raises NotRecorded if the disk fails, and
    ConfigError if this user may not read it."""
    return sorted(name for name in _names(base) if _has_journal(base / name))


def all_folders(base: Path) -> list[Path]:
    """The run folders in a folder, also those that have no journal yet or that this user may not
    enter. Raises as `runs_in`."""
    try:
        with os.scandir(base) as entries:
            folders = [entry.name for entry in entries if entry.is_dir()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise _unreadable(base, error) from None
    return [base / name for name in folders if is_run_id(name) or _has_journal(base / name)]


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
        with contextlib.suppress(OSError), open(folder.parent / name / LATER_FILE, "ab") as file:
            file.write(f"{folder.name}\n".encode())


def _later(folder: Path) -> list[str]:
    """The runs that were made after this one, with ids that come before its own."""
    try:
        raw = read_regular_file(folder / LATER_FILE)
    except OSError:
        return []
    return raw.decode("ascii", "replace").split()


def is_command(folder: Path) -> bool:
    """Whether the journal in a folder is that of a command of `exec`, or of a `Sandbox`."""
    opened = opened_of(folder)
    if opened is None or opened.settings is None:
        return False
    return opened.settings.model == BOX or (opened.name, opened.settings.model) == (
        COMMAND,
        COMMAND,
    )


def name_of(folder: Path) -> str | None:
    """The name of the run in a folder; None if it has none, or its journal cannot be read."""
    opened = opened_of(folder)
    return None if opened is None else opened.name


def _is_called(folder: Path, name: str) -> bool:
    """Whether the run in a folder has this name. Raises NotRecorded if the disk fails."""
    try:
        opened = _first_event(folder)
    except OSError as error:
        if is_fault_of_host(error):
            raise _unreadable(folder, error) from None
        return False
    return opened is not None and opened.name == name


def opened_of(folder: Path) -> JournalOpened | None:
    """The first event; None if it cannot be read. What is wrong is told to whom asks for this
    run."""
    try:
        return _first_event(folder)
    except OSError:
        return None


def _first_event(folder: Path) -> JournalOpened | None:
    """The first event; None if it is none. Raises OSError."""
    try:
        with open(folder / JOURNAL_FILE, "rb") as file:
            return msgspec.json.decode(file.readline(_FIRST_LINE), type=JournalOpened)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


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
