"""The part of the view that stays: a line or more for what has happened."""

from __future__ import annotations

from rich.text import Text
from sandbox_agent_ipc.cancel_reason import CancelReason
from sandbox_agent_sandbox.outcome import Outcome

from sandbox_agent.journal import events
from sandbox_agent.reports.escape import last_lines
from sandbox_agent.reports.lines import SHOWS_TAIL, STOPPED
from sandbox_agent.reports.report import Call
from sandbox_agent.reports.terminal.live_run import is_good, seconds_of
from sandbox_agent.reports.terminal.look import Look, Part
from sandbox_agent.reports.terminal.words import call_text, duration, money, tokens
from sandbox_agent.reports.walls import first_lines

_SAID = 20
"""Lines of what the model says."""
_ID_COLUMNS = 60
"""Columns from which on the ids of calls are shown."""


def lines(
    event: events.AnyEvent, ended: Call | None, look: Look, *, verbose: bool = False
) -> list[Text]:
    """The lines for an event; often none. ended: the call that ended with it."""
    match event:
        case events.JournalOpened():
            return [look.line([("run ", "")], (event.run, "bold"))]
        case events.SegmentStarted():
            made = (look.wrapped(line, "yellow", "", _SAID) for line in first_lines(event.plan))
            return [line for one in made for line in one]
        case events.TurnTaken():
            return _turn(event, look, verbose)
        case events.Ended():
            return [] if ended is None else _ended(event, ended, look, verbose)
        case events.CancelRequested():
            what = "the run" if event.call is None else event.call
            reason = event.reason.replace("_", " ")
            return [look.line([(f"{look.signs.stopped} ", "yellow")], (_stop(what, reason), ""))]
        case events.Verified():
            sign, style = _sign(event.passed, look)
            verdict = "passed" if event.passed else "FAILED"
            begin = [(f"{sign} ", style), ("verify ", "bold"), (f"{verdict}: ", style)]
            return [look.line(begin, (event.command, ""))]
    return []


def _stop(what: str, reason: str) -> str:
    return f"stopping {what} ({reason})"


def _sign(good: bool, look: Look) -> Part:
    return (look.signs.good, "green") if good else (look.signs.bad, "red")


def _turn(event: events.TurnTaken, look: Look, verbose: bool) -> list[Text]:
    made: list[Text] = []
    if verbose and event.reasoning:
        made += look.wrapped(event.reasoning, "dim italic", "  ", _SAID)
    if event.text and not event.final:
        made += look.wrapped(event.text, "", "", _SAID)
    if verbose:
        parts = [f"turn {event.turn}"]
        if event.usage is not None:
            parts.append(f"{tokens(event.usage.total)} tokens")
            if event.usage.cost_usd is not None:
                parts.append(money(event.usage.cost_usd))
        made.append(look.line((), (look.signs.between.join(parts), "dim")))
    return made


def _ended(event: events.Ended, call: Call, look: Look, verbose: bool) -> list[Text]:
    good = is_good(call)
    sign, style = _sign(good, look)
    if event.outcome in STOPPED:
        sign, style = look.signs.stopped, "yellow"
    begin: list[Part] = [(f"{sign} ", style)]
    if look.columns >= _ID_COLUMNS and not call.is_verify:
        begin.append((f"{look.fit(call.id, 14)} ", "dim"))
    begin.append((f"{look.fit('verify' if call.is_verify else call.tool, 24)} ", "bold"))
    seconds = seconds_of(call)
    end: list[Part] = []
    how = _how(event)
    if how:
        end.append((f"  {how}", style))
    if seconds is not None:
        end.append((f"  {duration(seconds)}", "dim"))
    if event.survivors:
        pids = ", ".join(str(survivor.pid) for survivor in event.survivors)
        end.insert(0, (f"  COULD NOT STOP {pids}", "bold red"))
    made = [look.line(begin, (call.command or call_text(call), ""), end)]
    return made + _output(event, good, look, verbose)


def _how(event: events.Ended) -> str:
    parts = []
    if event.exit_status:
        parts.append(f"exit status {event.exit_status}")
    if event.outcome is not Outcome.OK and not (parts and event.outcome is Outcome.ERROR):
        parts.insert(0, event.outcome.value)
    if event.rung is not None and event.rungs_ms:
        parts.append(f"{max(event.rungs_ms.values()):.0f} ms ({event.rung.value})")
    return ", ".join(parts)


def _output(event: events.Ended, good: bool, look: Look, verbose: bool) -> list[Text]:
    """Why it is so, and of a call that failed the end of what it printed."""
    bar = (f"  {look.signs.bar} ", "dim")
    # Why a call was stopped is said where its stop begins.
    said = event.outcome in STOPPED and event.detail in set(CancelReason)
    made = look.wrapped(event.detail, "", "  ", 4) if event.detail and not said else []
    if event.outcome in SHOWS_TAIL or (verbose and event.content):
        style = "dim" if good else ""
        made += [look.line([bar], (text, style)) for text in last_lines(look.mask(event.content))]
    return made
