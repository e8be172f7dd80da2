"""The moving part of the view: what is going on at this moment, below what has happened."""

from __future__ import annotations

from rich.text import Text

from sandbox_agent.reports.report import Call
from sandbox_agent.reports.terminal.live_run import LiveRun
from sandbox_agent.reports.terminal.look import Look, Part
from sandbox_agent.reports.terminal.words import call_text, duration, money, tokens

MOST_ROWS = 24
"""Rows that the view takes at most, however high the terminal is."""
_TAIL = 8
"""Lines of a call's output at most."""
_TIME = len("9.9 s")
"""Columns of a time at least, so that what stands before it does not move."""
_WORDS = 6
"""Lines of an answer that is coming, at most."""


def frame(run: LiveRun, now: float, rows: int, look: Look) -> list[Text]:
    """The lines. now: CLOCK_MONOTONIC seconds. rows: of the terminal."""
    ends = [_totals(run, now, look)]
    if run.stopped is not None and not run.is_over:
        ends += look.wrapped(ladder(run, now), "bold yellow", "", 3)[: max(1, rows - 2)]
    room = max(0, min(rows - 1, MOST_ROWS) - len(ends))
    return [*_calls(run, now, room, look), *ends]


def _calls(run: LiveRun, now: float, room: int, look: Look) -> list[Text]:
    """The calls that are going, and what they print; or what the model says."""
    going = run.going
    if not going:
        return _answer(run, now, room, look)
    if len(going) > room:
        going, left_out = going[: max(0, room - 1)], len(going) - max(0, room - 1)
    else:
        left_out = 0
    each = min(_TAIL, (room - len(going) - bool(left_out)) // len(going)) if going else 0
    lines: list[Text] = []
    for call in going:
        lines.append(_call(run, call, now, look))
        tail = run.tails.get(call.id)
        for text in tail.lines(each) if tail is not None and each > 0 else ():
            lines.append(look.line([(f"  {look.signs.bar} ", "dim")], (text, "dim")))
    if left_out and room:
        lines.append(look.line((), (f"and {left_out} more calls", "dim")))
    return lines


def _call(run: LiveRun, call: Call, now: float, look: Look) -> Text:
    elapsed = duration(run.elapsed(call, now)).rjust(_TIME)
    limit = f" of {duration(call.timeout)}" if call.timeout else ""
    begin: list[Part] = [(f"{look.signs.going} ", "cyan")]
    if call.is_verify:
        place = run.verified + 1
        begin.append((f"verify {place} of {max(place, run.verify_commands)} ", "bold"))
        what = call.command or ""
    else:
        begin.append((f"{look.fit(call.tool, 24)} ", "bold"))
        what = call_text(call)
    return look.line(begin, (what, ""), [(f"  {elapsed}", "cyan"), (limit, "dim")])


def _answer(run: LiveRun, now: float, room: int, look: Look) -> list[Text]:
    """What the model says, or what is waited for."""
    if run.is_over:
        doing = "looking for what changed"
    elif run.segment is None:
        doing = "starting the sandbox"
    elif run.stopped is not None:
        doing = "waiting for the end of the model's request"
    elif run.asked:
        doing = "the model writes a call"
    elif run.said:
        doing = "the model says"
    elif run.thought:
        doing = "the model thinks"
    else:
        doing = "waiting for the model"
    since = (
        "" if run.waiting_since is None else f"  {duration(now - run.waiting_since).rjust(_TIME)}"
    )
    if room < 1:
        return []
    head = look.line([(f"{look.signs.going} ", "cyan")], (doing, ""), [(since, "cyan")])
    # Masked before it is cut: half a secret would not be found.
    text = look.mask(run.asked or run.said or run.thought)
    if not text or run.is_over or room < 2:
        return [head]
    count = min(_WORDS, room - 1)
    # The end of a long answer is enough to fill these lines.
    words = look.wrapped(text[-count * look.width :], "dim", "  ", 2 * _WORDS * len(text))
    return [head, *words[-count:]]


def _totals(run: LiveRun, now: float, look: Look) -> Text:
    """Turn, tokens, cost and time; with their limits, if there is room for them."""
    turns = run.budget("turns")
    if run.segment is None or run.segment.number > 1:
        turns = None  # the limit counts from the resume, and the number from the first turn
    parts = [(f"turn {max(1, run.turn)}", f" of {turns:.0f}" if turns else "")]
    if run.is_counted:
        most = run.budget("tokens")
        parts.append((f"{tokens(run.usage.total)} tokens", f" of {tokens(most)}" if most else ""))
    if run.usage.cost_usd is not None:
        most = run.budget("cost_usd")
        parts.append((money(run.usage.cost_usd), f" of {money(most)}" if most else ""))
    time = run.budget("time")
    parts.append((duration(run.seconds(now)), f" of {duration(time)}" if time else ""))
    if run.waiting:
        parts.append((f"{run.waiting} waiting", ""))
    between = look.signs.between
    whole = between.join(part + limit for part, limit in parts)
    if len(whole) <= look.width:
        return look.line((), (whole, "dim"))
    first, *rest = (part for part, _ in parts)
    return look.line((), (first, "dim"), [(f"{between}{part}", "dim") for part in rest])


def ladder(run: LiveRun, now: float) -> str:
    """How far the stop of the run is."""
    assert run.stopped is not None
    begun, reason = run.stopped
    grace, term = run.period("grace"), run.period("term")
    what = "interrupting" if reason == "interrupt" else f"stopping ({reason.replace('_', ' ')})"
    if grace is None or term is None:
        return what
    over = begun + grace
    if run.hurried is not None:
        over = min(over, run.hurried)
    if now < over:
        key = "Ctrl-C again skips it" if reason == "interrupt" else "Ctrl-C twice skips it"
        return f"{what}: {over - now:.1f} s of grace left; {key}"
    if now < over + term:
        return f"{what}: SIGTERM was sent; SIGKILL in {over + term - now:.1f} s"
    return f"{what}: SIGKILL was sent; waiting for the proof that all has ended"
