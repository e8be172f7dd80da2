"""A run's events as plain lines for a person: no colours, no cursor movement, one line each."""

from __future__ import annotations

from sandbox_agent_sandbox.outcome import Outcome

from sandbox_agent.journal import events
from sandbox_agent.reports.escape import last_lines, one_line
from sandbox_agent.reports.walls import first_lines

SHOWS_TAIL = frozenset({Outcome.ERROR, Outcome.TIMEOUT, Outcome.CRASHED})
"""Outcomes of which the end of the output is shown: it says why."""
STOPPED = frozenset({Outcome.CANCELLED, Outcome.KILLED, Outcome.SKIPPED})
"""Outcomes of calls that were stopped from outside."""
_ONE_LINE = 160
_BLOCK = 200
"""Lines of a text of the model that `verbose` shows."""


def how_it_ended(status: str, reason: str) -> str:
    """The status of a run with its reason, if the reason says more than the status."""
    return status if reason in ("", status) else f"{status}: {reason}"


class Progress:
    """Makes the lines of one run. Keeps the tool and arguments of each call for later lines.

    verbose: also says what the model thinks, and what calls that succeed print.
    """

    def __init__(self, *, verbose: bool = False) -> None:
        self._calls: dict[str, str] = {}
        self._verbose = verbose

    def line(self, event: events.AnyEvent) -> str | None:
        """The line for `event`, or several; None if it has none."""
        if isinstance(event, events.JournalOpened):
            return f"run {event.run}"
        if isinstance(event, events.SegmentStarted):
            return _start(event)
        if isinstance(event, events.TurnTaken):
            for call in event.calls:
                self._calls[call.id] = f"{call.tool} {_arguments(call.arguments)}"
            return self._turn(event)
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

    def shows_output(self, event: events.Ended) -> bool:
        """Whether its lines are the end of what it printed."""
        return bool(event.content) and (self._verbose or event.outcome in SHOWS_TAIL)

    def _ended(self, event: events.Ended) -> str:
        text = f"  {event.call} {event.outcome.value}"
        if event.exit_status:
            text += f", exit status {event.exit_status}"
        if event.rung is not None and event.rungs_ms:
            text += f", stopped in {max(event.rungs_ms.values()):.0f} ms ({event.rung.value})"
        if event.survivors:
            pids = ", ".join(str(survivor.pid) for survivor in event.survivors)
            text += f", COULD NOT STOP {pids}"
        failed = event.outcome in SHOWS_TAIL
        tail = last_lines(event.content) if self.shows_output(event) else []
        if failed and not event.detail and len(tail) == 1 and len(tail[0]) <= _ONE_LINE:
            return f"{text}: {tail[0].strip()}"
        reason = event.detail
        if not reason and not tail and event.outcome is not Outcome.OK:
            reason = event.content
        if reason:
            text += f": {one_line(reason, _ONE_LINE)}"
        return "\n".join([text, *(f"    | {line}" for line in tail)])

    def _turn(self, event: events.TurnTaken) -> str | None:
        said = []
        if self._verbose and event.reasoning:
            said += [f"turn {event.turn} thinks:", *_block(event.reasoning)]
        if self._verbose and event.text and not event.final:
            said += [f"turn {event.turn}:", *_block(event.text)]
        elif event.text and not event.final:
            said.append(f"turn {event.turn}: {one_line(event.text)}")
        if self._verbose and event.usage is not None:
            said.append(f"turn {event.turn} used {event.usage.total:,} tokens")
        return "\n".join(said) or None


def _start(event: events.SegmentStarted) -> str | None:
    said = first_lines(event.plan)
    if event.agents_md is not None:
        said.append(f"the model is told {one_line(event.agents_md.path)} of the workspace")
    return "\n".join(said) or None


def _block(text: str) -> list[str]:
    return [f"    | {line}" for line in last_lines(text, _BLOCK)]


def _arguments(arguments: object) -> str:
    if isinstance(arguments, dict):
        return ", ".join(f"{key}={value!r}" for key, value in list(arguments.items())[:4])
    return repr(arguments)
