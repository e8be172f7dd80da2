"""A run as text: all that a person asks about a run, escaped and masked."""

from __future__ import annotations

from pathlib import Path

import made_runs
from made_runs import HOSTILE, Clock
from sandbox_agent.journal.events import (
    AgentsFile,
    AnyEvent,
    CancelRequested,
    Dispatching,
    Started,
    UserText,
)
from sandbox_agent.reports.report import Report, report_of
from sandbox_agent.reports.runs.text import text_of
from sandbox_agent_ipc.messages import Image
from sandbox_agent_sandbox.outcome import Outcome, Rung, Survivor

CLOCK = Clock()


def plain(text: str) -> str:
    return text


def shown(*events: AnyEvent, held: bool = False, **options: bool) -> str:
    report = report_of(made_runs.ID, Path("/runs", made_runs.ID), events)
    report.is_held = held
    return "\n".join(text_of(report, plain, **options))


def test_the_whole_text_of_a_failed_run() -> None:
    last = "\n".join(f"  | line {number}" for number in range(11, 31))
    assert (
        shown(*made_runs.failed_run())
        == f"""\
run       {made_runs.ID}
name      fix
status    failed: verify failed: pytest -q (exit code 1)
model     scripted:steps.yaml
begun     2026-11-28 10:00:00 UTC
time      4.20 s
used      2 turns, 1 call, 300 tokens, $0.0300
workspace /work
record    /runs/{made_runs.ID}

user
  Make pytest pass.

turn 1: after 1.00 s, 100 tokens, $0.0100
  I look.
  call_1_1 shell command="ls -la"
    ok, 0.40 s
    | total 0

turn 2: after 3.00 s, 200 tokens, $0.0200
  Done.

verify_1_1 verify pytest -q
  FAILED, exit status 1, 1.00 s
  | ... (10 earlier lines left out)
{last}

failed: verify failed: pytest -q (after 4.20 s, exit code 1)"""
    )


def test_the_whole_is_shown_when_asked_for() -> None:
    text = shown(*made_runs.failed_run(), whole=True)
    assert "| line 1\n" in text and "left out" not in text


def test_an_interrupted_call_has_its_rung_its_time_and_its_survivors() -> None:
    survivor = Survivor(77, "dd if=/dev/zero\x1b[2J")
    text = shown(
        made_runs.opened(CLOCK),
        CLOCK(UserText, text="Go."),
        made_runs.begun(CLOCK),
        made_runs.turn(CLOCK, 1, 1.0, made_runs.shell("a", "sleep 99")),
        *made_runs.made(
            CLOCK, "a", 1.0, 4.0, outcome=Outcome.KILLED, rung=Rung.KILL,
            rungs_ms={"flag": 0.0, "kill": 3000.0, "ended": 3011.2}, survivors=(survivor,),
            detail="interrupt",
        ),
        CLOCK(CancelRequested, 0.5, reason="interrupt"),
        made_runs.ended(CLOCK, 4.1, "error", 7, reason="not stopped", survivors=(survivor,)),
    )  # fmt: skip
    assert "killed, 3.00 s, stopped in 3011 ms (kill), COULD NOT STOP 77 (dd" in text
    assert "survivor  could not stop pid 77: dd if=/dev/zero\\x1b[2J" in text
    assert text.index("stopping the run (interrupt) after 0.50 s") < text.index("turn 1:")


def test_segments_are_told_apart_and_a_lost_one_says_so() -> None:
    first, second = made_runs.failed_run(), Clock(monotonic=5.0)
    text = shown(
        *first,
        second(UserText, text="Again."),
        made_runs.begun(second, 2),
        made_runs.turn(second, 3, 1.0, made_runs.shell("c", "make"), text="Again!"),
        second(Dispatching, 1.1, call="c", tool="shell"),
        second(Started, 1.2, call="c"),
    )
    assert "status    lost: its agent died before the end" in text
    assert "segment 1 2026" in text and "segment 2, resumed 2026" in text
    assert "has no end (started)" in text
    assert text.endswith("no end: its agent (process 4242) died after 1.20 s")
    assert text.index("segment 2") < text.index("Again.") < text.index("Again!")
    going = shown(*first, made_runs.begun(second, 2), held=True)
    assert "status    running" in going and going.endswith("the run goes on")


def test_what_no_segment_has_heard_yet_stands_at_the_end() -> None:
    text = shown(*made_runs.failed_run(), CLOCK(UserText, text="And the docs?"))
    assert text.endswith("(after 4.20 s, exit code 1)\n\nuser\n  And the docs?")


def test_what_was_never_begun_is_shown_too() -> None:
    text = shown(made_runs.opened(CLOCK), CLOCK(UserText, text="Go."))
    assert "status    idle: no segment of it has begun" in text and text.endswith("user\n  Go.")
    assert "run       " in shown()


def test_what_the_model_was_told_of_agents_md_is_named() -> None:
    for told, what in ((900, "900 bytes of 5.0 kB"), (5000, "all of it")):
        text = shown(
            made_runs.begun(CLOCK, agents_md=AgentsFile("/project/AGENTS.md", 5000, told, ""))
        )
        assert f"told      /project/AGENTS.md, {what}\n" in text


def test_a_call_that_no_turn_has_made_is_shown() -> None:
    text = shown(made_runs.begun(CLOCK), *made_runs.made(CLOCK, "box_1", 1.0, 2.0, "hello"))
    assert "box_1 shell\n  ok, 1.00 s\n  | hello" in text


def test_images_lost_files_and_long_output_are_named() -> None:
    text = shown(
        made_runs.begun(CLOCK),
        made_runs.turn(CLOCK, 1, 1.0, made_runs.shell("a", "x")),
        *made_runs.made(
            CLOCK, "a", 1.0, 2.0, "y" * 50_000, output_file="output/a.txt",
            images=(Image("image/png", b"12345"),), private_files=("/tmp/x\n",),
        ),
    )  # fmt: skip
    assert "an image (image/png, 5 bytes)" in text and "lost with the sandbox: /tmp/x" in text
    assert "all of it: output/a.txt" in text and "characters left out" in text
    assert max(map(len, text.splitlines())) < 250


def test_hostile_text_is_escaped_wherever_it_stands() -> None:
    events = [
        made_runs.opened(CLOCK, HOSTILE, model=HOSTILE),
        CLOCK(UserText, text=HOSTILE),
        made_runs.begun(CLOCK),
        made_runs.turn(
            CLOCK, 1, 1.0, made_runs.shell(HOSTILE, HOSTILE), text=HOSTILE, finish_reason=HOSTILE,
            reasoning=HOSTILE,
        ),
        *made_runs.made(
            CLOCK, HOSTILE, 1.0, 2.0, HOSTILE * 2000, command=HOSTILE, detail=HOSTILE,
            outcome=Outcome.ERROR, output_file=HOSTILE, private_files=(HOSTILE,),
        ),
        CLOCK(CancelRequested, 1.0, reason=HOSTILE, call=HOSTILE),
        made_runs.ended(CLOCK, 3.0, HOSTILE, 1, reason=HOSTILE),
    ]  # fmt: skip
    for whole in (False, True):
        text = shown(*events, whole=whole)
        assert not set(text) & set("\x1b\0\x07\x9b\u202e\u2028\r")


def test_secrets_are_masked_in_every_place() -> None:
    secret = "hunter2hunter2"
    events = made_runs.failed_run(name=secret)
    said = [
        CLOCK(UserText, text=secret),
        made_runs.turn(CLOCK, 3, 1.0, made_runs.shell("b", secret), text=secret),
        *made_runs.made(CLOCK, "b", 1.0, 2.0, f"key: {secret}\n" * 30, detail=secret),
    ]
    report: Report = report_of(secret, Path(secret), [*events[:-1], *said, events[-1]])
    lines = text_of(report, lambda text: text.replace(secret, "***"), whole=True)
    text = "\n".join(lines)
    assert secret not in text and text.count("***") > 30
