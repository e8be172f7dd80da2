"""Finds the run that a command names: by its id, the beginning of the id, a path, or `last`."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from sandbox_agent.errors import ConfigError
from sandbox_agent.journal.file import JOURNAL_FILE
from sandbox_agent.journal.folder import default_output_dir

LAST = "last"
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
    several are found, if the path is not a run, or if this user may not read it.
    """
    base, here = output_dir or default_output_dir(), here or Path()
    if not run:
        raise ConfigError("no run was named", field="RUN", hint=_HINT)
    if is_path(run):
        return _checked(here / os.path.expanduser(run), run)
    names = _runs(base)
    if run == LAST:
        if not names:
            raise ConfigError(f"there are no runs in {base}", field="RUN", hint=_HINT)
        return base / names[-1]
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
    """The ids of the runs in a folder, oldest first."""
    try:
        names = os.listdir(base)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise _unreadable(base, error) from None
    return sorted(name for name in names if (base / name / JOURNAL_FILE).is_file())


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


def _unreadable(path: Path, error: OSError | ValueError) -> ConfigError:
    if not isinstance(error, PermissionError):
        why = error.strerror if isinstance(error, OSError) else str(error)
        return ConfigError(f"{path}: {why}", field="RUN", hint=_HINT)
    return ConfigError(
        f"{path} is not yours to enter", field="RUN", hint="ask its owner, or become that user"
    )
