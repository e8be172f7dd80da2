"""Describes how a replayed run differs from the recorded one. Text of tools is hostile: control
characters and marks that reorder text are escaped."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
from sandbox_agent_sandbox.outcome import Outcome

from sandbox_agent.journal.events import Ended, ToolCall
from sandbox_agent.journal.history import tool_text
from sandbox_agent.journal.recording import Verdict
from sandbox_agent.models import STOPPED

EXCERPT = 100
"""Characters of each text that a message shows."""
_BEFORE = 20
"""Characters of an excerpt that come before the first difference."""


def of_results(recorded: Ended, now: Ended) -> str | None:
    """How one call's result differs from the recorded one; None if it does not, or if either was
    stopped from outside. The output of two calls that timed out is not compared: where it ends
    depends on timing."""
    if recorded.outcome in STOPPED or now.outcome in STOPPED:
        return None
    facts = _facts(recorded), _facts(now)
    texts = tool_text(recorded), tool_text(now)
    timed_out = recorded.outcome is now.outcome is Outcome.TIMEOUT
    if facts[0] == facts[1] and (texts[0] == texts[1] or timed_out):
        return None
    return _both(facts, texts)


def of_verdicts(recorded: Verdict, now: Verdict) -> str | None:
    """How the result of a `verify` command differs: only whether it passed is compared."""
    if recorded.ended.outcome in STOPPED or now.ended.outcome in STOPPED:
        return None
    if recorded.passed is now.passed:
        return None
    words = {True: "passed", False: "failed"}
    facts = [f"{words[one.passed]}, {_facts(one.ended)}" for one in (recorded, now)]
    return _both((facts[0], facts[1]), (tool_text(recorded.ended), tool_text(now.ended)))


def of_texts(recorded: tuple[str, ...], now: tuple[str, ...]) -> str | None:
    """How the messages of the user differ."""
    if recorded == now:
        return None
    words = ["the user said nothing", "the user said"]
    facts = [words[bool(said)] for said in (recorded, now)]
    return _both((facts[0], facts[1]), ("\n".join(recorded), "\n".join(now)))


def call_text(call: ToolCall) -> str:
    """A call for a message: its tool and the beginning of its arguments."""
    arguments: Any = call.arguments
    text = arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode()
    return f"{excerpt(call.tool)} {excerpt(text)}"


def _facts(ended: Ended) -> str:
    status = "" if ended.exit_status is None else f", exit status {ended.exit_status}"
    started = "" if ended.started.value == "yes" else f", started: {ended.started.value}"
    images = "".join(f", {excerpt(i.media_type)} {_digest(i.data)}" for i in ended.images)
    return f"{ended.outcome.value}{status}{started}{images}"


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:12]


def _both(facts: tuple[str, str], texts: tuple[str, str]) -> str:
    at = _first_difference(*texts)
    sides = [
        f"{fact}: {_excerpt_at(text, at)}" if text else fact
        for fact, text in zip(facts, texts, strict=True)
    ]
    return f"recorded {sides[0]}; now {sides[1]}"


def _first_difference(one: str, other: str) -> int:
    for place, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return place
    return min(len(one), len(other))


def _excerpt_at(text: str, at: int) -> str:
    begin = 0 if at < EXCERPT - _BEFORE else at - _BEFORE
    shown = repr(text[begin : begin + EXCERPT])
    return f"{'...' if begin else ''}{shown}{'...' if begin + EXCERPT < len(text) else ''}"


def excerpt(text: str) -> str:
    """The beginning of `text`, with unprintable characters escaped."""
    short = text if len(text) <= EXCERPT else f"{text[:EXCERPT]}..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in short)
