"""A file that a report is written to, such as that of `--junit`.

Tools may write where it lies, and the file must be the host's own: not one that a tool has made,
and not one elsewhere that a link of a tool leads to. So its folder is opened before the run, an
old file is removed, and the report is a new file that gets the name at the end. If that fails,
nothing is there.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from sandbox_agent.errors import ConfigError
from sandbox_agent.journal.folder import leads_out

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class ReportFile:
    """label: the flag or the field that names the file. private: the folders that are made above it
    are the owner's alone. writable: folders that tools can write; a link in one of them may lead
    nowhere else.

    Raises ConfigError if the file cannot be written there.
    """

    def __init__(
        self, label: str, path: str, *, private: bool = False, writable: Sequence[Path] = ()
    ) -> None:
        self.label = label
        self.path = path
        self._name = os.path.basename(path)
        if self._name in ("", ".", ".."):
            raise self._refusal("it names a folder")
        above = os.path.dirname(path) or "."
        try:
            if any(leads_out(Path(above), folder) for folder in writable):
                raise OSError(errno.ELOOP, "a link leads out of a folder that tools can write")
            os.makedirs(above, mode=0o700 if private else 0o777, exist_ok=True)
            self._folder = os.open(above, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except (OSError, ValueError) as error:
            raise self._refusal(_why(error)) from None
        try:
            self._remove_old()
        except OSError as error:
            self.close()
            raise self._refusal(_why(error)) from None

    def _remove_old(self) -> None:
        """Removes what an earlier run wrote. It must not be taken for this run's."""
        with suppress(FileNotFoundError):
            found = os.stat(self._name, dir_fd=self._folder, follow_symlinks=False)
            if not stat.S_ISREG(found.st_mode) and not stat.S_ISLNK(found.st_mode):
                raise OSError(errno.EINVAL, "it is no ordinary file")
            os.unlink(self._name, dir_fd=self._folder)
        os.close(self._make_spare())
        self._remove_spare()

    def _make_spare(self) -> int:
        self._spare = f".{self._name[:64]}.{os.urandom(4).hex()}"
        return os.open(self._spare, _NEW, 0o666, dir_fd=self._folder)

    def _remove_spare(self) -> None:
        with suppress(OSError):
            os.unlink(self._spare, dir_fd=self._folder)

    def _refusal(self, why: str) -> ConfigError:
        return ConfigError(
            f"{self.path} cannot be written: {why}",
            file=self.label,
            hint="name a file in a folder that you may write to",
        )

    def write(self, data: bytes) -> None:
        """Writes the file, whole or not at all. Raises OSError; then no file has the name."""
        try:
            fd = self._make_spare()
            try:
                _write_all(fd, data)
            finally:
                os.close(fd)
            folder = self._folder
            os.rename(self._spare, self._name, src_dir_fd=folder, dst_dir_fd=folder)
        except OSError:
            self._remove_spare()
            with suppress(OSError):
                os.unlink(self._name, dir_fd=self._folder)
            raise
        self._check_place()

    def _check_place(self) -> None:
        """A tool may have moved the folder."""
        there = os.stat(self._name, dir_fd=self._folder, follow_symlinks=False)
        try:
            found = os.stat(self.path, follow_symlinks=False)
        except OSError:
            found = None
        if found is None or not os.path.samestat(there, found):
            raise OSError(errno.ENOENT, "its folder was moved while the run was going")

    def close(self) -> None:
        """Closes the folder."""
        with suppress(OSError):
            os.close(self._folder)


def _write_all(fd: int, data: bytes) -> None:
    written = 0
    while written < len(data):
        written += os.write(fd, data[written:])


def _why(error: OSError | ValueError) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
