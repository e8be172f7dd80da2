"""The journal's events: the specification of `journal.jsonl`.

A journal has one event per line, a JSON object whose field `event` names its kind. A new field
needs no new version, because readers ignore fields that they do not know. Any other change raises
`VERSION`, and readers refuse every other version.

When an event is written: `model_turn` before any of its calls is made, `dispatching` before a call
is sent to a worker, `started` when the worker acknowledges the call (from then on the tool's code
runs), `ended` with the call's one outcome. So every prefix of a journal tells the truth, whatever
killed the agent: a call with `started` may have done anything, a call with `dispatching` may have
started, and a call with neither did not start.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import msgspec
from sandbox_agent_ipc.messages import Image, ToolSpec
from sandbox_agent_sandbox.outcome import LimitMet, Outcome, Rung, StartedState, Survivor
from sandbox_agent_sandbox.protection.finding import Finding

from sandbox_agent.journal.usage import TokenUsage

VERSION = 2
"""Of the format. It stands in the first line of every journal."""

COMMAND = "exec"
"""What the record of a command of `exec` says as name and as model."""
BOX = "sandbox"
"""What the record of a `Sandbox`, which has no model, says as model."""

LENGTH = "length"
"""The finish reason of an answer that a limit cut off."""
REFUSED = "content_filter"
"""The finish reason of an answer in which the model refused, or that its provider's filter
stopped."""
PAUSED = "pause_turn"
"""The finish reason of an answer that its provider paused: the next answer continues it."""


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="event"):
    """Base of all events.

    at: wall clock time, ISO 8601 in UTC with milliseconds. monotonic: CLOCK_MONOTONIC in seconds.
    Compare it within one segment only: the machine may have been restarted between two.
    """

    at: str
    monotonic: float


class RecordedSettings(msgspec.Struct, frozen=True):
    """What a conversation was made with. Another process can resume the run from it.

    model, model_options: the model's name and `Model.options`. task: the other settings, under a
    task file's names and with all units resolved; see `config.settings.Settings`. task_files: that
    the task was read from; tools cannot change them.
    """

    model: str
    model_options: dict[str, Any]
    task: dict[str, Any]
    task_files: tuple[str, ...] = ()


class JournalOpened(Event, frozen=True, tag="journal"):
    """The first line. run: the run's id. name: of the task. settings: of the first segment, in case
    the journal ends before that segment begins."""

    version: int
    run: str
    name: str | None = None
    settings: RecordedSettings | None = None


class ToolEntry(msgspec.Struct, frozen=True):
    """A tool as it was offered to the model. timeout: of this tool, in seconds."""

    spec: ToolSpec
    timeout: float | None = None


class AgentsFile(msgspec.Struct, frozen=True):
    """The AGENTS.md of the workspace that the model was told. bytes: of the file. told: how many of
    them, its beginning. sha256: of these, in hex; secrets in them were masked afterwards."""

    path: str
    bytes: int
    told: int
    sha256: str


class SegmentStarted(Event, frozen=True, tag="segment"):
    """One `run()` begins: a segment.

    number: counted from 1. pid: of the agent. tools: as they were offered to the model. plan: how
    the policy is enforced on this host; None if the sandbox was refused. agents_md: what the model
    was told of the workspace's AGENTS.md; None for nothing.
    """

    number: int
    pid: int
    settings: RecordedSettings
    tools: tuple[ToolEntry, ...]
    plan: dict[str, Any] | None
    agents_md: AgentsFile | None = None


class UserText(Event, frozen=True, tag="user_message"):
    """The user told the agent something."""

    text: str


class ToolCall(msgspec.Struct, frozen=True):
    """A tool call of the model.

    id: unique in the run; the runtime makes it. arguments: an object, or the model's own text if
    that is not a JSON object. provider_state: as in `TurnTaken`.
    """

    id: str
    tool: str
    arguments: dict[str, Any] | str
    provider_state: dict[str, Any] = {}


class TurnTaken(Event, frozen=True, tag="model_turn"):
    """The model answered. An empty answer, after which the model is asked again, is a turn too.

    turn: counted from 1 over the whole run. final: the model says that it is done. reasoning: its
    thoughts, if the provider shows them. provider_state: what the provider wants back with the next
    request, such as signed thoughts. usage: what the answer used; None if the model tells none.
    finish_reason: why the answer ended, in OpenAI's words where they fit (`LENGTH`); "" if unknown.
    starts_segment: only in a replay: a later segment of the recorded run began with this turn.
    finish_word: the provider's own word for the end of the answer.
    """

    turn: int
    text: str
    final: bool
    calls: tuple[ToolCall, ...] = ()
    reasoning: str = ""
    provider_state: dict[str, Any] = {}
    usage: TokenUsage | None = None
    finish_reason: str = ""
    starts_segment: bool = False
    finish_word: str = ""

    @property
    def is_cut(self) -> bool:
        """Whether a limit or a refusal ended the answer before any call: its text is no answer."""
        return self.finish_reason in (LENGTH, REFUSED) and not self.calls


class Dispatching(Event, frozen=True, tag="dispatching"):
    """A call is about to be sent to a worker.

    command: the text of a `verify` command, which is no call of the model; else None. timeout: the
    call's time limit in seconds, the smallest that applies; None for no limit.
    """

    call: str
    tool: str
    command: str | None = None
    timeout: float | None = None


class Started(Event, frozen=True, tag="started"):
    """The call's worker acknowledged the call: from now on the tool's code runs."""

    call: str


class Ended(Event, frozen=True, tag="ended"):
    """The one end of a call. See `CallResult` for outcome, exit_status, rung and rungs_ms.

    content: what the tool printed and returned, cut to what the model gets. output_bytes: how much
    the tool printed. output_file: the file with the whole content, relative to the run folder; None
    if nothing was cut. detail: the reason, if the outcome alone does not tell it. images: from the
    tool, for the model to see (data in base64). private_files: that `write_file` or `edit_file`
    wrote in a place of the sandbox's own, such as /tmp; they are lost with the sandbox. made:
    False if the sandbox could not make the call. restored: what it changed in the settings of git,
    and what was undone of that; calls that go at the same time are not told apart. limits: of the
    policy, that the call has met.
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
    private_files: tuple[str, ...] = ()
    made: bool = True
    restored: tuple[Finding, ...] = ()
    limits: tuple[LimitMet, ...] = ()


class CancelRequested(Event, frozen=True, tag="cancel_requested"):
    """A call or the whole run is to stop. call: the call's id, None for the run. reason: a
    CancelReason."""

    reason: str
    call: str | None = None


class Verified(Event, frozen=True, tag="verify"):
    """A `verify` command ended. Its call has `dispatching`, `started` and `ended` like any call."""

    command: str
    call: str
    passed: bool


class SegmentEnded(Event, frozen=True, tag="segment_ended"):
    """A `run()` is over, and all of its work has stopped. The last event of a segment.

    number: of the segment. status: a Status. reason: a text. requests, calls: how many there were
    in this segment. seconds: wall time. survivors: processes that could not be stopped. usage: of
    all answers together, including those that came too late to become turns; None if unknown.
    findings: what tools left or changed that may start programs when the user works in there.
    """

    number: int
    status: str
    exit_code: int
    reason: str
    requests: int
    calls: int
    seconds: float
    survivors: tuple[Survivor, ...] = ()
    usage: TokenUsage | None = None
    findings: tuple[Finding, ...] = ()


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
    """The current time, in the format of `Event.at`."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Stamp(msgspec.Struct, frozen=True):
    """When something happened, on both clocks; see `Event`."""

    at: str
    monotonic: float

    @classmethod
    def now(cls) -> Stamp:
        return cls(wall_clock(), round(time.monotonic(), 6))
