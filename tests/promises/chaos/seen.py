"""What the umpire has seen of one round, and what follows from the journal's own lines.

Reads JSON; uses none of the project's code.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chaos.plan import Cause, Phase, Round, Use
from chaos.strikes import Strike

Event = dict[str, Any]


@dataclass
class Seen:
    """One round. lines: the whole journal; events: this run's part of it. began: when the run was
    begun, or the command started. returned: when `run()` returned or the command had ended.
    closed: when `close()` had returned, if it was part of the round. lasting: processes that should
    not have been there at that moment. gone_ms: after the agent's death, until nothing was left.
    excepted: what was left because all that kept the agent's calls were killed with it.
    asks: a provider; requests: how often for the turn that was to be struck.
    """

    plan: Round
    times: tuple[float, float]
    parallel: int
    work: Path
    strike: Strike
    began: float = 0.0
    returned: float | None = None
    closed: float | None = None
    status: str | None = None
    exit_code: int | None = None
    error: str | None = None
    journal: bytes = b""
    skip_lines: int = 0
    record: dict[str, Any] | None = None
    lasting: list[str] = field(default_factory=list)
    gone_ms: float | None = None
    excepted: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    stderr: str = ""
    asks: bool = False
    requests: int = 0
    words: set[tuple[Any, Any, Any]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.events: list[Event] = []

    def read(self) -> None:
        """Take the journal apart. What is not JSON shows in the complaints."""
        whole, newline, torn = self.journal.rpartition(b"\n")
        if torn and self.plan.cause not in (Cause.KILL_AGENT, Cause.FREEZE_AND_KILL_AGENT):
            self.complaints.append("journal: it does not end with a newline")
        for number, line in enumerate((whole + newline).splitlines()):
            try:
                event = json.loads(line)
            except ValueError:
                self.complaints.append(f"journal: line {number + 1} is no JSON")
                continue
            if number >= self.skip_lines:
                self.events.append(event)

    # --- calls -------------------------------------------------------------------------------

    def of(self, kind: str) -> list[Event]:
        return [event for event in self.events if event["event"] == kind]

    def asked(self) -> dict[str, Use | None]:
        """Every call that the model asked for in this run, with its use in the plan."""
        found: dict[str, Use | None] = {}
        for number, turn in enumerate(self.of("model_turn")):
            for place, call in enumerate(turn["calls"]):
                found[call["id"]] = self.plan.uses[place] if number == 0 else None
        return found

    def first(self, kind: str, call: str) -> Event | None:
        return next((e for e in self.of(kind) if e["call"] == call), None)

    def began_note(self, use: Use) -> dict[str, Any] | None:
        """What the tool wrote first of all; None when it never ran."""
        path = self.work / ".chaos" / f"{use.mark}.began"
        if not path.exists():
            return None
        text = path.read_text()
        return json.loads(text) if text else {}

    def wrote(self, use: Use, what: str) -> bool:
        return (self.work / ".chaos" / f"{use.mark}.{what}").exists()

    def stopped_at(self) -> float | None:
        """When all was stopped: at the return; of a command, at the recorded end, after which its
        interpreter has yet to end."""
        over = self.of("segment_ended")
        if self.plan.command and over:
            return float(over[-1]["monotonic"])
        return self.returned

    # --- the strike ----------------------------------------------------------------------------

    def struck_at(self) -> float | None:
        """When the first blow fell; for timeouts and budgets, when they were up."""
        if self.plan.cause is Cause.BUDGET:
            requests = [e for e in self.of("cancel_requested") if e["reason"] == "budget"]
            return float(requests[0]["monotonic"]) if requests else None
        if self.plan.cause is Cause.TIMEOUT:
            times = [flagged_at(e) for e in self.of("ended") if e["outcome"] == "timeout"]
            return min((time for time in times if time is not None), default=None)
        return self.strike.at

    def flagged_at(self) -> float | None:
        """When the run as a whole was told to stop, by somebody whose word counts."""
        if self.plan.cause is Cause.BUDGET:
            return self.struck_at()
        return self.strike.flagged

    def phase(self) -> Phase | None:
        """The phase that was struck in truth, by the journal's clock. None: no strike."""
        at = self.struck_at()
        if at is None:
            return None
        before = [event for event in self.events if event["monotonic"] <= at]
        kinds = {event["event"] for event in before}
        if "segment" not in kinds:
            return Phase.OPENING
        if "segment_ended" in kinds:
            return Phase.SHUTDOWN
        open_calls = self.open_calls_at(at)
        running = [c for c in open_calls if self._started_before(c, at)]
        if any(call.startswith("verify_") for call in running):
            return Phase.VERIFY
        if running:
            return Phase.IN_FLIGHT
        if open_calls:
            return Phase.STARTING
        final = any(event["event"] == "model_turn" and event["final"] for event in before)
        if not final and self.asks:
            return Phase.MODEL
        return Phase.SHUTDOWN if final else Phase.GAP

    def beginning_at(self, at: float) -> list[str]:
        """The calls whose tool had not begun by then."""
        return [c for c in self.open_calls_at(at) if not self._started_before(c, at)]

    def open_calls_at(self, at: float) -> list[str]:
        """Calls that had been dispatched and had not ended."""
        dispatched = [e["call"] for e in self.of("dispatching") if e["monotonic"] <= at]
        ended = {e["call"] for e in self.of("ended") if _ended_at(e) <= at}
        return [call for call in dispatched if call not in ended]

    def _started_before(self, call: str, at: float) -> bool:
        event = self.first("started", call)
        return event is not None and event["monotonic"] <= at


def flagged_at(ended: Event) -> float | None:
    """The host's own clock for the flag of a call that was ended by one."""
    rungs = ended["rungs_ms"]
    return float(ended["monotonic"]) - rungs["ended"] / 1000 if "ended" in rungs else None


def _ended_at(ended: Event) -> float:
    return float(ended["monotonic"])
