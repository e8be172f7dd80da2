"""The folders of runs: `<output dir>/<run id>/`, readable by their owner only."""

from __future__ import annotations

import os
import secrets
from datetime import UTC, datetime
from pathlib import Path

from sandbox_agent.errors import ConfigError

OUTPUT_FOLDER = "output"
"""The folder in a run folder for output that was too long for the model."""


def default_output_dir() -> Path:
    """`$XDG_STATE_HOME/sandbox-agent`, or `~/.local/state/sandbox-agent`. The XDG base directory
    specification says to ignore a relative value. Raises ConfigError if there is no home folder."""
    base = Path(os.environ.get("XDG_STATE_HOME", ""))
    if not base.is_absolute():
        base = Path(os.path.expanduser("~"), ".local", "state")
    if not base.is_absolute():
        raise ConfigError(
            "there is no home folder to keep runs in",
            field="output.dir",
            hint="set HOME or XDG_STATE_HOME, or name a folder (--out)",
        )
    return base / "sandbox-agent"


def new_run_id() -> str:
    """A new id. Ids sort by time: UTC to the millisecond, then random digits."""
    now = datetime.now(UTC)
    return f"{now:%Y%m%dT%H%M%S}{now.microsecond // 1000:03d}-{secrets.token_hex(3)}"


def make_run_folder(path: Path) -> None:
    """Make a run's folder with mode 0700. Raises FileExistsError if it is there, and OSError."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.mkdir(mode=0o700)


def hidden_from_tools(folder: Path, output_dir: Path, workspace: Path) -> list[Path]:
    """The folders that a run's tools must not see: the output folder with all runs. If it contains
    the workspace, only this run's folder."""
    if workspace == output_dir or output_dir in workspace.parents:
        return [folder]
    return [output_dir]
