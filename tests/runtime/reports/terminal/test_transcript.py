"""What has happened stays above the view, in lines."""

from __future__ import annotations

import time
from typing import Any

from live import begun, ended, event, segment, turn, usage
from msgspec.structs import replace
from rich.cells import cell_len
from sandbox_agent.journal import events
from sandbox_agent.reports.terminal import transcript
from sandbox_agent.reports.terminal.live_run import LiveRun
from sandbox_agent.reports.terminal.look import Look
from sandbox_agent_sandbox.outcome import Outcome, Rung, Survivor


def shown(*heard: events.AnyEvent, columns: int = 80, **options: Any) -> list[str]:
    run, lines = LiveRun({}), []
    for one in heard:
        call = run.apply(one)
        lines += transcript.lines(one, call, Look(columns, colour=False), **options)
    return [line.plain.rstrip() for line in lines]


def failing(content: str) -> list[events.AnyEvent]:
    end = ended("call_1_1", 3.3, Outcome.ERROR, exit_status=2, content=content)
    return [segment(), turn(1, 1, "make test"), *begun("call_1_1", 1), end]


def test_calls_that_ended() -> None:
    assert shown(
        segment(),
        turn(1, 1, "make", "sleep 60", text="I build it,\nand wait."),
        *begun("call_1_1", 1),
        *begun("call_1_2", 1),
        ended("call_1_1", 2.5),
        event(events.CancelRequested, 3, reason="interrupt"),
        ended(
            "call_1_2", 4, Outcome.KILLED, rung=Rung.KILL, rungs_ms={"kill": 1011.0},
            survivors=(Survivor(7, "sleep"),),
        ),
    ) == [
        "I build it,",
        "and wait.",
        "✓ call_1_1 shell make  1.5 s",
        "■ stopping the run (interrupt)",
        "■ call_1_2 shell sleep 60  COULD NOT STOP 7  killed, 1011 ms (kill)  3.0 s",
    ]  # fmt: skip


def test_a_plan_that_is_not_full_comes_first() -> None:
    weaker = {"kind": "shared_proc", "levels": {"read": "enforced"}, "missing": {"hide": "why"}}
    lines = " ".join(shown(replace(segment(), plan=weaker)))
    assert lines.startswith("plan shared_proc: namespaces, without a /proc of its own")
    assert "MISSING, as --allow-degraded allows: sandbox.hide" in lines
    assert shown(replace(segment(), plan={"kind": "full"})) == []


def test_of_what_failed_the_last_lines_are_shown() -> None:
    content = "".join(f"line {n}\n" for n in range(100))
    assert shown(*failing(content)) == [
        "✗ call_1_1 shell make test  exit status 2  2.3 s",
        *[f"  │ line {n}" for n in range(80, 100)],
    ]
    assert shown(*failing(content), columns=40)[0] == "✗ shell make test  exit status 2  2.3 s"


def test_verify_and_its_last_lines() -> None:
    assert shown(
        segment(),
        *begun("verify_1_1", 1, command="make test"),
        ended("verify_1_1", 2, Outcome.ERROR, exit_status=1, content="1 failed\n"),
        event(events.Verified, 2, command="make test", call="verify_1_1", passed=False),
    ) == [
        "✗ verify make test  exit status 1  1.0 s",
        "  │ 1 failed",
        "✗ verify FAILED: make test",
    ]


def test_verbose_says_more_and_the_final_message_is_not_said_twice() -> None:
    heard = [
        segment(),
        turn(1, 1, "ls", reasoning="Hm.", text="Look.", usage=usage(1200, 0.5)),
        *begun("call_1_1", 1),
        ended("call_1_1", 2, content="a\nb\n"),
        turn(2, 3, text="Done.", final=True),
    ]
    assert shown(*heard) == ["Look.", "✓ call_1_1 shell ls  1.0 s"]
    assert shown(*heard, verbose=True) == [
        "  Hm.", "Look.", "turn 1 · 1.2k tokens · $0.5000",
        "✓ call_1_1 shell ls  1.0 s", "  │ a", "  │ b", "turn 2",
    ]  # fmt: skip


def test_hostile_text_controls_nothing_and_costs_little() -> None:
    hostile = "\x1b]52;c;aGk=\x07\x1b[2J\u202e\r" * 600_000
    begin = time.process_time()
    look = Look(80)
    run, lines = LiveRun({}), []
    name = events.ToolCall("call_1_1", hostile, {hostile: hostile})
    heard = [
        event(events.JournalOpened, 0, version=2, run=hostile[:100]),
        segment(),
        event(
            events.TurnTaken, 1, turn=1, text=hostile, final=False, calls=(name,), reasoning=hostile
        ),
        *begun("call_1_1", 1, tool=hostile),
        ended("call_1_1", 2, Outcome.ERROR, content=hostile, detail=hostile),
        event(events.Verified, 2, command=hostile, call="verify_1_1", passed=False),
    ]
    for one in heard:
        lines += transcript.lines(one, run.apply(one), look, verbose=True)
    assert time.process_time() - begin < 1
    for line in lines:
        assert cell_len(line.plain) < 80
        assert not [c for c in line.plain if ord(c) < 32 or c == "\u202e"]
