"""The promises, one by one, against what was seen of a round. Each failure is one line of text."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from provider.history_rules import problems_of_history
from sandbox_agent.journal.file import parse_journal
from sandbox_agent.journal.history import ToolMessage
from sandbox_agent.journal.state import state_of

from chaos.plan import (
    AGENT_DIES,
    COMMAND,
    KILLS_CALL,
    KILLS_MODEL,
    STOPS_MODEL,
    Cause,
    Phase,
    Tool,
    Use,
)
from chaos.seen import Event, Seen, flagged_at

BOUND = 0.150
"""Seconds that the promise gives beyond grace and term."""

AGENT_BOUND = 0.250
"""Seconds after the agent's death until nothing is left."""

EXIT_BOUND = 1.500
"""Seconds from a command's recorded end to the end of its process: closing, telling, and the
interpreter's own. No promise, and mostly processor time, of which there is little here."""

NOISE = 0.400
"""Seconds added to every bound, for a machine on which several umpires and busy tools share the
processors. The latencies in the report are measured, not bounded."""

START_NOISE = 0.090
"""Seconds after the flag in which a worker that had looked just before may still begin."""

CUTS = 8
"""So many random prefixes of each journal are loaded, beside the whole."""

NATURAL = {"ok", "error"}
STOPPED = {"cancelled", "killed"}
_LESS_SURE = {
    Cause.STOP_INIT,
    Cause.STOP_WORKER,
    Cause.STOP_AGENT,
    Cause.CLOSE,
    Cause.INTERRUPT_TWICE,
    Cause.FREEZE_DISK,
    Cause.SLOW_READER,
    Cause.READER_GONE,
}
EXPECTED: dict[Tool, set[str]] = {
    Tool.POLLING: {"cancelled"},
    Tool.WAITING: {"cancelled"},
    Tool.ATTACKER: {"cancelled"},
    Tool.SLEEPING: {"cancelled", "killed"},
    Tool.BUSY_PYTHON: {"cancelled", "killed"},
    Tool.BUSY_C: {"killed"},
    Tool.TERM_IGNORER: {"killed"},
}
"""Outcomes of a call in flight that stays until it is stopped; for all others both are possible."""

STATUS = {
    Cause.INTERRUPT: "interrupted",
    Cause.INTERRUPT_TWICE: "interrupted",
    Cause.TASK_CANCEL: None,
    Cause.CANCEL_STORM: None,
    Cause.CLOSE: "interrupted",
    Cause.CTRL_C: None,
    Cause.SIGINT: "interrupted",
    Cause.SIGTERM: "interrupted",
    Cause.SIGHUP: "interrupted",
    Cause.CTRL_Z: "interrupted",
    Cause.FREEZE_DISK: "interrupted",
    Cause.SLOW_READER: "interrupted",
    Cause.READER_GONE: "interrupted",
    Cause.STOP_AGENT: "interrupted",
    Cause.BUDGET: "budget",
    Cause.CANCEL_RUN: "interrupted",
    **dict.fromkeys(sorted(STOPS_MODEL), "interrupted"),
}
REASON = {
    Cause.BUDGET: "budget",
    Cause.TASK_CANCEL: "cancelled",
    Cause.CANCEL_STORM: "cancelled",
    Cause.CLOSE: "closed",
}
EXIT = dict.fromkeys(COMMAND, 130) | {Cause.SIGTERM: 143, Cause.SIGHUP: 129}


def judge(seen: Seen) -> list[str]:
    """Everything that is wrong with this round."""
    found = [*seen.complaints, *quiet(seen.stderr)]
    for check in (
        stopped,
        bounded,
        tools,
        results,
        started,
        outcomes,
        journal,
        ends,
        words,
        model,
        memory,
    ):
        found += check(seen)
    return found


def quiet(stderr: str) -> list[str]:
    """Nobody's exception goes unhandled, in whatever thread or callback."""
    at = stderr.find("Traceback (most recent call last)")
    return [f"ends: on standard error: {stderr[max(0, at - 200) :][:1500]}"] if at >= 0 else []


def stopped(seen: Seen) -> Iterator[str]:
    """1 and 7: returned means stopped; nobody outlives the agent."""
    for process in seen.lasting:
        yield f"stopped: left behind: {process}"
    if seen.gone_ms is not None and seen.gone_ms > (AGENT_BOUND + NOISE) * 1000:
        yield f"stopped: {seen.gone_ms:.0f} ms after the agent's death something was left"


def bounded(seen: Seen) -> Iterator[str]:
    """2: from the flag to the return, and the times of the rungs."""
    if seen.plan.cause in AGENT_DIES:
        return
    if seen.returned is None:
        yield "bounded: it did not return"
        return
    grace, term = seen.times
    limit = grace + term + BOUND + NOISE
    flagged = seen.flagged_at()
    if seen.strike.thawed is not None:
        flagged = seen.strike.thawed  # what was promised until then is looked at while it is frozen
    deadly = seen.plan.cause in (Cause.KILL_INIT, Cause.KILL_SPAWNER) and seen.strike.victims
    if deadly and seen.phase() in (Phase.IN_FLIGHT, Phase.STARTING, Phase.VERIFY):
        # Nothing can go on without them, and nothing is left to be waited for.
        flagged, limit = seen.strike.at, BOUND + NOISE
    returned = seen.stopped_at() or seen.returned
    if seen.returned - returned > EXIT_BOUND + NOISE:
        yield f"bounded: the command ended {_ms(seen.returned - returned)} after its run"
    if flagged is not None and flagged < returned:
        if returned - flagged > limit:
            yield f"bounded: {_ms(returned - flagged)} from the flag to the return"
        if seen.closed is not None and seen.closed - max(flagged, seen.returned) > 1 + limit:
            yield f"bounded: {_ms(seen.closed - seen.returned)} until it was closed"
    if seen.strike.hurried is not None and flagged is not None:
        late = returned - seen.strike.hurried
        if late > term + BOUND + NOISE:
            yield f"bounded: {_ms(late)} from the second interrupt to the return"
    for call, at in seen.strike.cancelled.items():
        end = seen.first("ended", call)
        if end is not None and end["monotonic"] - at > limit:
            yield f"bounded: {_ms(end['t'] - at)} from cancel_call({call}) to its end"
    for end in seen.of("ended"):
        yield from _rungs(seen, end, grace, term)


def _rungs(seen: Seen, end: Event, grace: float, term: float) -> Iterator[str]:
    rungs = end["rungs_ms"]
    if not rungs:
        return
    early = seen.strike.hurried is not None or seen.plan.cause in (Cause.CLOSE, *SANDBOX)
    due = {"term": grace * 1000, "kill": (grace + term) * 1000}
    for rung, when in due.items():
        taken = rungs.get(rung)
        if taken is not None and taken > when + NOISE * 1000:
            yield f"bounded: {end['call']}: rung {rung} {taken:.0f} ms after the flag"
        # After a closing or the death of the sandbox there is nothing to be patient about.
        if taken is not None and taken < when - 1 and not early and seen.closed is None:
            yield f"bounded: {end['call']}: rung {rung} after {taken:.0f} ms already"
    if end["outcome"] == "timeout":
        sent = seen.first("dispatching", end["call"])
        if sent is not None and sent["timeout"] is not None:
            took = end["monotonic"] - sent["monotonic"]
            if took > sent["timeout"] + grace + term + BOUND + NOISE:
                yield f"bounded: {end['call']} ended {_ms(took)} after it was dispatched"


SANDBOX = (Cause.KILL_INIT, Cause.KILL_SPAWNER, Cause.STOP_INIT, Cause.STOP_SPAWNER)


def tools(seen: Seen) -> Iterator[str]:
    """3, 4, 5: what tools noticed of their tokens and of the board."""
    for use in seen.plan.uses:
        path = seen.work / ".chaos" / f"{use.mark}.bad"
        if path.exists():
            yield f"token: {use.tool}: {path.read_text()}"
        if seen.wrote(use, "key"):
            yield f"secret: {use.tool} was given the provider's key"


def words(seen: Seen) -> Iterator[str]:
    """4: each call has a word of its own on the board, for ever."""
    for use in seen.plan.uses:
        note = seen.began_note(use)
        if note and note.get("board") is not None and note.get("word") is not None:
            key = (note["board"], note["slot"], note["word"])
            if key in seen.words:
                yield f"token: {use.tool} was given the word of an earlier call, {key}"
            seen.words.add(key)


def results(seen: Seen) -> Iterator[str]:
    """6: one call, one result."""
    counts = Counter(event["call"] for event in seen.of("ended"))
    for call, count in counts.items():
        if count != 1:
            yield f"results: {call} has {count} ends"
    if seen.plan.cause in AGENT_DIES:
        return
    for call in seen.asked():
        if not counts[call]:
            yield f"results: {call} has no end"
    for event in seen.of("dispatching"):
        if not counts[event["call"]]:
            yield f"results: {event['call']} was dispatched and has no end"
    for call, use in seen.asked().items():
        end = seen.first("ended", call)
        if end is None or use is None:
            continue
        if seen.wrote(use, "ready") and f"out-{use.mark}" not in end["content"]:
            yield f"results: {call} ({use.tool}, {end['outcome']}): what it printed is missing"
        if end["outcome"] == "ok" and f"returned-{use.mark}" not in end["content"]:
            yield f"results: {call} ({use.tool}): what it returned is missing"


def started(seen: Seen) -> Iterator[str]:
    """4 and 6: `started` against what the tool itself wrote, and no start after the flag."""
    flagged = seen.flagged_at()
    left_alone = seen.plan.cause in _WHOLE | {Cause.CANCEL_CALL}
    for call, use in seen.asked().items():
        if use is None:
            continue
        note = seen.began_note(use)
        end = seen.first("ended", call)
        sent = seen.first("dispatching", call)
        if note is not None and sent is None:
            yield f"started: {call} ran, and the journal does not say that it was dispatched"
        if end is not None:
            if note is not None and end["started"] == "no":
                yield f"started: {call} ran, and its end says that it was not started"
            if note is not None and end["outcome"] == "skipped":
                yield f"started: {call} ran, and its end says skipped"
            if note is None and end["outcome"] == "ok":
                yield f"started: {call} never ran, and its end says ok"
        acknowledged = seen.first("started", call)
        if note and acknowledged is None and end is not None and end["started"] == "yes":
            yield f"started: {call}: its end says yes, the journal never said started"
        if note is None and acknowledged is not None and end is not None and left_alone:
            taken = _taken_at(use, end)
            if taken - acknowledged["monotonic"] > START_NOISE:  # enough to write in
                yield f"started: {call} ({use.tool}) is said to have started, and never ran"
        at = seen.strike.cancelled.get(call, flagged)
        if note and "t" in note and at is not None and note["t"] > at + START_NOISE:
            yield f"started: {call} ({use.tool}) began {_ms(note['t'] - at)} after the flag"
    # A second run of a call would have a second acknowledgement.
    for call, count in Counter(event["call"] for event in seen.of("started")).items():
        if count != 1:
            yield f"started: {call} was started {count} times"


def _taken_at(use: Use, end: Event) -> float:
    """Until when a call's tool could go on: a shell gets SIGINT with the flag."""
    ended = float(end["monotonic"])
    flagged = flagged_at(end)
    return min(ended, flagged) if use.tool is Tool.SHELL and flagged is not None else ended


def outcomes(seen: Seen) -> Iterator[str]:
    """6: the outcome fits to what was done to the call."""
    cause, phase, at = seen.plan.cause, seen.phase(), seen.struck_at()
    if cause in AGENT_DIES:
        return
    for call, use in seen.asked().items():
        end = seen.first("ended", call)
        if end is None or use is None:
            continue
        outcome = end["outcome"]
        if cause in _HARMLESS and outcome != "ok":
            yield f"outcomes: {call} ({use.tool}) {outcome} after {cause}: {end['detail']}"
        if phase is None and outcome != "ok":
            yield f"outcomes: {call} ({use.tool}) {outcome} without a strike: {end['detail']}"
        # A fork of the tool's failed, or a process of its was ended.
        if outcome == "error" and cause not in (Cause.NO_PROCESSES, Cause.OUT_OF_MEMORY):
            yield f"outcomes: {call} ({use.tool}) failed by itself: {end['content'][-300:]}"
        if use.brief or at is None or phase is not Phase.IN_FLIGHT:
            continue
        running = seen.first("started", call)
        if running is None or running["monotonic"] > at or not seen.wrote(use, "ready"):
            continue
        if cause is Cause.TIMEOUT:
            expected = {"timeout"}
        elif cause in (Cause.KILL_INIT, Cause.KILL_SPAWNER):
            # A call that was still queued learns of it first, and stops the run: then the others,
            # which were dying, have been flagged.
            expected = {"crashed"} | (STOPPED if end["detail"] == "failed" else set())
        elif cause is Cause.NO_PROCESSES:
            expected = STOPPED | {"error", "crashed"}  # by themselves: they could not fork
            # Its shells could not: they say so, and nothing is left to wait for.
            expected |= {"ok"} if use.tool is Tool.TREE else set()
        elif cause is Cause.OUT_OF_MEMORY:
            expected = STOPPED | {"crashed"}  # the victim's
            # A process that these wait for may have been ended.
            expected |= {"ok", "error"} if use.tool in (Tool.TREE, Tool.SHELL) else set()
        elif cause in KILLS_CALL:
            expected = STOPPED | {"crashed"}  # the victim's, unless the flag came first
        elif cause in _LESS_SURE or seen.times[0] > 1:
            expected = STOPPED
        else:
            expected = EXPECTED.get(use.tool, STOPPED)
        if outcome not in expected:
            wanted = " or ".join(sorted(expected))
            yield f"outcomes: {call} ({use.tool}) {outcome}, not {wanted}: {end['detail']}"


def memory(seen: Seen) -> Iterator[str]:
    """6: a call that the kernel has struck because memory ran out says so."""
    if seen.plan.cause is not Cause.OUT_OF_MEMORY or not seen.strike.ended_for_memory:
        return
    ends = seen.of("ended")
    said = {end["call"] for end in ends if "the kernel ended" in end["detail"]}
    # The victim may be a spare that a call has just taken, before its tool began: then the call is
    # made again.
    begins = seen.beginning_at(seen.strike.at or 0.0)
    if not said and not begins:
        yield "memory: the kernel ended a process, and no call says so"
    for end in ends:
        if end["outcome"] == "crashed" and end["call"] not in said:
            yield f"memory: {end['call']} crashed, and does not say of what: {end['detail']}"


def rates(seen: Seen) -> dict[str, tuple[int, int]]:
    """What a machine under load may fail to do in time in one round, but not as a rule: of calls
    that were struck in flight, (how many behaved, how many there were)."""
    found: dict[str, tuple[int, int]] = {}
    cause, at = seen.plan.cause, seen.struck_at()
    if cause not in _WHOLE or at is None or seen.phase() is not Phase.IN_FLIGHT:
        return found
    for call, use in seen.asked().items():
        end, running = seen.first("ended", call), seen.first("started", call)
        if use is None or end is None or running is None or running["monotonic"] > at or use.brief:
            continue
        if not seen.wrote(use, "ready") or end["monotonic"] < at:
            continue
        if use.tool in _HEARING:
            name, good = f"{use.tool}: ended at the flag", end["rung"] == "flag"
        elif use.tool in _TIDY:
            name, good = f"{use.tool}: finally ran at SIGTERM", seen.wrote(use, "finally")
        else:
            continue
        found[name] = (found.get(name, (0, 0))[0] + good, found.get(name, (0, 0))[1] + 1)
    return found


_HARMLESS = {Cause.PAUSE, *KILLS_MODEL}
"""Causes that no call hears of."""
_HEARING = {Tool.POLLING, Tool.WAITING, Tool.ATTACKER}
_TIDY = {Tool.SLEEPING, Tool.BUSY_PYTHON, Tool.SELF_STOPPER}
_WHOLE = {
    Cause.INTERRUPT,
    Cause.TASK_CANCEL,
    Cause.CANCEL_STORM,
    Cause.CTRL_C,
    Cause.SIGINT,
    Cause.SIGTERM,
    Cause.SIGHUP,
    Cause.BUDGET,
    Cause.TIMEOUT,
    Cause.STOP_SPAWNER,
}
"""Causes that flag calls and do nothing else to them."""


def journal(seen: Seen) -> Iterator[str]:
    """8: every prefix loads and makes a history that providers take; result.json says the same."""
    dice = random.Random(seen.plan.choice)
    sizes = [len(seen.journal), *(dice.randrange(len(seen.journal) + 1) for _ in range(CUTS))]
    for size in sizes:
        try:
            state = state_of(parse_journal(seen.journal[:size]))
            history = state.history()
        except Exception as error:
            yield f"journal: cut at {size} of {len(seen.journal)} it does not load: {error!r}"
            continue
        for problem in problems_of_history(history):
            yield f"history: cut at {size} of {len(seen.journal)}: {problem}"
        told = [m.call_id for m in history if isinstance(m, ToolMessage)]
        if told != [call.id for call in state.calls.values() if not call.verify]:
            yield f"journal: cut at {size} its history has not one result for each call"
    order = {"dispatching": 0, "started": 1, "ended": 2}
    last: dict[str, int] = {}
    for event in seen.events:
        rank = order.get(event["event"])
        if rank is not None:
            if rank <= last.get(event["call"], -1):
                yield f"journal: {event['call']}: {event['event']} comes too late"
            if rank == 1 and event["call"] not in last:
                yield f"journal: {event['call']} was started before it was dispatched"
            last[event["call"]] = rank
    if seen.plan.cause in AGENT_DIES:
        yield from _told_after_death(seen)
        return
    if seen.record is None:
        if seen.of("segment"):
            yield "journal: there is no result.json"
        return
    known = {call["id"]: call for call in seen.record["calls"]}
    for end in seen.of("ended"):
        call = known.get(end["call"])
        if call is None:
            if not end["call"].startswith("verify_"):
                yield f"journal: {end['call']} is not in result.json"
            continue
        for field in ("outcome", "started", "exit_status", "rung", "rungs_ms", "survivors"):
            if call[field] != end[field]:
                yield f"journal: {end['call']}: {field} differs from result.json"
    for end in seen.of("segment_ended"):
        if (end["status"], end["exit_code"]) != (seen.record["status"], seen.record["exit_code"]):
            yield f"journal: it says {end['status']}, result.json {seen.record['status']}"


def _told_after_death(seen: Seen) -> Iterator[str]:
    """A model that is asked to go on after the agent's death must not be told a lie."""
    try:
        state = state_of(parse_journal(seen.journal))
        told = {m.call_id: m for m in state.history() if isinstance(m, ToolMessage)}
    except Exception:
        return  # told already
    for call, use in seen.asked().items():
        message = told.get(call)
        denied = message is not None and message.started == "no"
        if use is not None and denied and seen.began_note(use) is not None:
            yield f"started: {call} ran before the agent died; the model is told it did not"


def ends(seen: Seen) -> Iterator[str]:
    """How the run as a whole ended, and that the record says why."""
    cause = seen.plan.cause
    if cause in AGENT_DIES or not seen.of("segment"):
        return
    over = seen.of("segment_ended")
    if len(over) != 1 or seen.events[-1]["event"] != "segment_ended":
        yield f"ends: {len(over)} ends of the run, and the last event is {seen.events[-1]['event']}"
        return
    end, requests = over[0], seen.of("cancel_requested")
    if end["survivors"]:
        yield f"ends: survivors are named: {end['survivors']}"
    if end["exit_code"] == 70:
        yield f"ends: a bug of ours: {end['reason']}"
    whole = [request for request in requests if request["call"] is None]
    wanted = STATUS.get(cause)
    if wanted is not None and whole and end["status"] != wanted:
        yield f"ends: {end['status']} after {cause}: {end['reason']}"
    if cause in REASON and whole and whole[0]["reason"] != REASON[cause]:
        yield f"ends: the reason of {cause} is said to be {whole[0]['reason']}"
    phase = seen.phase()
    stays = (Phase.IN_FLIGHT, Phase.VERIFY, Phase.GAP)
    if phase in stays and cause in STATUS and not whole:
        yield f"ends: struck in {phase}, and the journal has no cancel_requested"
    if phase is None and not requests and end["status"] != "done":
        yield f"ends: {end['status']} without a strike: {end['reason']} {seen.stderr[-300:]}"
    if cause in COMMAND:
        expected = {EXIT[cause]} if whole else {0}
        if seen.exit_code not in expected:
            yield f"ends: exit code {seen.exit_code}, not {expected}: {seen.stderr[-300:]}"
    cancels = (Cause.TASK_CANCEL, Cause.CANCEL_STORM)
    if cause in cancels and whole and "CancelledError" not in (seen.error or ""):
        yield f"ends: arun() of a cancelled task gave {seen.status} {seen.error}"
    if cause is Cause.CTRL_C and whole and "KeyboardInterrupt" not in (seen.error or ""):
        yield f"ends: run() gave {seen.status} {seen.error} after Ctrl-C"


def model(seen: Seen) -> Iterator[str]:
    """What a run does that has lost the process which asks its provider, or was paused."""
    cause, over = seen.plan.cause, seen.of("segment_ended")
    if not over:
        return
    status = over[0]["status"]
    if cause is Cause.PAUSE and status not in ("paused", "done"):
        yield f"ends: {status} after {cause}: {over[0]['reason']}"
    if cause not in KILLS_MODEL:
        return
    if status != "done":
        yield f"model: the run ended as {status}, not done, after {cause}: {over[0]['reason']}"
    if seen.strike.victims and seen.phase() is Phase.MODEL and seen.requests < 2:
        # Answered already, and on its way to us; the process was not needed any more.
        answered = [
            e["monotonic"] for e in seen.of("model_turn") if e["monotonic"] > (seen.strike.at or 0)
        ]
        if not answered or answered[0] - (seen.strike.at or 0) > NOISE:
            yield f"model: {cause} while it was asked, and it was not asked again"


def secrets(runs: Path, key: str) -> list[str]:
    """No file of a run holds a key."""
    files = [path for path in runs.rglob("*") if path.is_file()]
    return [f"secret: the key is in {path}" for path in files if key.encode() in path.read_bytes()]


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"


def dump(events: list[Event]) -> str:
    """For the report of a violation: the run's events, short."""
    return json.dumps([{k: str(v)[:200] for k, v in e.items() if k != "plan"} for e in events])
