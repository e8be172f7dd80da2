"""A model process that dies, at any moment, in any way: the conversation does not notice."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from modelling import LONG, SILENCE, Case, check_restarts, found, is_there, misbehave
from sandbox_agent.models.process import host
from sandbox_agent.models.process.host import Result
from sandbox_agent_ipc.model_messages import Answer, Failure, FailureKind
from sandbox_agent_sandbox.host.deadlines import Deadlines
from table import Death, How, When, Who, deaths

WHOLE = Answer("whole")
STOPPED = None
BUG = "a bug in sandbox-agent: RuntimeError('gone wrong')"
NO_MEMORY = "a bug in sandbox-agent: MemoryError()"

EXITED = "it ended with exit code 3"
ENDED = "it ended with exit code 0"
RAISED = "it ended with exit code 70: sandbox worker: RuntimeError: gone wrong"
STARVED = "it ended with exit code 70: sandbox worker: MemoryError:"
SIGNALLED = "it was ended by signal {}"
LOST = "it was killed with its processes"
"""Of the KILL rung, which its init does not live to tell of."""


@dataclass(frozen=True)
class Told:
    """What becomes of a request. lost: how its process ended, "" when it did not; then all that
    were with it are repeated."""

    result: Result
    lost: str = ""


def failed(text: str) -> Told:
    return Told(Failure(FailureKind.PROVIDER, text))


STAYS = Told(WHOLE)
HEEDED = Told(STOPPED)
AT_TERM = SIGNALLED.format(15)
SILENT = Told(WHOLE, AT_TERM)
"""Nothing is heard of it, so it is told to stop, which it does not heed."""
KILLED = Told(WHOLE, SIGNALLED.format(9))

TABLE: dict[tuple[When, How], Told] = {
    # What is half said can be completed by nobody: whatever follows would be taken for its rest.
    (When.MID_FRAME, How.EXIT): Told(WHOLE, EXITED),
    (When.MID_FRAME, How.EXCEPTION): SILENT,
    (When.MID_FRAME, How.SIGKILL): KILLED,
    (When.MID_FRAME, How.SIGSTOP): SILENT,
    (When.MID_FRAME, How.HANG): SILENT,
    (When.MID_FRAME, How.MEMORY): SILENT,
    (When.BEFORE_START, How.EXIT): Told(WHOLE, EXITED),
    (When.BEFORE_START, How.EXCEPTION): failed(BUG),
    (When.BEFORE_START, How.SIGKILL): KILLED,
    (When.BEFORE_START, How.SIGSTOP): SILENT,
    (When.BEFORE_START, How.HANG): SILENT,
    (When.BEFORE_START, How.MEMORY): failed(NO_MEMORY),
    (When.MID_OUTPUT, How.EXIT): Told(WHOLE, EXITED),
    (When.MID_OUTPUT, How.EXCEPTION): failed(BUG),
    (When.MID_OUTPUT, How.SIGKILL): KILLED,
    (When.MID_OUTPUT, How.SIGSTOP): SILENT,
    (When.MID_OUTPUT, How.HANG): SILENT,
    (When.MID_OUTPUT, How.MEMORY): failed(NO_MEMORY),
    (When.AFTER_FLAG, How.EXIT): Told(STOPPED, EXITED),
    (When.AFTER_FLAG, How.EXCEPTION): HEEDED,
    (When.AFTER_FLAG, How.SIGKILL): Told(STOPPED, SIGNALLED.format(9)),
    (When.AFTER_FLAG, How.SIGSTOP): Told(STOPPED, AT_TERM),
    (When.AFTER_FLAG, How.HANG): Told(STOPPED, AT_TERM),
    (When.AFTER_FLAG, How.MEMORY): HEEDED,
    (When.AFTER_TERM, How.EXIT): Told(STOPPED, EXITED),
    (When.AFTER_TERM, How.EXCEPTION): Told(STOPPED, RAISED),
    (When.AFTER_TERM, How.SIGKILL): Told(STOPPED, SIGNALLED.format(9)),
    (When.AFTER_TERM, How.SIGSTOP): Told(STOPPED, LOST),
    (When.AFTER_TERM, How.HANG): Told(STOPPED, LOST),
    (When.AFTER_TERM, How.MEMORY): Told(STOPPED, STARVED),
    # It is answered: what becomes of the process matters to whoever else is with it.
    (When.AT_EXIT, How.EXIT): Told(WHOLE, EXITED),
    (When.AT_EXIT, How.EXCEPTION): STAYS,
    (When.AT_EXIT, How.SIGKILL): KILLED,
    (When.AT_EXIT, How.SIGSTOP): Told(WHOLE, AT_TERM),
    (When.AT_EXIT, How.HANG): Told(WHOLE, AT_TERM),
    (When.AT_EXIT, How.MEMORY): STAYS,
}


EITHER = {
    (When.AFTER_TERM, How.EXCEPTION),
    (When.AFTER_TERM, How.MEMORY),
    (When.AT_EXIT, How.MEMORY),
}
"""Whose code meets the exception is chance: a request's, which answers then, or the event loop's
own, of which the process dies. Everybody gets their answer in both cases."""

HANDSHAKE: dict[How, str] = {
    How.EXIT: EXITED,
    How.EXCEPTION: RAISED,
    How.SIGKILL: SIGNALLED.format(9),
    How.SIGSTOP: "it did not come to serve in 1 s",
    How.HANG: "it did not come to serve in 1 s",
    How.MEMORY: STARVED,
}
"""How it ended. It is started three times."""


def cases() -> list[Death]:
    return list(deaths(Who.MODEL))


@pytest.fixture(autouse=True)
def misbehaving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    misbehave(monkeypatch, tmp_path)


@pytest.mark.parametrize(
    "death", [death for death in cases() if death.when is not When.HANDSHAKE], ids=str
)
def test_a_model_process_dies(tmp_path: Path, death: Death) -> None:
    told = TABLE[death.when, death.how]
    with Case(tmp_path, death.when, death.how) as case:
        bystander = case.ask("bystander")
        bystander.hear("text")
        [process] = found(Who.MODEL)
        target = case.ask("target", silence=SILENCE if told == SILENT else LONG)
        case.on_the_ladder(target)
        assert target.result() == told.result
        if (death.when, death.how) in EITHER:
            case.let_go()
            assert bystander.result() == WHOLE
            assert case.ask("next").result() == WHOLE
            assert len(found(Who.MODEL)) == 1
            return
        if told.lost and death.when is not When.AT_EXIT:
            assert not is_there(process), "a request has ended whose process goes on"
            check_restarts(target, told.lost if told.result is WHOLE else "")
        if death.when is When.AT_EXIT and told.lost == AT_TERM:  # nobody has noticed yet
            after = case.ask("after", silence=SILENCE)
            assert after.result() == WHOLE
            check_restarts(after, told.lost)
        case.let_go()
        assert bystander.result() == WHOLE
        check_restarts(bystander, told.lost)
        assert case.ask("next").result() == WHOLE
        assert is_there(process) is (not told.lost), (target.pieces, bystander.pieces)
        assert len(found(Who.MODEL)) == 1


@pytest.mark.parametrize(
    "death", [death for death in cases() if death.when is When.HANDSHAKE], ids=str
)
def test_a_model_process_dies_before_it_serves(tmp_path: Path, death: Death) -> None:
    silent = death.how in (How.SIGSTOP, How.HANG)
    deadlines = Deadlines(serve=1.0) if silent else Deadlines()  # the next one begins in it too
    with Case(tmp_path, death.when, death.how, deadlines) as case:
        case.always(True)
        told = f"the session did not start: {HANDSHAKE[death.how]}"
        result = case.ask("target").result()
        if death.how is How.MEMORY:
            assert isinstance(result, Failure)
            assert result.kind is FailureKind.SHORTAGE, "this host's memory, and no provider"
            assert result.text.startswith("there is not enough memory; hint: ")
        else:
            assert result == crashed(told)
        assert found(Who.MODEL) == []
        case.always(False)
        assert case.ask("next").result() == WHOLE


def test_a_request_whose_process_dies_every_time_is_given_up(tmp_path: Path) -> None:
    with Case(tmp_path, When.MID_OUTPUT, How.EXIT) as case:
        case.always(True)
        target = case.ask("target")
        assert target.result() == crashed(EXITED)
        assert target.restarts() == [f"the model process was replaced: {EXITED}"] * host.ATTEMPTS
        case.always(False)
        assert case.ask("next").result() == WHOLE


def test_an_interrupt_ends_a_process_that_is_busy_in_c(tmp_path: Path) -> None:
    """A hang that no signal handler of Python's would see. The request's time is checked."""
    with Case(tmp_path, When.MID_OUTPUT, "busy in C") as case:
        bystander, target = case.ask("bystander"), case.ask("target")
        case.await_wrong()
        [process] = found(Who.MODEL)
        target.interrupt()
        assert target.result() is STOPPED
        assert not is_there(process)
        case.let_go()
        assert bystander.result() == WHOLE
        check_restarts(bystander, AT_TERM)


def test_an_interrupt_that_a_library_swallows_comes_again_and_the_process_stays(
    tmp_path: Path,
) -> None:
    with Case(tmp_path, When.MID_OUTPUT, How.HANG) as case:
        swallower = case.ask("swallower")
        swallower.hear("text")
        [process] = found(Who.MODEL)
        swallower.interrupt()
        assert swallower.result() is STOPPED
        assert is_there(process)
        assert case.ask("next").result() == WHOLE


def test_an_interrupt_while_it_does_not_come_to_serve_is_heeded_at_once(tmp_path: Path) -> None:
    with Case(tmp_path, When.HANDSHAKE, How.HANG) as case:
        target = case.ask("target")
        case.await_wrong()
        target.interrupt()
        assert target.result() is STOPPED


def crashed(why: str) -> Failure:
    text = f"the model process died {host.ATTEMPTS} times while it asked target: {why}"
    return Failure(FailureKind.CRASHED, text)
