"""Where runs are kept: `<output dir>/<run id>/`, for nobody else to read."""

from __future__ import annotations

import os
import secrets
from datetime import UTC, datetime
from pathlib import Path

from sandbox_agent.errors import ConfigError

OUTPUT = "output"
"""The folder, inside a run's, of output that was too long for the model."""


def default_output_dir() -> Path:
    """`$XDG_STATE_HOME/sandbox-agent`, or `~/.local/state/sandbox-agent`; XDG base directories
    specification, which has a relative value ignored. Raises ConfigError without a home."""
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
    """Sorts by time: UTC to the millisecond, then something that no other run has."""
    now = datetime.now(UTC)
    return f"{now:%Y%m%dT%H%M%S}{now.microsecond // 1000:03d}-{secrets.token_hex(3)}"


def make_run_folder(path: Path) -> None:
    """Make a run's folder, 0700. Raises FileExistsError rather than mix two runs, and OSError."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.mkdir(mode=0o700)


def hidden_from_tools(folder: Path, output_dir: Path, workspace: Path) -> list[Path]:
    """What a run's tools must not see: this run's folder and, unless the workspace is in there
    too, those of all others."""
    if workspace == output_dir or output_dir in workspace.parents:
        return [folder]
    return [output_dir]
