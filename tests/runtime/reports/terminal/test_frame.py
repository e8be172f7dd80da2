"""What is going on at this moment, in as many lines as there are."""

from __future__ import annotations

import time
from itertools import product

import pytest
from live import BEGIN, begun, ended, event, segment, turn, usage
from rich.cells import cell_len
from sandbox_agent.journal import events
from sandbox_agent.models import DeltaKind, ModelDelta
from sandbox_agent.reports.terminal.frame import frame
from sandbox_agent.reports.terminal.live_run import LiveRun
from sandbox_agent.reports.terminal.look import Look, Painter
from sandbox_agent.reports.terminal.tail import OutputTail


def run_of(*heard: events.AnyEvent | ModelDelta, **output: bytes) -> LiveRun:
    """A run after these events. output: of calls, by id."""
    tails: dict[str, OutputTail] = {}
    for call, data in output.items():
        tails[call] = OutputTail()
        tails[call].feed(data)
    run = LiveRun(tails)
    for one in heard:
        run.hear(one) if isinstance(one, ModelDelta) else run.apply(one)
    return run


def shown(run: LiveRun, seconds: float, columns: int = 80, rows: int = 24) -> list[str]:
    return [line.plain for line in frame(run, BEGIN + seconds, rows, Look(columns, colour=False))]


def test_calls_their_time_and_the_end_of_their_output() -> None:
    run = run_of(
        segment(),
        turn(1, 1, "make test", "sleep 60", usage=usage(12_345, 0.0123)),
        *begun("call_1_1", 1, timeout=120.0),
        *begun("call_1_2", 2),
        call_1_1=b"test_a ok\ntest_b \x1b[2J\n",
    )
    assert shown(run, 13) == [
        "• shell make test   12 s of 2:00",
        "  │ test_a ok",
        "  │ test_b \\x1b[2J",
        "• shell sleep 60   11 s",
        "turn 1 of 40 · 12.3k tokens of 200k · $0.0123 of $2.00 · 13 s of 20:00",
    ]
    assert shown(run, 13, columns=40) == [
        "• shell make test   12 s of 2:00",
        "  │ test_a ok",
        "  │ test_b \\x1b[2J",
        "• shell sleep 60   11 s",
        "turn 1 · 12.3k tokens · $0.0123 · 13 s",
    ]
    run.apply(ended("call_1_1", 14))
    assert shown(run, 14)[0] == "• shell sleep 60   12 s"


def test_what_the_model_says_as_it_comes() -> None:
    run = run_of(segment())
    assert shown(run, 3)[0] == "• waiting for the model  3.0 s"
    run.hear(ModelDelta(DeltaKind.REASONING, "Hm."))
    assert shown(run, 3)[:2] == ["• the model thinks  3.0 s", "  Hm."]
    run.hear(ModelDelta(DeltaKind.TEXT, "I look at "))
    run.hear(ModelDelta(DeltaKind.TEXT, "the tests."))
    assert shown(run, 3)[:2] == ["• the model says  3.0 s", "  I look at the tests."]
    run.hear(ModelDelta(DeltaKind.RESTART, ""))
    assert shown(run, 3)[0] == "• waiting for the model  3.0 s"
    run.hear(ModelDelta(DeltaKind.CALL, 'shell{"command": "ls"}'))
    assert shown(run, 3)[:2] == ["• the model writes a call  3.0 s", '  shell{"command": "ls"}']
    run.apply(turn(1, 4, text="I look."))
    assert shown(run, 4)[0] == "• waiting for the model  0.0 s"


def test_of_a_long_answer_the_end_is_shown() -> None:
    run = run_of(segment())
    run.hear(ModelDelta(DeltaKind.TEXT, " ".join(f"word{n}" for n in range(10_000))))
    lines = shown(run, 1)
    assert len(lines) == 8
    assert lines[-2].endswith("word9999")


def test_the_progress_of_verify() -> None:
    run = run_of(segment(), turn(1, 1, final=True))
    for one in begun("verify_1_1", 2, tool="shell", command="make test"):
        run.apply(one)
    assert shown(run, 3)[0] == "• verify 1 of 2 make test  1.0 s"
    run.apply(ended("verify_1_1", 4))
    run.apply(event(events.Verified, 4, command="make test", call="verify_1_1", passed=True))
    for one in begun("verify_1_2", 4, tool="shell", command="make lint"):
        run.apply(one)
    assert shown(run, 5)[0] == "• verify 2 of 2 make lint  1.0 s"


@pytest.mark.parametrize(
    ("seconds", "second_signal", "shown_as"),
    [
        (0.8, None, "interrupting: 1.2 s of grace left; Ctrl-C again skips it"),
        (2.25, None, "interrupting: SIGTERM was sent; SIGKILL in 0.8 s"),
        (3.5, None, "interrupting: SIGKILL was sent; waiting for the proof that all has ended"),
        (0.8, 0.5, "interrupting: SIGTERM was sent; SIGKILL in 0.7 s"),
        (1.6, 0.5, "interrupting: SIGKILL was sent; waiting for the proof that all has ended"),
        (2.5, 2.4, "interrupting: SIGTERM was sent; SIGKILL in 0.5 s"),
    ],
)
def test_the_ladder(seconds: float, second_signal: float | None, shown_as: str) -> None:
    run = run_of(
        segment(), turn(1, 1, "sleep 60"), *begun("call_1_1", 1),
        event(events.CancelRequested, 10, reason="interrupt"),
    )  # fmt: skip
    run.hurried = None if second_signal is None else BEGIN + 10 + second_signal
    assert shown(run, 10 + seconds)[-1] == shown_as


def test_a_stop_by_a_budget_says_so() -> None:
    run = run_of(segment(), event(events.CancelRequested, 10, reason="budget"))
    assert shown(run, 10.5)[-1] == ("stopping (budget): 1.5 s of grace left; Ctrl-C twice skips it")
    assert shown(run, 10.5, columns=40)[-2:] == [
        "stopping (budget): 1.5 s of grace left;", "Ctrl-C twice skips it"
    ]  # fmt: skip


@pytest.mark.parametrize("calls", [0, 1, 2, 8, 64])
def test_it_fits_into_every_terminal(calls: int) -> None:
    names = [f"call_1_{place}" for place in range(1, calls + 1)]
    run = run_of(
        segment(),
        turn(1, 1, *["x" * 300] * calls),
        *[one for name in names for one in begun(name, 1)],
        event(events.CancelRequested, 10, reason="interrupt"),
        ModelDelta(DeltaKind.TEXT, "word " * 1000),
        **dict.fromkeys(names, b"line\n" * 100),
    )
    for rows, columns in product((1, 2, 3, 5, 10, 24, 100), (1, 10, 40, 80, 200)):
        lines = shown(run, 11, columns, rows)
        assert 1 <= len(lines) <= max(2, rows - 1), (rows, columns)
        assert all(cell_len(line) < max(2, columns) for line in lines), (rows, columns)


def test_eight_megabytes_of_escapes_cost_little() -> None:
    """64 calls that print nothing else, in pieces as they come, and ten frames a second."""
    names = [f"call_1_{place}" for place in range(1, 65)]
    run = run_of(segment(), turn(1, 1, *["x"] * 64), *[o for n in names for o in begun(n, 1)])
    piece = b"\x1b[31m\x1b]0;x\x07" * 5958
    begin = time.process_time()
    for number in range(8 * 1024 * 1024 // len(piece)):
        run.tails.setdefault(names[number % 64], OutputTail()).feed(piece)
        if number % 8 == 0:
            look = Look(80)
            for line in frame(run, BEGIN + 2, 24, look):
                Painter(look).paint(line)
    assert time.process_time() - begin < 1
