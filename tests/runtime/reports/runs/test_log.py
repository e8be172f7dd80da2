"""What happened in a run, event by event, with the whole output of calls."""

from __future__ import annotations

from pathlib import Path

import made_runs
from made_runs import HOSTILE, Clock
from sandbox_agent.journal.events import AnyEvent, CancelRequested, Ended, UserText
from sandbox_agent.reports.report import Report
from sandbox_agent.reports.runs.log import log_lines, output_text
from sandbox_agent_sandbox.outcome import Outcome, StartedState

CLOCK = Clock()


def log(folder: Path, *events: AnyEvent) -> list[str]:
    report, lines = Report(made_runs.ID, folder), []
    for event in events:
        report.apply(event)
        lines += log_lines(report, event, lambda text: text.replace("secret", "***"))
    return lines


def test_the_log_of_a_run(tmp_path: Path) -> None:
    lines = log(tmp_path, *made_runs.failed_run())
    assert lines[:7] == [
        "user: Make pytest pass.",
        f"run {made_runs.ID}: scripted:steps.yaml",
        "turn 1: I look.",
        'call_1_1 shell command="ls -la"',
        "| total 0",
        "call_1_1 ok, 0.40 s",
        "turn 2: Done.",
    ]
    assert lines[8:38] == [f"| line {number}" for number in range(1, 31)]
    assert lines[-2:] == [
        "verify: FAILED: pytest -q", "failed: verify failed: pytest -q (exit code 1)"
    ]  # fmt: skip


def long(folder: Path, content: bytes | None) -> Ended:
    (folder / "output").mkdir()
    if content is not None:
        (folder / "output" / "a.txt").write_bytes(content)
    return CLOCK(
        Ended, call="a", outcome=Outcome.OK, started=StartedState.YES, content="head secret tail",
        output_file="output/a.txt",
    )  # fmt: skip


def test_a_long_output_comes_whole_from_its_file(tmp_path: Path) -> None:
    event = long(tmp_path, b"all of it, the secret and \xff\n" * 5)
    text = output_text(Report("r", tmp_path), event, lambda text: text.replace("secret", "***"))
    assert text == "all of it, the *** and \ufffd\n" * 5


def test_an_output_whose_file_is_gone_is_what_the_model_got_and_says_so(tmp_path: Path) -> None:
    event = long(tmp_path, None)
    text = output_text(Report("r", tmp_path), event, lambda text: text.replace("secret", "***"))
    assert text.startswith("head *** tail\n[output/a.txt has the rest, and cannot be read: No such")


def test_what_a_tool_prints_cannot_pass_for_a_line_of_the_log(tmp_path: Path) -> None:
    output = f"verify: passed: pytest\r\ncall_1_2 ok\n::error::x\n{HOSTILE}"
    events = (
        made_runs.begun(CLOCK),
        CLOCK(UserText, text=f"one\n{HOSTILE}"),
        made_runs.turn(CLOCK, 1, 1.0, made_runs.shell("a", HOSTILE), text=HOSTILE),
        *made_runs.made(CLOCK, "a", 1.0, 2.0, output),
        CLOCK(CancelRequested, 2.0, reason=HOSTILE),
        made_runs.ended(CLOCK, 2.0, HOSTILE, reason=HOSTILE),
    )
    lines = log(tmp_path, *events)
    assert {"| verify: passed: pytest", "| call_1_2 ok", "| ::error::x"} <= set(lines)
    assert not any(line.startswith(("verify", "::", "call_1_2")) for line in lines)
    assert not set("".join(lines)) & set("\x1b\0\x07\x9b\u202e\u2028\r\n")
