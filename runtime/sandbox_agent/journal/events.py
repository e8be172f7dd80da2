"""The journal's events: the specification of `journal.jsonl`.

A journal is one event per line, each a JSON object whose field `event` names its kind. Fields are
added without a new version (readers ignore the ones they do not know); anything else that changes
raises `VERSION`, and a reader refuses a version that it does not know.

What is written when: `model_turn` before any of its calls is looked at, `dispatching` before a
call is sent to a worker, `started` when the worker acknowledges (the tool's code runs from then
on), `ended` with the call's one outcome. So whatever kills the agent, what follows from a prefix
is true: a call with `started` may have done anything, one with `dispatching` may have started,
one with neither did not.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import msgspec
from sandbox_agent_ipc.messages import Image, ToolSpec
from sandbox_agent_sandbox.outcome import Outcome, Rung, StartedState, Survivor

from sandbox_agent.journal.usage import TokenUsage

VERSION = 1
"""Of this file. Stands in the first line of every journal."""

LENGTH = "length"
"""The finish reason of an answer that was cut off by the limit of its length."""


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="event"):
    """Base of all events.

    at: wall clock, ISO 8601 in UTC with milliseconds. t: CLOCK_MONOTONIC in seconds, comparable
    within one segment only (another segment may be of another process, after a reboot).
    """

    at: str
    t: float


class RecordedSettings(msgspec.Struct, frozen=True):
    """What a conversation was made with: all that another process needs to go on with it.

    model, model_options: the model's name and `Model.options`. task: the other settings, under a
    task file's names and with all units resolved; see `config.settings.Settings`.
    """

    model: str
    model_options: dict[str, Any]
    task: dict[str, Any]


class JournalOpened(Event, frozen=True, tag="journal"):
    """The first line. run: the run's id. name: the task's name. settings: of the first segment,
    which may not come to begin."""

    version: int
    run: str
    name: str | None = None
    settings: RecordedSettings | None = None


class ToolEntry(msgspec.Struct, frozen=True):
    """A tool as it was offered to the model. timeout: its own, in seconds."""

    spec: ToolSpec
    timeout: float | None = None


class SegmentStarted(Event, frozen=True, tag="segment"):
    """One `run()` begins.

    n: counted from 1. pid: of the agent. tools: as they were offered. plan: what was decided from
    the policy for this host, None when the sandbox was refused.
    """

    n: int
    pid: int
    settings: RecordedSettings
    tools: tuple[ToolEntry, ...]
    plan: dict[str, Any] | None


class UserText(Event, frozen=True, tag="user_message"):
    """Somebody told the agent something."""

    text: str


class Asked(msgspec.Struct, frozen=True):
    """A call as the model asked for it.

    id: the runtime's, unique in the run. arguments: an object, or the model's own text where that
    is not one. kept: as in `TurnTaken`.
    """

    id: str
    tool: str
    arguments: dict[str, Any] | str
    provider_state: dict[str, Any] = {}


class TurnTaken(Event, frozen=True, tag="model_turn"):
    """The model answered. turn: counted from 1 over the whole run. final: it says it is done.

    An answer of nothing at all, which is asked for again, is one too.

    reasoning: what it thought aloud. kept: what its provider wants to be given back. usage: what
    the answer used up; None where nobody counts. finish: why it ended where it does, in OpenAI's
    words (`LENGTH`); "" where nobody says. anew: it was said by a model that repeats a recorded
    run, and there a new segment began with it.
    """

    turn: int
    text: str
    final: bool
    calls: tuple[Asked, ...] = ()
    reasoning: str = ""
    provider_state: dict[str, Any] = {}
    usage: TokenUsage | None = None
    finish: str = ""
    starts_segment: bool = False

    @property
    def is_cut(self) -> bool:
        """It was cut off before it came to call anything: what it says is not all that it was to
        say, and nothing was asked for."""
        return self.finish == LENGTH and not self.calls


class Dispatching(Event, frozen=True, tag="dispatching"):
    """A call is about to be sent to a worker.

    command: for a `verify` command, which no model asked for, its text; else None.
    timeout: the call's own time in seconds, the smallest of all that apply; None for none.
    """

    call: str
    tool: str
    command: str | None = None
    timeout: float | None = None


class Started(Event, frozen=True, tag="started"):
    """The call's worker acknowledged: the tool's code runs from now on."""

    call: str


class Ended(Event, frozen=True, tag="ended"):
    """The one end of a call. See `CallResult` for outcome, exit_status, rung and rungs_ms.

    content: what the model is told, without what it is told of the outcome. output_bytes: how
    much the tool printed in all. output_file: relative to the run folder, where what did not fit
    into content lies; None when it fitted. detail: why, where the outcome alone does not say.
    images: what the tool gave the model to look at (data in base64).
    """

    call: str
    outcome: Outcome
    started: StartedState
    content: str = ""
    exit_status: int | None = None
    rung: Rung | None = None
    rungs_ms: dict[str, float] = {}
    survivors: tuple[Survivor, ...] = ()
    output_bytes: int = 0
    output_file: str | None = None
    detail: str = ""
    images: tuple[Image, ...] = ()


class CancelRequested(Event, frozen=True, tag="cancel_requested"):
    """Something is to be stopped: one call, or the run when call is None.

    reason: a CancelReason.
    """

    reason: str
    call: str | None = None


class Verified(Event, frozen=True, tag="verify"):
    """A `verify` command ended. Its call has `dispatching`, `started` and `ended` like any."""

    command: str
    call: str
    passed: bool


class SegmentEnded(Event, frozen=True, tag="segment_ended"):
    """A `run()` is over, and so is all of its work. The last event of a segment.

    status: a Status. reason: in words. requests, calls: of this segment. seconds: wall time.
    survivors: what could not be stopped. usage: of all its answers together, those included that
    came too late to be taken; None where nobody counts.
    """

    n: int
    status: str
    exit_code: int
    reason: str
    requests: int
    calls: int
    seconds: float
    survivors: tuple[Survivor, ...] = ()
    usage: TokenUsage | None = None


AnyEvent = (
    JournalOpened
    | SegmentStarted
    | UserText
    | TurnTaken
    | Dispatching
    | Started
    | Ended
    | CancelRequested
    | Verified
    | SegmentEnded
)


def wall_clock() -> str:
    """Now, as events write it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Stamp(msgspec.Struct, frozen=True):
    """When something happened, on both clocks."""

    at: str
    t: float

    @classmethod
    def now(cls) -> Stamp:
        return cls(wall_clock(), round(time.monotonic(), 6))
