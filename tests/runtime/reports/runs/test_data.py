"""A run for a script: the same facts as in the text, masked, and as JSON of plain values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import made_runs
import msgspec
from made_runs import Clock
from sandbox_agent.journal.events import AnyEvent
from sandbox_agent.reports.report import report_of
from sandbox_agent.reports.runs.data import data_of
from sandbox_agent_sandbox.outcome import Outcome, Rung, Survivor

CLOCK = Clock()


def data(*events: AnyEvent) -> dict[str, Any]:
    report = report_of("run", Path("/runs/run"), events)
    found = data_of(report, lambda text: text.replace("secret", "***"))
    read: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(found))
    return read


def test_a_failed_run() -> None:
    found = data(*made_runs.failed_run(name="secret"))
    assert (found["run"], found["name"], found["status"]) == (made_runs.ID, "***", "failed")
    assert (found["exit_code"], found["tokens"], found["seconds"]) == (1, 300, 4.2)
    assert (found["message"], found["limits"], found["survivors"]) == ("Done.", [], [])
    (call,), (verify,) = found["calls"], found["verify"]
    assert (call["id"], call["outcome"], call["seconds"]) == ("call_1_1", "ok", 0.4)
    assert (verify["command"], verify["passed"], verify["exit_status"]) == ("pytest -q", False, 1)


def test_what_has_no_end_has_none_here() -> None:
    found = data()
    assert (found["status"], found["exit_code"], found["message"]) == ("idle", None, None)
    found = data(made_runs.begun(CLOCK), made_runs.turn(CLOCK, 1, 1.0, made_runs.shell("a", "x")))
    assert found["status"] == "lost"
    assert (found["calls"][0]["outcome"], found["calls"][0]["seconds"]) == (None, None)


def test_ladder_limits_and_survivors_are_there_and_texts_are_masked() -> None:
    survivors = (Survivor(7, "dd secret"),)
    found = data(
        made_runs.begun(CLOCK),
        *made_runs.made(
            CLOCK, "a", 1.0, 31.0, outcome=Outcome.TIMEOUT, rung=Rung.KILL, detail="secret",
            rungs_ms={"kill": 900.0}, survivors=survivors,
        ),
        made_runs.ended(CLOCK, 32.0, "error", 7, reason="secret", survivors=survivors),
    )  # fmt: skip
    assert found["limits"] == ["a: its time of 30.0 s was up"]
    assert found["survivors"] == [{"pid": 7, "command": "dd ***"}] == found["calls"][0]["survivors"]
    assert (found["calls"][0]["rung"], found["calls"][0]["rungs_ms"]) == ("kill", {"kill": 900.0})
    assert "secret" not in str(found)
