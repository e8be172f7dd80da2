"""A recorded run, read from its journal for a replay or a comparison.

Reads without a lock: the journal may belong to another user, lie on a read-only disk, or be of a
run that is still going.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from sandbox_agent.config.settings import Budgets, settings_from
from sandbox_agent.errors import ConfigError, JournalError
from sandbox_agent.journal.events import (
    AnyEvent,
    Ended,
    RecordedSettings,
    SegmentEnded,
    SegmentStarted,
    TurnTaken,
    UserText,
    Verified,
)
from sandbox_agent.journal.file import JOURNAL_FILE, read_journal
from sandbox_agent.journal.state import RunState, at_line, unfinished
from sandbox_agent.journal.status import Status


class RecordedSegments(msgspec.Struct, frozen=True):
    """The segments of a recorded run, for a replay that takes the same turns in one run.

    resumed_after: numbers of the turns after which the run was resumed although its segment had not
    ended as done. turns_before_last: how many turns came before the last segment. budgets: of the
    last segment. Without arguments: of a run that was never resumed.
    """

    resumed_after: frozenset[int] = frozenset()
    turns_before_last: int = 0
    budgets: Budgets = Budgets()

    def starts_segment(self, turn: int) -> bool:
        """Whether a later segment of the recorded run began with this turn."""
        last = turn - 1
        return last > 0 and (last == self.turns_before_last or last in self.resumed_after)


@dataclass(frozen=True)
class Verdict:
    """What a `verify` command decided. ended: the end of its call."""

    passed: bool
    ended: Ended


@dataclass(frozen=True)
class Recording:
    """A recorded run, as far as its journal goes.

    folder: of the run. turns: of the model, in all segments, in order. user_messages: what the user
    said after each turn, by the turn's number, from 1; under 0, what was said before the first.
    verdicts: of `verify`, by the number of the turn that was verified, then by command; the last
    verdict counts. segments: None if the journal ends before it says what the run was made with.
    """

    folder: Path
    state: RunState
    turns: tuple[TurnTaken, ...]
    user_messages: Mapping[int, tuple[str, ...]]
    verdicts: Mapping[int, Mapping[str, Verdict]]
    segments: RecordedSegments | None

    @property
    def run(self) -> str:
        """The run's id."""
        return self.folder.name

    @property
    def settings(self) -> RecordedSettings | None:
        """What the last segment was made with; None if the journal ends before it says so."""
        return self.state.settings()

    def end_of(self, call_id: str) -> Ended:
        """The end of a call. If the agent died before that, what the journal proves about it."""
        call = self.state.calls[call_id]
        return call.ended or unfinished(call)


def read_recording(path: Path | str) -> Recording:
    """The recorded run of a run folder, or of the journal in it.

    Raises ConfigError when it cannot be read, JournalError when it is damaged or of another
    version.
    """
    given = Path(path).absolute()
    file = given / JOURNAL_FILE if given.is_dir() else given
    events = _read(file)
    turns: list[TurnTaken] = []
    user_messages: dict[int, tuple[str, ...]] = {}
    verdicts: dict[int, dict[str, Verdict]] = {}
    state = state_of_file(events, file)
    for event in events:
        match event:
            case TurnTaken():
                turns.append(event)
            case UserText():
                said = user_messages.get(len(turns), ())
                user_messages[len(turns)] = (*said, event.text)
            case Verified() if (ended := _end_of_verify(state, event)) is not None:
                verdicts.setdefault(len(turns), {})[event.command] = Verdict(event.passed, ended)
    segments = _segments(events, user_messages, state.settings(), file)
    return Recording(file.parent, state, tuple(turns), user_messages, verdicts, segments)


def _segments(
    events: tuple[AnyEvent, ...],
    user_messages: Mapping[int, tuple[str, ...]],
    settings: RecordedSettings | None,
    file: Path,
) -> RecordedSegments | None:
    """Between which turns the segments begin. settings: of the last segment. file: the journal."""
    if settings is None:
        return None
    resumed_after: set[int] = set()
    last: TurnTaken | None = None
    turns_before = 0
    was_done = False  # whether the segment before the current one ended as done
    status = ""  # of the current segment, once it has ended
    for event in events:
        match event:
            case SegmentStarted():
                turns_before = last.turn if last is not None else 0
                was_done, status = status == Status.DONE, ""
            case SegmentEnded():
                status = event.status
            case TurnTaken():
                if last is not None and event.starts_segment:
                    # This run is itself a replay: one segment that repeats several. A recorded
                    # segment had ended as done if the user said something more after its end.
                    turns_before = last.turn
                    was_done = last.final and last.turn in user_messages
                if last is not None and turns_before == last.turn and not was_done:
                    resumed_after.add(turns_before)
                last = event
            case _:
                pass
    try:
        budgets = settings_from({}, {"budgets": settings.task.get("budgets")}).budgets
    except ConfigError as error:
        why = f"{error.field} in the journal: {error.what}"
        raise JournalError(f"{file}: {why}; the journal is damaged") from None
    return RecordedSegments(frozenset(resumed_after), turns_before, budgets)


def state_of_file(events: tuple[AnyEvent, ...], file: Path) -> RunState:
    """The state after these events. Raises JournalError, naming the line of `file`."""
    state = RunState()
    for number, event in enumerate(events, 1):
        try:
            state.apply(event)
        except JournalError as error:
            raise at_line(str(file), number, error) from None
    return state


def _end_of_verify(state: RunState, event: Verified) -> Ended | None:
    call = state.calls.get(event.call)
    return call.ended if call is not None else None


def _read(file: Path) -> tuple[AnyEvent, ...]:
    try:
        return read_journal(file)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise _unreadable(file, why or str(error)) from None


def _unreadable(file: Path, why: str) -> ConfigError:
    return ConfigError(
        f"{file} cannot be read: {why}", hint="name the folder of a run that you may read"
    )
