"""Every outcome, from what the host saw."""

from __future__ import annotations

import msgspec
import pytest
from sandbox_agent_ipc.cancel_reason import CancelReason
from sandbox_agent_ipc.messages import Result, ResultKind
from sandbox_agent_sandbox.host.verdict import Evidence, decide
from sandbox_agent_sandbox.outcome import Outcome, Rung, StartedState, Survivor

QUIET = Evidence(
    id="c",
    sent=True,
    started=True,
    result=None,
    finished=False,
    reason=None,
    exit_status=None,
    rung=None,
    rungs_ms={},
    survivors=(),
    failure="",
)
OK = Result(ResultKind.OK, "fine", 0)
ERROR = Result(ResultKind.ERROR, "no", 2)
SAYS_CANCELLED = Result(ResultKind.CANCELLED, "")
INTERRUPT = CancelReason.INTERRUPT
TIMEOUT = CancelReason.TIMEOUT


@pytest.mark.parametrize(
    ("seen", "outcome", "started"),
    [
        ({"result": OK, "finished": True}, "ok", "yes"),
        ({"result": ERROR, "finished": True}, "error", "yes"),
        ({"result": ERROR, "finished": True, "started": False}, "error", "no"),
        # The result was here before the flag: the flag came too late.
        ({"result": OK, "finished": True, "reason": INTERRUPT}, "ok", "yes"),
        # A tool that goes on to a good end after the flag was cancelled all the same.
        ({"result": OK, "reason": INTERRUPT, "rung": Rung.FLAG}, "cancelled", "yes"),
        ({"result": SAYS_CANCELLED, "reason": INTERRUPT, "rung": Rung.TERM}, "cancelled", "yes"),
        ({"reason": INTERRUPT, "rung": Rung.TERM, "exit_status": -15}, "cancelled", "yes"),
        ({"reason": INTERRUPT, "rung": Rung.KILL}, "killed", "yes"),
        ({"reason": TIMEOUT, "rung": Rung.KILL}, "timeout", "yes"),
        ({"reason": TIMEOUT, "rung": Rung.FLAG, "result": OK}, "timeout", "yes"),
        ({"reason": INTERRUPT, "started": False}, "skipped", "no"),
        ({"result": Result(ResultKind.SKIPPED, ""), "started": False, "reason": INTERRUPT},
         "skipped", "no"),
        # Jenkins terminates descendants first: the order to stop comes a moment later.
        ({"result": SAYS_CANCELLED, "finished": True, "reason": INTERRUPT}, "cancelled", "yes"),
        # Somebody else's SIGTERM during a cancel is no crash; without one it is.
        ({"exit_status": -15, "reason": INTERRUPT, "rung": Rung.FLAG}, "cancelled", "yes"),
        ({"exit_status": -15}, "crashed", "yes"),
        ({"exit_status": 70, "started": False}, "crashed", "no"),
        ({}, "crashed", "yes"),
        ({"sent": False, "started": False, "failure": "no room"}, "skipped", "no"),
    ],
)  # fmt: skip
def test_outcomes(seen: dict[str, object], outcome: str, started: str) -> None:
    result = decide(msgspec.structs.replace(QUIET, **seen))  # type: ignore[arg-type]
    assert (result.outcome, result.started) == (Outcome(outcome), StartedState(started))


def test_a_cancellation_that_nobody_asked_for_is_a_crash() -> None:
    result = decide(msgspec.structs.replace(QUIET, result=SAYS_CANCELLED, finished=True))
    assert result.outcome is Outcome.CRASHED
    assert "SIGTERM" in result.detail


@pytest.mark.parametrize(
    ("seen", "status"),
    [
        # What the tool's command came to, whatever the worker's own end was.
        ({"result": Result(ResultKind.CANCELLED, "", 4), "exit_status": 0}, 4),
        ({"result": Result(ResultKind.CANCELLED, "", -15), "rung": Rung.KILL}, -15),
        ({"result": SAYS_CANCELLED, "exit_status": 0}, None),
        # The worker's own, where it gave no result.
        ({"exit_status": -15}, -15),
        ({"exit_status": -9, "reason": TIMEOUT}, -9),
        ({"exit_status": None, "rung": Rung.KILL}, None),
        ({"exit_status": -15, "started": False}, None),
    ],
)
def test_what_waitpid_told_is_kept_of_what_was_stopped(
    seen: dict[str, object], status: int | None
) -> None:
    flagged = {"reason": INTERRUPT, "rung": Rung.TERM, **seen}
    assert decide(msgspec.structs.replace(QUIET, **flagged)).exit_status == status  # type: ignore[arg-type]


UNMADE = Result(ResultKind.UNMADE, "no such module")


@pytest.mark.parametrize(
    ("seen", "outcome", "made"),
    [
        # The worker says that there was nothing to run; it exits so when it failed itself.
        ({"result": UNMADE, "started": False, "finished": True, "exit_status": 0}, "error", False),
        ({"result": UNMADE, "finished": True, "exit_status": 0}, "error", False),
        (
            {"result": UNMADE, "started": False, "finished": True, "exit_status": 70},
            "crashed",
            False,
        ),
        # Nothing had begun: our own processes died, or could not be started.
        ({"started": False, "exit_status": 70}, "crashed", False),
        ({"started": False, "failure": "no process"}, "crashed", False),
        ({"sent": False, "started": False, "failure": "no room"}, "skipped", False),
        # The tool's own end, and the model's own mistake.
        ({"exit_status": -11}, "crashed", True),
        ({"exit_status": -9}, "crashed", True),
        ({"exit_status": 70}, "crashed", True),
        ({"result": ERROR, "finished": True, "started": False}, "error", True),
        # A stop is no fault of the sandbox.
        ({"started": False, "reason": INTERRUPT}, "skipped", True),
        ({"started": False, "reason": TIMEOUT}, "timeout", True),
        ({"result": UNMADE, "started": False, "reason": INTERRUPT}, "skipped", True),
    ],
)
def test_a_call_that_never_began_was_not_made(
    seen: dict[str, object], outcome: str, made: bool
) -> None:
    result = decide(msgspec.structs.replace(QUIET, **seen))  # type: ignore[arg-type]
    assert (result.outcome, result.made) == (Outcome(outcome), made)


def test_survivors_are_never_called_skipped() -> None:
    left = (Survivor(7, "sleep"),)
    seen = msgspec.structs.replace(
        QUIET, started=False, reason=INTERRUPT, rung=Rung.KILL, survivors=left
    )
    assert decide(seen).outcome is Outcome.KILLED
    assert decide(seen).survivors == left


def test_results_can_be_written_down() -> None:
    assert msgspec.json.encode(decide(QUIET))
