"""Reads AGENTS.md of a workspace. Tools can write it, so whatever lies there is hostile input. It
is read once, before anything starts, and never through a link that leads out of the workspace."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

import msgspec
from sandbox_agent_sandbox.capture import without_torn_end

from sandbox_agent.journal.events import AgentsFile

NAME = "AGENTS.md"
MOST_BYTES = 32 * 1024
"""Of the file that the model is told. What comes after it is left out, with a note."""

_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY | os.O_CLOEXEC
"""O_NONBLOCK: opening a named pipe would wait for a writer. open(2)"""
_ENTER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Found(msgspec.Struct, frozen=True):
    """What was found. text: for the model; "" if there is nothing to tell. record: names the file;
    None if there is nothing to tell. changed: when the file, or the link to it, changed last
    (st_ctime, which tools cannot set). problem: why the file is not told, or not all of it; "" for
    nothing."""

    text: str = ""
    record: AgentsFile | None = None
    changed: float = 0.0
    problem: str = ""


class _NotTold(Exception):
    """The file is there, and is not told. The text says why."""


def find(workspace: Path, hide: Iterable[Path], environ: Mapping[str, str]) -> Found:
    """AGENTS.md of a workspace. hide: what the policy hides from tools, and so from the model.
    environ: the environment that holds the secrets; their values are masked. Never raises OSError.
    """
    try:
        with ExitStack() as opened:
            fd, linked = _open(workspace, opened)
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise _NotTold("it is no ordinary file")
            _refuse_hidden(status, fd, workspace, hide)
            data = _read(fd)
    except FileNotFoundError:
        return Found()
    except OSError as error:
        return Found(problem=f"it cannot be read: {error.strerror}")
    except _NotTold as why:
        return Found(problem=str(why))
    told = without_torn_end(data[:MOST_BYTES]) if len(data) > MOST_BYTES else data
    text = told.decode("utf-8-sig", "replace").replace("\0", "").strip()
    if not text:
        return Found()
    # Imported here: most workspaces have no such file, and a run begins sooner without these.
    import hashlib

    from sandbox_agent.reports.mask import mask_for
    from sandbox_agent.reports.report import Report

    text = mask_for(Report("", Path()), environ).apply(text)
    left_out = max(status.st_size, len(data)) - len(told)
    problem = ""
    if left_out:
        text += f"\n[... {left_out} bytes left out: read the file for the rest ...]"
        problem = f"it has {status.st_size} bytes, of which the model is told the first {len(told)}"
    digest = hashlib.sha256(told).hexdigest()
    record = AgentsFile(NAME, status.st_size, len(told), digest)
    return Found(text, record, max(status.st_ctime, linked), problem)


def _open(workspace: Path, opened: ExitStack) -> tuple[int, float]:
    """The file, and when a link to it changed last: 0 for no link.

    It is AGENTS.md, or what a link in its place leads to inside the workspace: many projects keep
    one file under two names. Each component is opened by the descriptor of the one before, so
    nothing can be put in its place meanwhile. Only one link is followed.
    """
    folder = _hold(os.open(workspace, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC), opened)
    try:
        target = os.readlink(NAME, dir_fd=folder)
    except OSError:
        return _hold(os.open(NAME, _READ, dir_fd=folder), opened), 0.0
    linked = os.stat(NAME, dir_fd=folder, follow_symlinks=False).st_ctime
    if os.path.isabs(target) or ".." in target.split("/"):
        raise _NotTold("it is a link that leads, or may lead, out of the workspace")
    *folders, name = [part for part in target.split("/") if part not in ("", ".")] or [""]
    try:
        for part in folders:
            folder = _hold(os.open(part, _ENTER, dir_fd=folder), opened)
        return _hold(os.open(name, _READ, dir_fd=folder), opened), linked
    except OSError as error:
        raise _NotTold(f"it is a link whose target cannot be read: {error.strerror}") from None


def _hold(fd: int, opened: ExitStack) -> int:
    opened.callback(os.close, fd)
    return fd


def _refuse_hidden(status: os.stat_result, fd: int, workspace: Path, hide: Iterable[Path]) -> None:
    real = Path(os.readlink(f"/proc/self/fd/{fd}"))
    for path in hide:
        hidden = Path(os.path.realpath(workspace / path))
        same = False
        with suppress(OSError):  # a hard link to it has another path
            same = os.path.samestat(os.stat(hidden), status)
        if same or hidden == real or hidden in real.parents:
            raise _NotTold(f"the policy hides {path}")


def _read(fd: int) -> bytes:
    """The beginning of the file, and one byte more to see whether that is all."""
    data = b""
    while len(data) <= MOST_BYTES and (piece := os.read(fd, MOST_BYTES + 1 - len(data))):
        data += piece
    return data
