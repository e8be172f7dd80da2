"""The folders of runs: `<output dir>/<run id>/`, readable by their owner only."""

from __future__ import annotations

import errno
import os
import re
import stat
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from sandbox_agent.embedding.warn import notify
from sandbox_agent.errors import AgentError, ConfigError, NotRecorded
from sandbox_agent.journal.file import JOURNAL_FILE

OUTPUT_FOLDER = "output"
"""The folder in a run folder for output that was too long for the model."""


def default_output_dir() -> Path:
    """`$XDG_STATE_HOME/sandbox-agent`, or `~/.local/state/sandbox-agent`. The XDG base directory
    specification says to ignore a relative value, of which this warns. Raises ConfigError if there
    is no home folder."""
    given = os.environ.get("XDG_STATE_HOME", "")
    base = Path(given)
    if not base.is_absolute():
        base = Path(os.path.expanduser("~"), ".local", "state")
        if given:
            _ignored(given, str(base))
    if not base.is_absolute():
        raise ConfigError(
            "there is no home folder to keep runs in",
            field="output.dir",
            hint="set HOME or XDG_STATE_HOME, or name a folder (--out)",
        )
    return base / "sandbox-agent"


@cache
def _ignored(given: str, base: str) -> None:
    """Says once that a value of XDG_STATE_HOME has no effect."""
    notify(
        f"XDG_STATE_HOME is {given!r}, which is not absolute and so has no effect: runs are kept "
        f"in {base}/sandbox-agent\n  hint: write the whole path, or name a folder with --out"
    )


_RUN_ID = r"[0-9]{8}T[0-9]{9}-[0-9a-f]{6}"


def is_run_id(name: str) -> bool:
    """Whether a name has the form that `new_run_id` gives."""
    return re.fullmatch(_RUN_ID, name) is not None


def new_run_id() -> str:
    """A new id. Ids sort by time: UTC to the millisecond, then random digits."""
    now = datetime.now(UTC)
    return f"{now:%Y%m%dT%H%M%S}{now.microsecond // 1000:03d}-{os.urandom(3).hex()}"


def make_run_folder(path: Path) -> None:
    """Make a run's folder with mode 0700. Raises FileExistsError if it is there, and OSError."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.mkdir(mode=0o700)


def place_of_run(
    output_dir: Path | str | None, run_dir: Path | str | None
) -> tuple[Path, str | None]:
    """The folder of a new run, and its id if the folder is the one that the user named for it
    (run_dir). output_dir: of run folders; None for the default. Raises ConfigError."""
    for field, path in (("output_dir", output_dir), ("run_dir", run_dir)):
        if path is not None and not str(path):
            raise ConfigError("is empty", field=field, hint="name a folder, or leave it out")
    if run_dir is None:
        return Path(output_dir or default_output_dir()).absolute() / new_run_id(), None
    folder = Path(run_dir).absolute()
    refuse_used(folder)
    return folder, new_run_id()


def claim_run_folder(path: Path) -> None:
    """Make the folder that the user named for one run, unless it is there and empty. Of several
    runs that name it at the same time, one gets it: open(2), O_EXCL.

    The journal is made. Raises ConfigError if the folder is not empty, and OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
    refuse_used(path)
    try:
        os.close(
            os.open(path / JOURNAL_FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        )
    except FileExistsError:
        raise _used(path, "was taken by another run at the same moment") from None


def refuse_used(path: Path) -> None:
    """Raises ConfigError if the folder that the user named for a run is there, and is not empty or
    not the user's own."""
    try:
        names = os.listdir(path)
        if path.is_symlink():
            raise _used(path, "is a link, which a tool may have made")
        if os.geteuid() not in (0, path.stat().st_uid):
            raise _used(path, "belongs to another user")
    except FileNotFoundError:
        return
    except OSError as error:
        raise _used(path, f"cannot be read: {error.strerror}") from None
    if JOURNAL_FILE in names:
        raise _used(path, "holds a run already", f"`sandbox-agent resume {path}` continues it; ")
    if names:
        raise _used(path, "is not empty")


def _used(path: Path, what: str, other: str = "") -> ConfigError:
    hint = f"{other}name a folder that is not there, or remove this one"
    return ConfigError(f"{path} {what}", field="output.run_dir", hint=hint)


def unwritable(what: str, error: OSError) -> AgentError:
    """Why a run cannot begin. what: says what cannot be done.

    The user named a wrong folder, or the host has no disk, descriptors or memory left for it.
    """
    if is_fault_of_host(error):
        return NotRecorded(f"the run cannot be recorded: {what}: {error.strerror}")
    hint = "name a folder that you may write to, with --out"
    if error.errno == errno.EACCES and _umask() & 0o300:
        hint = f"the umask {_umask():04o} shuts your own folders to you: choose another (umask 077)"
    return ConfigError(f"{what}: {error.strerror}", field="output.dir", hint=hint)


def _umask() -> int:
    """This process's umask. umask(2) could only read it by changing it."""
    with suppress(OSError), open("/proc/self/status", encoding="utf-8", errors="replace") as status:
        for line in status:
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    return 0


def is_fault_of_host(error: OSError) -> bool:
    """Whether the disk or the host failed, and not the user who named a file."""
    return error.errno in _FAULTS_OF_THE_HOST


_FAULTS_OF_THE_HOST = (
    errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE,
    errno.ENOLCK, errno.EFBIG,
)  # fmt: skip


def leads_out(path: Path, workspace: Path) -> bool:
    """Whether a path that begins in the workspace leads out of it, by a link that a tool of an
    earlier run may have made."""
    inside = Path(os.path.abspath(path)).is_relative_to(Path(os.path.abspath(workspace)))
    return inside and not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(workspace))


def hidden_from_tools(folder: Path, workspace: Path) -> list[Path]:
    """The folders that a run's tools must not reach: the output folder with all runs, and the
    default one, whose runs `resume` finds by their names. If the first contains the workspace, only
    this run's folder of it. folder: of the run; of one that the user has named, what lies beside it
    is no run.

    Raises ConfigError if the workspace is in the run's folder, if it is the folder of run folders,
    or if a link in the workspace leads to the run's folder.
    """
    if leads_out(folder, workspace):
        raise ConfigError(
            f"{folder}: a link in the workspace leads out of it, and a tool may have made it",
            field="output.run_dir",
            hint="remove the link, or name the folder that it leads to",
        )
    output_dir = folder.parent if is_run_id(folder.name) else folder
    real = Path(os.path.realpath(folder))
    if real == workspace or real in workspace.parents:
        raise ConfigError(
            f"{folder} contains the workspace, and tools must not see the record",
            field="output.run_dir",
            hint="name a folder in the workspace or elsewhere",
        )
    if os.path.realpath(output_dir) == os.path.realpath(workspace):
        raise ConfigError(
            f"{output_dir} is the workspace: a tool could put a folder there that is taken for a"
            " run",
            field="output.dir",
            hint="name a folder in the workspace, such as runs, or one elsewhere",
        )
    hidden = [folder if output_dir in workspace.parents else output_dir]
    with suppress(ConfigError):  # there is no home folder, and so no default
        hidden.append(default_output_dir())
    return list(dict.fromkeys(hidden))


def refuse_foreign(journal: Path) -> None:
    """Raises ConfigError for a run that another user has written or could have written: who resumes
    a run does what its journal says. Raises OSError."""
    for path in (journal.parent, journal):
        status = os.stat(path)
        if status.st_uid != os.geteuid():
            raise ConfigError(
                f"{path} belongs to {_account(status.st_uid)}, not to you; a run does what its"
                " journal says",
                field="RUN",
                hint="resume it as that user; or look into it, and make a copy of the folder",
            )
        # Many systems give each user a group of the same number, with no other member.
        groups = stat.S_IWGRP if status.st_gid != status.st_uid else 0
        if status.st_mode & (stat.S_IWOTH | groups):
            raise ConfigError(
                f"{path} can be written by other users (mode {status.st_mode & 0o7777:04o}); a run"
                " does what its journal says",
                field="RUN",
                hint=f"look into it, then chmod go-w {path}",
            )


def _account(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
