"""What keeps the model process, struck from outside while a request is at a certain moment."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import observer
import pytest
from modelling import Case, check_restarts, found, is_there, misbehave
from sandbox_agent_sandbox.host.deadlines import Deadlines
from table import Death, How, When, Who, deaths
from test_model import LOST, STOPPED, WHOLE, Told
from test_outside import starve

KEEPERS = (Who.MODEL_CALL_INIT, Who.MODEL_INIT, Who.MODEL_SPAWNER)

KILLED: dict[When, Told] = {
    When.HANDSHAKE: Told(WHOLE, LOST),
    When.BEFORE_START: Told(WHOLE, LOST),
    When.MID_OUTPUT: Told(WHOLE, LOST),
    When.AFTER_FLAG: Told(STOPPED, LOST),
    When.AFTER_TERM: Told(STOPPED, LOST),
    When.AT_EXIT: Told(WHOLE, LOST),
}
"""What becomes of a request when somebody kills what keeps its process. All that were with it are
repeated."""

UNDISTURBED: dict[When, Told] = {
    When.HANDSHAKE: Told(WHOLE),
    When.BEFORE_START: Told(WHOLE),
    When.MID_OUTPUT: Told(WHOLE),
    When.AFTER_FLAG: Told(STOPPED),
    When.AFTER_TERM: Told(STOPPED, "it ended with exit code 0"),
    When.AT_EXIT: Told(WHOLE),
}
"""When it is let go on. What is stopped is not needed as long as the model process lives. A stopped
init goes on at the order to end, and tells how the process ended."""


def cases() -> list[Death]:
    return [death for who in KEEPERS for death in deaths(who)]


def expected(death: Death) -> Told:
    if death.how is How.SIGSTOP:
        return UNDISTURBED[death.when]
    return KILLED[death.when]  # starved, it goes on as long as the model process does


@pytest.fixture(autouse=True)
def misbehaving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    misbehave(monkeypatch, tmp_path)


@pytest.mark.parametrize("death", cases(), ids=str)
def test_what_keeps_the_model_process_dies(tmp_path: Path, death: Death) -> None:
    told = expected(death)
    # Of a process that a stopped init is to make. A busy machine needs a second for any other.
    deadlines = Deadlines(start=3.0)
    with Case(tmp_path, death.when, "from outside", deadlines) as case:
        bystander = case.ask("bystander")
        if death.when is not When.HANDSHAKE:
            bystander.hear("text")
        target = case.ask("target")
        case.on_the_ladder(target)
        case.await_wrong()
        [process] = found(Who.MODEL)
        strike(death)
        if death.how is not How.SIGSTOP:
            observer.eventually(lambda: not is_there(process), 20)
        case.let_go()
        assert target.result() == told.result
        assert bystander.result() == WHOLE
        assert is_there(process) is (not told.lost)
        if death.when is not When.HANDSHAKE:  # nobody had begun with anything
            check_restarts(bystander, told.lost)
            again = told.lost and told.result is WHOLE and death.when is not When.AT_EXIT
            check_restarts(target, told.lost if again else "")
        assert case.ask("next").result() == WHOLE
        assert len(found(Who.MODEL)) == 1


def strike(death: Death) -> None:
    [keeper] = found(death.who)
    if death.how is How.SIGSTOP:
        os.kill(keeper.pid, signal.SIGSTOP)
    elif death.how is How.SIGKILL:
        os.kill(keeper.pid, signal.SIGKILL)
    else:
        # What is taken from it matters when the next process is to be made.
        starve(keeper.pid, death.how)
        [own_init] = found(Who.MODEL_CALL_INIT)
        os.kill(own_init.pid, signal.SIGKILL)
