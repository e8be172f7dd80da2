"""SIGKILL of the agent at every write and every dispatch: nothing runs twice, the model is told."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import skips
import striking_itself
from sandbox_agent.conversation import Conversation
from sandbox_agent.errors import StateError
from sandbox_agent.journal.events import (
    AnyEvent,
    Dispatching,
    Ended,
    SegmentEnded,
    Started,
    TurnTaken,
)
from sandbox_agent.journal.events import UserText as Told
from sandbox_agent.journal.file import JOURNAL_FILE, read_journal
from sandbox_agent.journal.history import ToolMessage
from sandbox_agent.journal.result_file import read_record
from sandbox_agent.journal.status import Status
from striking_itself import BOUNDARIES, CALLS, COUNTED, RECORDS, WRITES, Recording

STEP = 1 if skips.is_soak() else 2
EVERYWHERE = [
    (where, number + 1) for where, times in BOUNDARIES.items() for number in range(0, times, STEP)
]
"""The place, and at which time it is reached; without --soak every other one."""


def agent(folder: Path, where: str, number: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, striking_itself.__file__, str(folder), where, str(number)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def counted(folder: Path, name: str) -> int:
    path = folder / "work" / f"count.{name}"
    return len(path.read_text().splitlines()) if path.exists() else 0


def truth(events: tuple[AnyEvent, ...]) -> dict[str, tuple[str, str]]:
    """Outcome and `started` of every call, as this journal allows them to be told."""
    told = {}
    for event in events:
        if isinstance(event, TurnTaken):
            told |= {call.id: ("skipped", "no") for call in event.calls}
        elif isinstance(event, Dispatching) and event.command is None:
            told[event.call] = ("unknown", "maybe")
        elif isinstance(event, Started) and event.call in told:
            told[event.call] = ("unknown", "yes")
        elif isinstance(event, Ended) and event.call in told:
            told[event.call] = (event.outcome.value, event.started.value)
    return told


def test_the_list_of_boundaries_is_complete(tmp_path: Path) -> None:
    """One more arrival than the list has is never come to."""
    for where, times in {"before-write": WRITES, "before-send": CALLS, "after-send": CALLS}.items():
        folder = tmp_path / where
        folder.mkdir()
        done = agent(folder, where, times + 1)
        assert (done.returncode, json.loads(done.stdout)["status"]) == (0, "done"), done.stderr
        (run,) = (folder / "runs").iterdir()
        assert len(read_journal(run / JOURNAL_FILE)) == WRITES
    folder = tmp_path / "record"
    folder.mkdir()
    assert agent(folder, "before-record", RECORDS + 1).returncode == 0


@pytest.mark.parametrize(("where", "number"), EVERYWHERE)
def test_the_model_is_told_what_was_in_flight_and_nothing_runs_again(
    tmp_path: Path, where: str, number: int
) -> None:
    done = agent(tmp_path, where, number)
    assert done.returncode == -9, done.stderr
    (folder,) = (tmp_path / "runs").iterdir()
    before = read_journal(folder / JOURNAL_FILE)
    text = (folder / JOURNAL_FILE).read_bytes()

    model = Recording()
    more = {} if before else striking_itself.options(tmp_path)
    told = any(isinstance(event, Told) for event in before)
    if not told:
        with pytest.raises(StateError, match="ends before the first message to the agent"):
            Conversation.resume(folder, model=model, **more)
    if isinstance(before[-1] if before else None, SegmentEnded):
        with pytest.raises(StateError, match="is done"):
            Conversation.resume(folder, model=model)
        assert (folder / JOURNAL_FILE).read_bytes() == text
        return

    with Conversation.resume(folder, model=model, message=None if told else "go", **more) as conv:
        # The ends come before anything else, each call has one, and no byte is lost.
        new = [e for e in conv.events[len(before) :] if told or not isinstance(e, Told)]
        assert all(isinstance(event, Ended) for event in new[bool(not before) :])
        ended = {event.call for event in conv.events if isinstance(event, Ended)}
        assert truth(before).keys() <= ended
        result = conv.run()
    assert result.status is Status.DONE, result.reason

    asked = truth(before)
    runs = {name: counted(tmp_path, name) for name in COUNTED}
    assert all(times <= 1 for times in runs.values()), runs
    if any(isinstance(event, TurnTaken) and event.final for event in before):
        assert model.requests == []  # nothing was left to ask, only to verify
    else:
        results = [m for m in model.requests[0] if isinstance(m, ToolMessage)]
        assert {m.call_id: (m.outcome.value, m.started.value) for m in results} == asked
        assert len(results) == len(asked)
        for message in results:
            if message.outcome == "unknown":
                assert "the agent program itself died" in message.content
    of_call = dict(zip(("call_1_1", "call_1_2", "call_2_1"), COUNTED, strict=True))
    for call, (outcome, started) in asked.items():
        if started == "no":
            assert runs[of_call[call]] == 0, (call, outcome)
        if outcome == "ok":
            assert runs[of_call[call]] == 1
    assert counted(tmp_path, "verify") >= 1

    events = read_journal(folder / JOURNAL_FILE)
    assert events[: len(before)] == before
    ends = [event.call for event in events if isinstance(event, Ended)]
    assert len(ends) == len(set(ends))
    assert read_record(folder).status is Status.DONE
    torn = folder / f"{JOURNAL_FILE}.torn"
    assert torn.exists() == (where == "torn-write")
    if torn.exists():
        aside = torn.read_bytes()[:-1]
        assert aside
        assert (folder / JOURNAL_FILE).read_bytes().startswith(text.removesuffix(aside))
        assert text.endswith(b"\n" + aside) or text == aside
