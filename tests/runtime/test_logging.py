"""The logger `sandbox_agent`: what it says, and that it says nothing unless asked."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import observer
import paths
import pytest
from talking import FINAL, Watch, shell, soon, talk


def test_a_run_is_logged_from_its_start_to_its_end(
    tmp_path: Path, watch: Watch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="sandbox_agent")
    stubborn = f"trap '' INT TERM; echo up; sleep 300.{observer.new_mark()} & wait; wait"

    with talk(tmp_path, watch, shell(stubborn), FINAL, interrupt=(0.05, 0.05)) as conv:
        soon(lambda: (watch.wait_up(), conv.interrupt()))
        conv.run()
    run = conv.run_dir.name
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", f"sandbox opened for {tmp_path / 'work'}"),
        ("INFO", f"run {run}: started, model scripted"),
        ("WARNING", f"run {run}: call_1_1 was ended by SIGKILL"),
        ("INFO", f"run {run}: ended as interrupted, exit code 130: interrupted"),
    ]


def test_what_a_callback_raises_is_logged(
    tmp_path: Path, watch: Watch, caplog: pytest.LogCaptureFixture
) -> None:
    def shout(event: object) -> None:
        raise ValueError("no")

    with (
        talk(tmp_path, watch, FINAL, on_event=shout) as conv,
        pytest.warns(RuntimeWarning, match="on_event raised"),
    ):
        conv.run()
    assert {record.getMessage() for record in caplog.records} == {
        "on_event raised ValueError('no'); the run goes on"
    }


def test_nothing_is_printed_unless_logging_is_configured(tmp_path: Path) -> None:
    code = f"""
import sys
sys.path[:0] = {paths.IMPORT_PATHS!r}
from pathlib import Path
from talking import FINAL, Watch, shell, soon, talk
watch = Watch()
stubborn = "trap '' INT TERM; echo up; sleep 300.{observer.new_mark()} & wait; wait"
with talk(Path({str(tmp_path)!r}), watch, shell(stubborn), FINAL, interrupt=(0.05, 0.05)) as conv:
    soon(lambda: (watch.wait_up(), conv.interrupt()))
    print(conv.run().status)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("interrupted\n", "")
