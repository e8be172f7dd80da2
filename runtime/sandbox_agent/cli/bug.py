"""Reports a bug in sandbox-agent: a short message, and the traceback in a file."""

from __future__ import annotations

import os
import traceback
from pathlib import Path

from sandbox_agent.cli.console import Console, is_on
from sandbox_agent.reports.escape import one_line


def report(error: BaseException, console: Console, run_dir: Path | None) -> None:
    """Reports `error` on standard error. run_dir: the folder of the run, if there is one.

    The traceback goes to `traceback.txt` in run_dir, and to standard error if
    SANDBOX_AGENT_DEBUG=1 is set.
    """
    text = "".join(traceback.format_exception(error))
    where = "set SANDBOX_AGENT_DEBUG=1 to see the traceback"
    if run_dir is not None:
        path = run_dir / "traceback.txt"
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with open(fd, "w", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text)
            where = f"the traceback is in {path}"
        except OSError:
            pass
    if is_on("SANDBOX_AGENT_DEBUG"):
        console.err(text)
    summary = one_line(f"{type(error).__name__}: {error}")
    console.error(f"this is a bug of sandbox-agent: {summary}\n  hint: report it; {where}")
