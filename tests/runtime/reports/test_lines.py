"""Plain lines: one an event, and the end of the output of what failed."""

from __future__ import annotations

import time

import pytest
from live import begun, ended, turn, usage
from sandbox_agent.journal import events
from sandbox_agent.reports.escape import last_lines
from sandbox_agent.reports.lines import Progress
from sandbox_agent_sandbox.outcome import Outcome


def said(*heard: events.AnyEvent, verbose: bool = False) -> list[str]:
    progress = Progress(verbose=verbose)
    return [line for one in heard if (line := progress.line(one)) is not None]


@pytest.mark.parametrize("outcome", [Outcome.ERROR, Outcome.TIMEOUT, Outcome.CRASHED])
def test_of_a_call_that_failed_the_last_lines_are_shown(outcome: Outcome) -> None:
    content = "".join(f"line {n}\n" for n in range(100))
    [line] = said(ended("call_1_1", 2, outcome, exit_status=2, content=content))
    assert line.split("\n") == [
        f"  call_1_1 {outcome.value}, exit status 2",
        *[f"    | line {n}" for n in range(80, 100)],
    ]


def test_one_line_stays_one() -> None:
    [line] = said(ended("call_1_1", 2, Outcome.ERROR, exit_status=2, content="No rule.\n"))
    assert line == "  call_1_1 error, exit status 2: No rule."


def test_a_reason_stands_before_the_output() -> None:
    [line] = said(ended("call_1_1", 2, Outcome.TIMEOUT, detail="its time was up", content="a\nb"))
    assert line == "  call_1_1 timeout: its time was up\n    | a\n    | b"


def test_what_was_stopped_and_what_succeeds_is_one_line() -> None:
    assert said(
        ended("call_1_1", 2, content="a\nb"),
        ended("call_1_2", 2, Outcome.KILLED, detail="interrupt", content="a\nb"),
    ) == ["  call_1_1 ok", "  call_1_2 killed: interrupt"]


def test_verbose_says_what_the_model_thinks_and_what_calls_print() -> None:
    heard = [
        turn(1, 1, "ls", text="I\nlook.", reasoning="Hm.", usage=usage(1200)),
        *begun("call_1_1", 1),
        ended("call_1_1", 2, content="a\nb"),
    ]
    assert said(*heard) == ["turn 1: I look.", "  call_1_1 shell command='ls'", "  call_1_1 ok"]
    assert said(*heard, verbose=True) == [
        "turn 1 thinks:\n    | Hm.\nturn 1:\n    | I\n    | look.\nturn 1 used 1,200 tokens",
        "  call_1_1 shell command='ls'",
        "  call_1_1 ok\n    | a\n    | b",
    ]


def test_last_lines_are_escaped_bounded_and_cheap() -> None:
    assert last_lines("") == last_lines("\n\n") == []
    assert last_lines("a\n\nb\n\n") == ["a", "", "b"]
    assert last_lines("10%\r20%\r\nend") == ["20%", "end"]
    assert last_lines("\x1b[2J::add-mask::x\u202e") == ["\\x1b[2J::add-mask::x\\u202e"]
    begin = time.process_time()
    for text in ("\x1b" * 8_000_000, "\x1b\n" * 4_000_000, "\x1b\r" * 4_000_000):
        lines = last_lines(text)
        assert len(lines) <= 20 and all(len(line) <= 203 for line in lines)
    assert time.process_time() - begin < 0.5


def test_a_line_of_what_failed_is_no_command_of_a_ci_system() -> None:
    """They are looked for at the beginning of a line, behind white space too."""
    content = "::add-mask::x\n  ::error::y\n"
    [line] = said(ended("call_1_1", 2, Outcome.ERROR, content=content))
    assert not [one for one in line.split("\n") if one.lstrip().startswith("::")]
