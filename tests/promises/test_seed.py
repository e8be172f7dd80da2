"""The behaviour that this project grew from: a cancelled token stays cancelled for every holder.

A caller, a late thread and a late child ask for the token during a run, after its interrupt, and
while the next run is going. One table holds what each of them must see.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import identity
import pytest
from identity import Person
from sandbox_agent.config.settings import Interrupt
from sandbox_agent.conversation import Conversation
from sandbox_agent.journal.events import Ended, SegmentEnded, Started
from sandbox_agent.models import ModelCall, ModelTurn
from sandbox_agent.models.scripted import ScriptedModel, Step

DEADLINE = 30.0

EXPECTED = {
    "before_first_run_token_present": False,
    "during_run_token_present": True,
    "during_run_token_cancelled": False,
    "after_interrupt_token_present": True,
    "after_interrupt_token_cancelled": True,
    "late_worker_token_present": True,
    "late_worker_token_cancelled": True,
    "next_run_token_present": True,
    "next_run_token_cancelled": False,
    "next_run_token_is_same_as_retained": False,
    "retained_token_cancelled_during_next_run": True,
    "after_natural_end_token_present": False,
    "token_kept_from_a_natural_end_cancelled": False,
}

WAIT = "exec sleep 300"


def shell(command: str) -> Step:
    return Step(ModelTurn("", (ModelCall("shell", {"command": command}),)))


class Watch:
    """Hands out events of the journal to tasks that wait for them."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._seen: list[Any] = []

    def __call__(self, event: Any) -> None:
        with self._changed:
            self._seen.append(event)
            self._changed.notify_all()

    def wait(self, kind: type, count: int = 1) -> None:
        """Until there are that many events of this kind, or that many runs are over."""

        def number(of: type) -> int:
            return sum(isinstance(event, of) for event in self._seen)

        def there() -> bool:
            return number(kind) >= count or number(SegmentEnded) >= count

        with self._changed:
            assert self._changed.wait_for(there, DEADLINE), f"no {kind.__name__}: {self._seen}"


@pytest.fixture
def me() -> Iterator[Person]:
    yield from identity.someone("root")


def conversation(me: Person, steps: list[Step], watch: Watch, **more: Any) -> Conversation:
    made = Conversation(
        model=ScriptedModel(steps),
        tools=more.pop("tools", ["shell"]),
        workspace=me.work,
        interrupt=Interrupt(0.5, 0.5),
        output_dir=me.folder / "runs",
        on_event=watch,
        **more,
    )
    made.send_message("go")
    return made


def fifo(me: Person, name: str) -> Path:
    path = me.work / name
    os.mkfifo(path)
    path.chmod(0o666)
    return path


def in_thread(work: Callable[[], Any]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_the_table_of_the_seed(me: Person) -> None:
    seen: dict[str, object] = {}
    watch = Watch()
    late = threading.Event()
    steps = [
        shell(WAIT),
        shell("read line < go.fifo"),
        Step(ModelTurn("Done.", (), final=True)),
    ]
    go = fifo(me, "go.fifo")
    with conversation(me, steps, watch) as conv:
        seen["before_first_run_token_present"] = conv.cancel_token is not None

        def late_worker() -> None:
            assert late.wait(DEADLINE)
            token = conv.cancel_token
            seen["late_worker_token_present"] = token is not None
            seen["late_worker_token_cancelled"] = token is not None and token.is_cancelled

        worker = in_thread(late_worker)

        def interrupter() -> None:
            watch.wait(Started)
            token = conv.cancel_token
            seen["during_run_token_present"] = token is not None
            seen["during_run_token_cancelled"] = token is not None and token.is_cancelled
            conv.interrupt()

        striker = in_thread(interrupter)
        result = asyncio.run(conv.arun())
        striker.join()
        assert result.status == "interrupted"
        retained = conv.cancel_token
        assert retained is not None
        seen["after_interrupt_token_present"] = True
        seen["after_interrupt_token_cancelled"] = retained.is_cancelled
        late.set()
        worker.join()

        kept: list[Any] = []

        def observer_of_the_next_run() -> None:
            watch.wait(Started, 2)
            token = conv.cancel_token
            kept.append(token)
            seen["next_run_token_present"] = token is not None
            seen["next_run_token_cancelled"] = token is not None and token.is_cancelled
            seen["next_run_token_is_same_as_retained"] = token is retained
            seen["retained_token_cancelled_during_next_run"] = retained.is_cancelled
            go.write_text("go\n")

        looker = in_thread(observer_of_the_next_run)
        result = conv.run()
        looker.join()
        assert result.status == "done"
        seen["after_natural_end_token_present"] = conv.cancel_token is not None
        seen["token_kept_from_a_natural_end_cancelled"] = kept[0].is_cancelled
        for name, value in EXPECTED.items():
            print(f"{name:45} {seen.get(name)!s:6} {value}")
    assert seen == EXPECTED


TOOLS = '''
from pathlib import Path
from sandbox_agent import CancelToken, tool

@tool
def poll(token: CancelToken) -> str:
    """Waits for its token, then tells what it sees of it, also much later."""
    seen = [token.is_cancelled]
    Path("begun.fifo").write_text("begun")
    token.wait()
    seen += [token.is_cancelled for _ in range(1000)]
    Path("seen").write_text(f"{seen[0]} {set(seen[1:])} {token.reason}")
    return "told"
'''


def test_a_tool_that_looks_late_sees_the_cancellation_too(me: Person) -> None:
    (me.work / "polling_tools.py").write_text(TOOLS)
    begun = fifo(me, "begun.fifo")
    steps = [Step(ModelTurn("", (ModelCall("poll", {}),)))]
    with conversation(me, steps, Watch(), tools=["polling_tools:poll"]) as conv:
        striker = in_thread(lambda: (begun.read_text(), conv.interrupt()))
        result = conv.run()
        striker.join()
    assert result.status == "interrupted", result.reason
    assert (me.work / "seen").read_text() == "False {True} interrupt"


def test_of_two_parallel_calls_one_is_cancelled_and_the_other_ends_ok(me: Person) -> None:
    go = fifo(me, "go.fifo")
    watch = Watch()
    calls = (
        ModelCall("shell", {"command": WAIT}),
        ModelCall("shell", {"command": "read line < go.fifo; echo went on"}),
    )
    steps = [Step(ModelTurn("", calls)), Step(ModelTurn("Done.", (), final=True))]
    with conversation(me, steps, watch) as conv:

        def strike() -> None:
            watch.wait(Started, 2)
            assert conv.cancel_call("call_1_1")
            watch.wait(Ended)
            go.write_text("go\n")

        striker = in_thread(strike)
        result = conv.run()
        striker.join()
        ended = {event.call: event for event in conv.events if isinstance(event, Ended)}
        assert not conv.cancel_call("call_1_1")
    assert result.status == "done"
    assert ended["call_1_1"].outcome in ("cancelled", "killed")
    assert ended["call_1_2"].outcome == "ok"
    assert "went on" in ended["call_1_2"].content
