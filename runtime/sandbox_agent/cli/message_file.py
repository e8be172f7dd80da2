"""`-o FILE`: writes the final message to a file too."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from collections.abc import Sequence
from pathlib import Path

from sandbox_agent.cli.console import CLOSE_SECONDS
from sandbox_agent.cli.stream import GiveUp, Stream
from sandbox_agent.errors import ConfigError
from sandbox_agent.journal.folder import leads_out

_POLL_SECONDS = 0.01
_MAX_LINKS = 40


class MessageFile:
    """The target of `-o`. A file is replaced as a whole or not at all, unless other names (hard
    links), an ACL or another owner would be lost: such a file is written in place. A pipe, a
    device, or a descriptor of this process (`/dev/stdout`, `/dev/fd/3`) is never replaced.

    flag: the option that names it. writable: folders that tools can write. A link in one of them
    may lead nowhere else, and what tools put in the place of the file during the run is not written
    to. Raises ConfigError before the run if the target cannot be written: after the run its answer
    would be lost.
    """

    def __init__(self, name: str, flag: str = "-o", writable: Sequence[Path] = ()) -> None:
        self.name = name
        self._descriptor = _own_descriptor(name)
        # A link stays a link, and its target is replaced.
        self._path = Path(os.path.realpath(name))
        leads = any(leads_out(Path(name), folder) for folder in writable)
        if self._descriptor is None and leads:
            raise ConfigError(
                f"{flag} {name}: a link leads out of a folder that tools can write; a tool may have"
                " made it",
                file="command line",
                hint="remove the link, or name the file that it leads to",
            )
        try:
            if self._descriptor is not None:
                flags = fcntl.fcntl(self._descriptor, fcntl.F_GETFL)
                fine = flags & os.O_ACCMODE != os.O_RDONLY
            else:
                place = self._path if self._is_pipe() else self._path.parent
                is_folder = os.path.isdir(self._path) or not os.path.isdir(self._path.parent)
                fine = not is_folder and os.access(place, os.W_OK)
            self._was_pipe = self._descriptor is None and self._is_pipe()
        except (OSError, ValueError):
            fine = False
        if not fine:
            raise ConfigError(
                f"{flag} {name} cannot be written",
                file="command line",
                hint="name a file in a folder",
            )

    def write(self, text: str, give_up: GiveUp) -> None:
        """Writes the message. Raises OSError. Waits for the reader of a pipe for as long as it
        lives, or until `give_up()`; for a second if the pipe has no reader."""
        data = text.encode("utf-8", "backslashreplace")
        if self._descriptor is not None:
            _pass_on(os.dup(self._descriptor), data, give_up)
            return
        # The path had no link in it when the run began.
        if Path(os.path.realpath(self._path)) != self._path or self._is_pipe() != self._was_pipe:
            raise OSError(errno.ELOOP, "something else was put in its place during the run")
        if self._was_pipe:
            _pass_on(_opened(self._path), data, give_up)
        else:
            _replace(self._path, data)

    def _is_pipe(self) -> bool:
        """Whether the target is a pipe, a device, or anything but a regular file."""
        try:
            return not stat.S_ISREG(os.stat(self._path).st_mode)
        except FileNotFoundError:
            return False


def _own_descriptor(name: str) -> int | None:
    """The descriptor of this process that `name` leads to, for example by /dev/stdout; proc(5).

    None if it leads to no descriptor. Links are followed one by one: realpath(3) would go on to the
    file that the descriptor is open to."""
    own = os.path.realpath("/proc/self/fd")
    for _ in range(_MAX_LINKS):
        folder, last = os.path.split(os.path.abspath(name))
        if last.isdigit() and os.path.realpath(folder) == own:
            return int(last)
        if not os.path.islink(name):
            return None
        name = os.path.join(folder, os.readlink(name))
    return None


def _opened(path: Path) -> int:
    """Opens a pipe. Waits a second at most for a reader: fifo(7)."""
    until = time.monotonic() + CLOSE_SECONDS
    while True:
        try:
            return os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            if time.monotonic() > until:
                raise OSError(error.errno, "it has no reader") from None
        time.sleep(_POLL_SECONDS)


def _pass_on(fd: int, data: bytes, give_up: GiveUp) -> None:
    stream = Stream(fd)
    stream.write(data)
    stream.finish(give_up)
    if stream.lost and stream.error is None:
        # The thread still writes to the descriptor, so it stays open.
        raise OSError(errno.EAGAIN, f"{stream.lost} bytes are lost, its reader does not read")
    os.close(fd)
    if stream.error is not None:
        raise stream.error


def _replace(path: Path, data: bytes) -> None:
    # Imported here, because most runs write no such file.
    from sandbox_agent_ipc.token import RunToken
    from sandbox_agent_sandbox.inside.tools.whole_file import write_whole
    from sandbox_agent_sandbox.inside.worker.tool_result import ToolError

    try:
        write_whole(str(path), data, RunToken())
    except ToolError as error:
        raise OSError(errno.EIO, str(error)) from None
