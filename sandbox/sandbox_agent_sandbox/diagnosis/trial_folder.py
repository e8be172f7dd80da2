"""The folder of `doctor`'s trials. It is gone afterwards: also when a signal ends `doctor`, and
after SIGKILL when `doctor` begins again.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sandbox_agent_sandbox.policy.identity import OUTSIDE_ID

_PREFIX = "sandbox-agent-doctor-"

_in_use: list[Path] = []


@contextmanager
def trial_folder() -> Iterator[Path]:
    """A new folder, without links in its path. A lock on it (flock(2)) says that it is in use."""
    _remove_abandoned()
    top = Path(tempfile.mkdtemp(prefix=_PREFIX)).resolve()
    _in_use.append(top)
    lock = os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield top
    finally:
        shutil.rmtree(top, ignore_errors=True)
        os.close(lock)
        _in_use.remove(top)


def remove_now() -> None:
    """Remove the folder that is in use, because this process is about to end. For any thread."""
    for top in list(_in_use):
        with suppress(OSError):
            # Renamed first: another thread may still be making files in it.
            shutil.rmtree(top.rename(f"{top}-"), ignore_errors=True)


def _remove_abandoned() -> None:
    """Remove what was left. Others can write in this place: only folders of our own are touched,
    and `shutil.rmtree` follows no links."""
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):
            status = path.lstat()
            ours = {os.geteuid()} | ({OUTSIDE_ID} if os.geteuid() == 0 else set())
            if stat.S_ISDIR(status.st_mode) and status.st_uid in ours:
                _remove_if_unused(path)


def _remove_if_unused(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(path, ignore_errors=True)
    finally:
        os.close(fd)
