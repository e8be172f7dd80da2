"""A run as its journal tells it, for whoever goes over it again. Reads, and locks nothing: the
journal may be somebody else's, on a disk that cannot be written, or of a run that is still going.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from sandbox_agent.config.settings import Budgets
from sandbox_agent.errors import ConfigError, JournalError
from sandbox_agent.journal import file as journal
from sandbox_agent.journal.events import (
    AnyEvent,
    Ended,
    SegmentEnded,
    SegmentStarted,
    Settings,
    TurnTaken,
    UserText,
    Verified,
)
from sandbox_agent.journal.state import RunState, unfinished
from sandbox_agent.journal.status import Status


class RecordedSegments(msgspec.Struct, frozen=True):
    """How a run that a model repeats was divided into segments.

    resumed_after: numbers of the turns after which somebody resumed the run although it had not
    ended as done. before: how many turns came before its last segment. budgets: of that segment.
    """

    resumed_after: frozenset[int]
    before: int
    budgets: Budgets


@dataclass(frozen=True)
class Verdict:
    """What a `verify` command said. ended: its call's end."""

    passed: bool
    ended: Ended


@dataclass(frozen=True)
class Recording:
    """A recorded run, as far as it came.

    folder: the run's. turns: the model's, of all segments, in order. told: what the user said
    after each turn, by its number counted from 1; under 0 what was said before the first.
    verdicts: of `verify`, by the turn that it was about, then by command; the last where there
    are several. divided: into segments; None where the journal was cut before it says what the run
    was made with.
    """

    folder: Path
    state: RunState
    turns: tuple[TurnTaken, ...]
    user_messages: Mapping[int, tuple[str, ...]]
    verdicts: Mapping[int, Mapping[str, Verdict]]
    divided: RecordedSegments | None

    @property
    def run(self) -> str:
        """The run's id."""
        return self.folder.name

    @property
    def settings(self) -> Settings | None:
        """What its last segment was made with; None where the journal was cut before that."""
        return self.state.settings()

    def end_of(self, call_id: str) -> Ended:
        """The end of a call; where nobody saw it, as far as the journal tells."""
        call = self.state.calls[call_id]
        return call.ended or unfinished(call)


def read_recording(path: Path | str) -> Recording:
    """The recorded run of a run folder, or of the journal in it.

    Raises ConfigError when it cannot be read, JournalError when it is damaged or of another
    version.
    """
    given = Path(path).absolute()
    file = given / journal.FILE_NAME if given.is_dir() else given
    events = journal.parse_journal(_read(file), str(file))
    turns: list[TurnTaken] = []
    told: dict[int, tuple[str, ...]] = {}
    verdicts: dict[int, dict[str, Verdict]] = {}
    state = state_of_file(events, file)
    for event in events:
        match event:
            case TurnTaken():
                turns.append(event)
            case UserText():
                told[len(turns)] = (*told.get(len(turns), ()), event.text)
            case Verified() if (ended := _end_of_verify(state, event)) is not None:
                verdicts.setdefault(len(turns), {})[event.command] = Verdict(event.passed, ended)
    divided = _divided(events, told, state.settings())
    return Recording(file.parent, state, tuple(turns), told, verdicts, divided)


def _divided(
    events: tuple[AnyEvent, ...],
    told: Mapping[int, tuple[str, ...]],
    last: Settings | None,
) -> RecordedSegments | None:
    """Where the run was gone on with, and where its last segment began."""
    if last is None:
        return None
    resumed_after: set[int] = set()
    turn: TurnTaken | None = None
    before = 0
    ended = previous = ""  # how the segment has ended, and how the one before it had
    for event in events:
        match event:
            case SegmentStarted():
                before = turn.turn if turn is not None else 0
                previous, ended = ended, ""
            case SegmentEnded():
                ended = event.status
            case TurnTaken():
                if turn is not None and event.starts_segment:
                    # A replay, which was one segment, of what had been several.
                    before = turn.turn
                    previous = Status.DONE if turn.final and turn.turn in told else ""
                if turn is not None and before == turn.turn and previous != Status.DONE:
                    resumed_after.add(before)
                turn = event
            case _:
                pass
    return RecordedSegments(frozenset(resumed_after), before, Budgets(**last.budgets))


def state_of_file(events: tuple[AnyEvent, ...], file: Path) -> RunState:
    """The state after these events. Raises JournalError, naming the line of `file`."""
    state = RunState()
    for number, event in enumerate(events, 1):
        try:
            state.apply(event)
        except JournalError as error:
            raise JournalError(f"{file}:{number}: {error}") from None
    return state


def _end_of_verify(state: RunState, event: Verified) -> Ended | None:
    call = state.calls.get(event.call)
    return call.ended if call is not None else None


def _read(file: Path) -> bytes:
    try:
        return journal.read_bytes(file)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise _unreadable(file, why or str(error)) from None


def _unreadable(file: Path, why: str) -> ConfigError:
    return ConfigError(
        f"{file} cannot be read: {why}", hint="name the folder of a run that you may read"
    )
