"""A run's events as plain lines for a person: no colours, no cursor movement, one line each."""

from __future__ import annotations

from sandbox_agent_sandbox.outcome import Outcome

from sandbox_agent.journal import events
from sandbox_agent.reports.escape import one_line


def how_it_ended(status: str, reason: str) -> str:
    """The status of a run with its reason, if the reason says more than the status."""
    return status if reason in ("", status) else f"{status}: {reason}"


class Progress:
    """Makes the lines of one run. Keeps the tool and arguments of each call for later lines."""

    def __init__(self) -> None:
        self._calls: dict[str, str] = {}

    def line(self, event: events.AnyEvent) -> str | None:
        """The line for `event`; None if it has none."""
        if isinstance(event, events.JournalOpened):
            return f"run {event.run}"
        if isinstance(event, events.TurnTaken):
            for call in event.calls:
                self._calls[call.id] = f"{call.tool} {_arguments(call.arguments)}"
            if event.final or not event.text:
                return None
            return f"turn {event.turn}: {one_line(event.text)}"
        if isinstance(event, events.Dispatching):
            what = f"verify {event.command}" if event.command is not None else None
            self._calls[event.call] = what or self._calls.get(event.call, event.tool)
            return None
        if isinstance(event, events.Started):
            return f"  {event.call} {one_line(self._calls.get(event.call, ''), 120)}"
        if isinstance(event, events.Ended):
            return self._ended(event)
        if isinstance(event, events.CancelRequested):
            what = "the run" if event.call is None else event.call
            return f"stopping {what} ({event.reason})"
        if isinstance(event, events.Verified):
            return f"verify: {'passed' if event.passed else 'FAILED'}: {one_line(event.command)}"
        return None

    def _ended(self, event: events.Ended) -> str:
        text = f"  {event.call} {event.outcome.value}"
        if event.exit_status:
            text += f", exit status {event.exit_status}"
        if event.rung is not None and event.rungs_ms:
            text += f", stopped in {max(event.rungs_ms.values()):.0f} ms ({event.rung.value})"
        if event.survivors:
            pids = ", ".join(str(survivor.pid) for survivor in event.survivors)
            text += f", COULD NOT STOP {pids}"
        reason = event.detail or (event.content if event.outcome is not Outcome.OK else "")
        return f"{text}: {one_line(reason, 160)}" if reason else text


def _arguments(arguments: object) -> str:
    if isinstance(arguments, dict):
        return ", ".join(f"{key}={value!r}" for key, value in list(arguments.items())[:4])
    return repr(arguments)
