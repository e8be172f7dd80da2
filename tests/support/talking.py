"""Conversations for tests, and ways to wait for what happens in them. Imported by name."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sandbox_agent.config.settings import Interrupt
from sandbox_agent.conversation import Conversation
from sandbox_agent.journal.events import AnyEvent, Ended
from sandbox_agent.models import ModelCall, ModelTurn
from sandbox_agent.models.scripted import ScriptedModel, Step

DEADLINE = 30.0
"""Seconds until what is waited for must have happened."""

FINAL = Step(ModelTurn("Done.", final=True))


def calls(*made: tuple[str, dict[str, Any]]) -> Step:
    return Step(ModelTurn("", tuple(ModelCall(name, arguments) for name, arguments in made)))


def shell(*commands: str, **more: Any) -> Step:
    """A turn with one shell call for each command, in parallel."""
    return calls(*(("shell", {"command": command, **more}) for command in commands))


def sleeper(mark: str) -> str:
    """Says `up`, then sleeps; `observer.marked(mark)` finds it."""
    return f"echo up; exec sleep 300.{mark}"


class Watch:
    """Hears events and output, and lets threads wait for them."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.events: list[AnyEvent] = []
        self.output: dict[str, bytes] = {}
        self.also: Callable[[AnyEvent], object] = lambda event: None

    def on_event(self, event: AnyEvent) -> None:
        with self.changed:
            self.events.append(event)
            self.changed.notify_all()
        self.also(event)

    def on_output(self, call: str, stream: str, data: bytes) -> None:
        with self.changed:
            self.output[call] = self.output.get(call, b"") + data
            self.changed.notify_all()

    def wait_for(self, what: Callable[[], object]) -> None:
        with self.changed:
            assert self.changed.wait_for(what, DEADLINE), (self.events[-3:], self.output)

    def wait_up(self, count: int = 1) -> None:
        """Until that many sleepers are up."""
        self.wait_for(lambda: sum(b"up" in text for text in self.output.values()) >= count)

    def wait_event(self, kind: type, count: int = 1) -> None:
        self.wait_for(lambda: sum(isinstance(event, kind) for event in self.events) >= count)


def talk(folder: Path, watch: Watch, *steps: Step, **more: Any) -> Conversation:
    """A conversation in `folder` whose model follows `steps`."""
    (folder / "work").mkdir(exist_ok=True)
    options = {
        "tools": ["shell"],
        "workspace": folder / "work",
        "output_dir": folder / "runs",
        "interrupt": Interrupt(0.5, 0.5),
        "on_event": watch.on_event,
        "on_output": watch.on_output,
        "model": ScriptedModel(steps),
        **more,
    }
    return Conversation(**options)


def ends(conversation: Conversation) -> dict[str, Ended]:
    """The end of every call, by id; more than one is a fault."""
    found: dict[str, Ended] = {}
    for event in conversation.events:
        if isinstance(event, Ended):
            assert event.call not in found
            found[event.call] = event
    return found


def soon(work: Callable[[], object]) -> threading.Thread:
    """Start work in a thread. What it raises shows as a warning, and in what it did not do."""
    thread = threading.Thread(target=work)
    thread.start()
    return thread
