"""Waiting for the phase in which a round is to be struck: by events, never by guessing."""

from __future__ import annotations

import time
from pathlib import Path

from chaos.asked import Provider
from chaos.doors import Door, Gone, Message
from chaos.plan import Cause, Phase, Round, Waits

ARRIVAL = 15.0
"""Seconds until a phase must have come."""

MODEL_ARRIVAL = 60.0
"""The same where litellm has to be imported first, on a busy machine."""

SELF_MADE = {Cause.TIMEOUT, Cause.BUDGET}


def event(kind: str, message: Message) -> bool:
    return bool(message["say"] == "event" and message["event"] == kind)


def over(message: Message) -> bool:
    return message["say"] == "returned" or event("segment_ended", message)


def arrive(
    door: Door, plan: Round, parallel: int, work: Path, since: int, provider: Provider | None
) -> bool:
    """Wait for the phase, and then a random moment. False when the run ended before."""
    try:
        if provider is not None:
            _asked(door, plan, provider, since)
        else:
            _phase(door, plan, parallel, work, since)
    except Gone:
        return False
    # What strikes by chance strikes between two events, so there is nothing to wait for.
    deadline = time.monotonic() + plan.jitter
    while (left := deadline - time.monotonic()) > 0:
        time.sleep(left)
    return True


def _phase(door: Door, plan: Round, parallel: int, work: Path, since: int) -> None:
    match plan.phase:
        case Phase.OPENING:
            door.wait(lambda m: m["say"] == "begin" or event("user_message", m), ARRIVAL, since)
        case Phase.GAP:
            _until(door, lambda m: m["say"] == "thinking", since)
        case Phase.STARTING:
            _until(door, lambda m: event("dispatching", m), since)
        case Phase.IN_FLIGHT:
            running = min(parallel, len(plan.uses))
            count = running if plan.ready else 1
            _until_started(door, count, since)
            if plan.ready:
                _until_ready(door, plan, running, work, since)
        case Phase.VERIFY:
            _until(door, lambda m: event("started", m) and m["call"].startswith("verify_"), since)
            if plan.ready:
                _until_files(door, [work / ".chaos" / "verify.began"], since)
        case Phase.SHUTDOWN:
            # Its verify command has ended, or the only one of `exec`; what is left is to write the
            # end down and to close.
            _until(door, lambda m: event("ended" if plan.lone else "verify", m), since)


def _asked(door: Door, plan: Round, provider: Provider, since: int) -> None:
    """Until the provider keeps the run waiting in the way that the plan wants."""
    deadline = time.monotonic() + MODEL_ARRIVAL
    say = {Waits.COLD: "asking", Waits.STREAMING: "piece", Waits.STALLED: "piece"}.get(
        plan.waits or Waits.NEVER
    )
    while True:
        if say is None and provider.came(plan.number, plan.turn):
            return
        for message in door.heard[since:]:
            if message["say"] == say and message["turn"] == plan.turn:
                return
            if over(message):
                raise Gone
        now = time.monotonic()
        if door.ended or now > deadline:
            raise Gone
        door.listen(now + (0.002 if say is None else 1.0))


def _until(door: Door, found: object, since: int) -> None:
    assert callable(found)
    message = door.wait(lambda m: over(m) or found(m), ARRIVAL, since)
    if over(message):
        raise Gone


def _until_started(door: Door, count: int, since: int) -> None:
    deadline = time.monotonic() + ARRIVAL
    while sum(event("started", m) for m in door.heard[since:]) < count:
        if any(map(over, door.heard[since:])) or time.monotonic() > deadline:
            raise Gone
        if door.ended or (not door.listen(deadline) and door.ended):
            raise Gone


def _until_ready(door: Door, plan: Round, running: int, work: Path, since: int) -> None:
    """Until the tools that run have everything going. Calls are named call_TURN_PLACE."""
    calls = [m["call"] for m in door.heard[since:] if event("started", m)]
    places = [int(call.rsplit("_", 1)[1]) - 1 for call in calls if call.startswith("call_")]
    uses = [plan.uses[place] for place in places[:running] if place < len(plan.uses)]
    _until_files(door, [work / ".chaos" / f"{use.mark}.ready" for use in uses], since)


def _until_files(door: Door, paths: list[Path], since: int) -> None:
    deadline = time.monotonic() + ARRIVAL / 3
    while not all(path.exists() for path in paths) and time.monotonic() < deadline:
        door.listen(time.monotonic() + 0.002)
        if door.ended or any(map(over, door.heard[since:])):
            raise Gone
