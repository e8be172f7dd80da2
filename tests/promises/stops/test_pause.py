"""pause(): between two steps, from anywhere, and no stop."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import observer
import pytest
from sandbox_agent.config.settings import Budgets
from sandbox_agent.conversation import Conversation
from sandbox_agent.journal.events import (
    CancelRequested,
    Ended,
    SegmentEnded,
    SegmentStarted,
    Started,
    TurnTaken,
)
from sandbox_agent.journal.result_file import read_record
from sandbox_agent.journal.status import Status
from sandbox_agent.models.scripted import ScriptedModel
from sandbox_agent_ipc.token import RunToken
from talking import FINAL, Watch, ends, shell, soon, talk

STEPS = (shell("read line < go; echo one >> one", "echo side"), shell("echo two >> two"), FINAL)


@pytest.fixture
def go(tmp_path: Path) -> Iterator[Path]:
    """A named pipe that the first call waits at."""
    (tmp_path / "work").mkdir()
    pipe = tmp_path / "work" / "go"
    os.mkfifo(pipe)
    pipe.chmod(0o666)
    handle = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)  # so that no writer has to wait
    yield pipe
    os.close(handle)


def check_paused(conv: Conversation, result: Any, token: RunToken | None) -> None:
    assert (result.status, result.exit_code) == (Status.PAUSED, 0)
    assert result.reason == "paused between two steps"
    assert conv.status is read_record(conv.run_dir).status is Status.PAUSED
    assert conv.cancel_token is None
    assert token is not None
    assert not token.is_cancelled
    assert not any(isinstance(event, CancelRequested) for event in conv.events)


def test_calls_in_flight_end_and_the_model_is_not_asked_again(
    tmp_path: Path, watch: Watch, go: Path
) -> None:
    tokens: list[RunToken | None] = []
    with talk(tmp_path, watch, *STEPS) as conv:

        def pause() -> None:
            watch.wait_event(Started, 2)
            tokens.append(conv.cancel_token)
            begin = time.monotonic()
            conv.pause()
            conv.pause()
            assert time.monotonic() - begin < 0.1
            go.write_text("go\n")

        striker = soon(pause)
        result = conv.run()
        striker.join()
        check_paused(conv, result, tokens[0])
        assert {call: end.outcome for call, end in ends(conv).items()} == {
            "call_1_1": "ok",
            "call_1_2": "ok",
        }
        assert (tmp_path / "work" / "one").read_text() == "one\n"
        assert not (tmp_path / "work" / "two").exists()
        # run() again goes on.
        assert conv.run().status is Status.DONE
        assert (tmp_path / "work" / "two").read_text() == "two\n"
        assert (tmp_path / "work" / "one").read_text() == "one\n"


def test_a_paused_run_is_resumed_elsewhere(tmp_path: Path, watch: Watch) -> None:
    with talk(tmp_path, watch, shell("true"), FINAL) as conv:
        watch.also = lambda event: isinstance(event, TurnTaken) and conv.pause()
        assert conv.run().status is Status.PAUSED
    with Conversation.resume(conv.run_dir, model=ScriptedModel([FINAL, FINAL])) as again:
        assert again.status is Status.PAUSED
        assert again.run().status is Status.DONE


def test_a_signal_handler_may_pause(tmp_path: Path, watch: Watch, go: Path) -> None:
    with talk(tmp_path, watch, *STEPS) as conv:

        def handler(*_: object) -> None:
            conv.pause()
            go.write_text("go\n")

        before = signal.signal(signal.SIGUSR1, handler)
        try:
            soon(lambda: (watch.wait_event(Started, 2), os.kill(os.getpid(), signal.SIGUSR1)))
            assert conv.run().status is Status.PAUSED
        finally:
            signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize(
    ("kind", "calls"), [(SegmentStarted, 0), (TurnTaken, 2), (Ended, 2)], ids=lambda v: str(v)[:24]
)
def test_a_callback_may_pause(tmp_path: Path, watch: Watch, kind: type, calls: int) -> None:
    """Before the first request of the model too."""
    with talk(tmp_path, watch, shell("true", "true"), FINAL) as conv:
        watch.also = lambda event: isinstance(event, kind) and conv.pause()
        result = conv.run()
        assert result.status is Status.PAUSED
        assert len(ends(conv)) == calls
        watch.also = lambda event: None
        assert conv.run().status is Status.DONE


def test_pause_then_interrupt_interrupts(tmp_path: Path, watch: Watch) -> None:
    mark = observer.new_mark()
    with talk(tmp_path, watch, shell(f"echo up; exec sleep 300.{mark}"), FINAL) as conv:
        soon(lambda: (watch.wait_up(), conv.pause(), conv.interrupt()))
        result = conv.run()
        assert (result.status, result.exit_code) == (Status.INTERRUPTED, 130)
        assert conv.cancel_token is not None
    assert observer.marked(mark) == []


def test_an_interrupt_while_the_pause_is_recorded_comes_too_late(
    tmp_path: Path, watch: Watch
) -> None:
    with talk(tmp_path, watch, shell("true"), FINAL) as conv:

        def also(event: object) -> None:
            if isinstance(event, Ended):
                conv.pause()
            elif isinstance(event, SegmentEnded):
                conv.interrupt()

        watch.also = also
        assert conv.run().status is Status.PAUSED
        assert conv.cancel_token is None


def test_a_run_that_ends_before_the_pause_takes_effect_is_done(
    tmp_path: Path, watch: Watch
) -> None:
    with talk(tmp_path, watch, FINAL, verify=["true"]) as conv:
        watch.also = lambda event: isinstance(event, TurnTaken) and conv.pause()
        assert conv.run().status is Status.DONE


def test_a_spent_budget_and_a_pause_at_the_same_step_pause(tmp_path: Path, watch: Watch) -> None:
    with talk(tmp_path, watch, shell("true"), FINAL, budgets=Budgets(turns=1)) as conv:
        watch.also = lambda event: isinstance(event, Ended) and conv.pause()
        assert conv.run().status is Status.PAUSED
        assert conv.run().status is Status.DONE


def test_a_pause_without_a_run_does_not_pause_a_later_one(tmp_path: Path, watch: Watch) -> None:
    with talk(tmp_path, watch, shell("true"), FINAL, shell("true"), FINAL) as conv:
        conv.pause()
        assert conv.run().status is Status.DONE
        conv.pause()
        assert conv.run().status is Status.DONE
    conv.pause()
