"""Removes a run's folder: what sandbox-agent has written there, and nothing else.

The journal is locked meanwhile, so a run that is going is never removed, and none can be resumed.
Nothing is reached by a path below the folder: every name is removed in the open folder that holds
it, and unlink(2) removes a link and not what it leads to. The journal goes last, so a removal that
was interrupted leaves a run that can be removed again.
"""

from __future__ import annotations

import fcntl
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sandbox_agent.embedding.control import CONTROL_PIPE
from sandbox_agent.errors import AgentError, ConfigError, NotRecorded, StateError
from sandbox_agent.journal.file import JOURNAL_FILE, LOCK_PATIENCE, TORN_SUFFIX
from sandbox_agent.journal.folder import OUTPUT_FOLDER, is_fault_of_host, is_run_id
from sandbox_agent.journal.lookup import LATER_FILE
from sandbox_agent.journal.result_file import RESULT_FILE, SPARE_FILE

_OURS = (
    RESULT_FILE,
    SPARE_FILE,
    CONTROL_PIPE,
    LATER_FILE,
    OUTPUT_FOLDER,
    JOURNAL_FILE + TORN_SUFFIX,
    JOURNAL_FILE,
)
"""What sandbox-agent writes into a run folder, in the order of its removal."""

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PAUSE = 0.01
_SHOWN = 5


@dataclass(frozen=True)
class Removed:
    """files: how many there were. bytes: their length together."""

    files: int
    bytes: int


def remove_run(folder: Path) -> Removed:
    """Removes a run. Raises StateError if it is going, ConfigError if the folder is not this
    user's to remove or holds other files, NotRecorded if the disk fails."""
    try:
        with _opened(folder) as fd, _locked(fd, folder):
            _refuse_other_files(fd, folder)
            sizes = [size for name in _OURS for size in _remove(fd, name)]
            os.rmdir(folder)
    except OSError as error:
        raise _failed(folder, error) from None
    return Removed(len(sizes), sum(sizes))


def size_of(folder: Path) -> Removed:
    """What `remove_run` would remove. Raises as it."""
    try:
        with _opened(folder) as fd, _locked(fd, folder):
            _refuse_other_files(fd, folder)
            sizes = [size for name in _OURS for size in _sizes(fd, name)]
    except OSError as error:
        raise _failed(folder, error) from None
    return Removed(len(sizes), sum(sizes))


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    if folder.is_symlink():
        raise ConfigError(
            f"{folder} is a link, and no run folder", field="RUN", hint="remove the link yourself"
        )
    fd = os.open(folder, _FOLDER)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def _locked(fd: int, folder: Path) -> Iterator[None]:
    """Holds the lock of the journal, so that no run can go on."""
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        journal = os.open(JOURNAL_FILE, flags, dir_fd=fd)
    except FileNotFoundError:
        if not is_run_id(folder.name):
            raise
        yield  # its agent died before it made a journal
        return
    try:
        if not stat.S_ISREG(os.fstat(journal).st_mode):
            raise ConfigError(
                f"{folder} is not a run: {JOURNAL_FILE} in it is no ordinary file",
                field="RUN",
                hint="remove the folder yourself",
            )
        _lock(journal, folder)
        yield
    finally:
        os.close(journal)


def _lock(journal: int, folder: Path) -> None:
    """flock(2). A reader may hold the lock for an instant, and a dying agent for a little more."""
    until = time.monotonic() + LOCK_PATIENCE
    while True:
        try:
            return fcntl.flock(journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                raise StateError(
                    f"the run {folder.name} is going, or a program still has it open: it was not "
                    f"removed\n  hint: `sandbox-agent cancel {folder.name} --wait 30s` stops it"
                ) from None
        time.sleep(_PAUSE)


def _refuse_other_files(fd: int, folder: Path) -> None:
    others = sorted(set(os.listdir(fd)) - set(_OURS))
    outputs = _is_folder(fd, OUTPUT_FOLDER)
    if outputs:
        inner = os.open(OUTPUT_FOLDER, _FOLDER, dir_fd=fd)
        try:
            names = sorted(os.listdir(inner))
            others += [f"{OUTPUT_FOLDER}/{name}" for name in names if _is_folder(inner, name)]
        finally:
            os.close(inner)
    if others:
        more = f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
        raise ConfigError(
            f"{folder} holds what sandbox-agent did not write: {', '.join(others[:_SHOWN])}{more}",
            field="RUN",
            hint="move it away first",
        )


def _sizes(fd: int, name: str) -> list[int]:
    """The lengths of a file, or of the files in the folder of outputs; [] if it is not there."""
    try:
        found = os.stat(name, dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return []
    if not stat.S_ISDIR(found.st_mode):
        return [found.st_size]
    inner = os.open(name, _FOLDER, dir_fd=fd)
    try:
        return [size for one in os.listdir(inner) for size in _sizes(inner, one)]
    finally:
        os.close(inner)


def _remove(fd: int, name: str) -> list[int]:
    """Removes a file, or the folder of outputs with its files. Returns their lengths."""
    sizes = _sizes(fd, name)
    if not _is_folder(fd, name):
        if sizes:
            os.unlink(name, dir_fd=fd)
        return sizes
    inner = os.open(name, _FOLDER, dir_fd=fd)
    try:
        for one in os.listdir(inner):
            os.unlink(one, dir_fd=inner)
    finally:
        os.close(inner)
    os.rmdir(name, dir_fd=fd)
    return sizes


def _is_folder(fd: int, name: str) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def _failed(folder: Path, error: OSError) -> AgentError:
    if isinstance(error, FileNotFoundError):
        return ConfigError(f"{folder} is not a run", field="RUN", hint="`sandbox-agent ls`")
    if isinstance(error, PermissionError):
        return ConfigError(
            f"{folder} is not yours to remove: {error.strerror}",
            field="RUN",
            hint="remove it as the user that started the run",
        )
    text = f"{folder} was not removed as a whole: {error.strerror}"
    if is_fault_of_host(error):
        return NotRecorded(text)
    return ConfigError(text, field="RUN", hint="see what lies there, and remove it yourself")
