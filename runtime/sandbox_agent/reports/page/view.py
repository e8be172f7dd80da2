"""What the template is given: the report's parts as texts that are masked, cut and visible. Made
one turn at a time, while the page is written."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sandbox_agent_ipc.messages import Image
from sandbox_agent_sandbox.images import media_type_of
from sandbox_agent_sandbox.outcome import Outcome

from sandbox_agent.reports.page.diff import Diff, diff_of
from sandbox_agent.reports.page.numbers import count, dollars, duration, when
from sandbox_agent.reports.page.sizes import ARGUMENTS, HEADING, Plan
from sandbox_agent.reports.page.texts import NOTHING, Shown, Texts
from sandbox_agent.reports.page.timeline import KINDS
from sandbox_agent.reports.report import Call, Message, Report, Segment, Turn

_OPENED = 20
"""Calls that failed and are unfolded from the start, the last ones."""

SIGNS = {"ok": "✓", "bad": "✗", "stopped": "■", "skipped": "-", "flight": "…"}
"""Beside the colour, which not everybody sees and not every printer has."""


class Fact(NamedTuple):
    """A line of a list of facts."""

    name: str
    value: str


class Argument(NamedTuple):
    """An argument of a call."""

    name: str
    value: Shown


@dataclass(frozen=True)
class CallView:
    """A call. how: its outcome and what it took. what: its main argument."""

    anchor: str
    tool: str
    what: str
    kind: str
    sign: str
    how: str
    opened: bool
    facts: list[Fact]
    arguments: list[Argument]
    diff: Diff | None
    output: Shown
    notes: list[str]
    images: list[str]


@dataclass(frozen=True)
class Item:
    """A part of the conversation. kind: `message`, `turn`, `segment`, `end` or `gap`. heading: of
    the part. side: what it used. calls: made only when the template comes to them."""

    kind: str
    heading: str
    anchor: str = ""
    side: str = ""
    text: Shown = NOTHING
    reasoning: Shown = NOTHING
    status: str = ""
    notes: list[str] = field(default_factory=list)
    calls: Iterable[CallView] = ()


class View:
    """anchors: of the calls that the page has. model_seconds: by the number of the turn."""

    def __init__(
        self,
        report: Report,
        texts: Texts,
        plan: Plan,
        anchors: dict[str, str],
        model_seconds: dict[int, float],
    ) -> None:
        self.report = report
        self.texts = texts
        self.plan = plan
        self._anchors = anchors
        self._model_seconds = model_seconds
        failed = [c.id for c in report.calls.values() if c.failed and plan.shows(c)]
        self._opened = set(failed[-_OPENED:])
        self._loose: dict[int, list[Call]] = {}
        made = {call_id for turn in report.turns for call_id in turn.calls}
        for call in report.calls.values():
            if call.id not in made:
                self._loose.setdefault(call.segment, []).append(call)

    def items(self) -> Iterator[Item]:
        """The conversation, in its order. What is left out is said where it would stand."""
        todo = list(self.report.segments)
        current: Segment | None = None
        hidden = [0, 0]
        for index, entry in enumerate(self.report.entries):
            if index not in self.plan.entries:
                hidden[0] += 1
                hidden[1] += len(entry.calls) if isinstance(entry, Turn) else 0
                continue
            while todo and todo[0].number <= entry.segment:
                yield from self._gap(hidden)
                yield from self._close(current)
                current = todo.pop(0)
                yield self._segment(current)
            if isinstance(entry, Message) and entry.between and current is not None:
                yield from self._gap(hidden)
                yield from self._close(current)
                current = None
            yield from self._gap(hidden)
            yield self._message(entry) if isinstance(entry, Message) else self._turn(entry)
        yield from self._gap(hidden)
        yield from self._close(current)
        for segment in todo:
            yield self._segment(segment)
            yield from self._close(segment)

    def _gap(self, hidden: list[int]) -> Iterator[Item]:
        entries, calls = hidden
        if entries:
            what = f"{count(entries, 'turn or message', 'turns and messages')}"
            if calls:
                what += f" with {count(calls, 'call')}"
            yield Item("gap", f"{what} left out here, so that the page stays small.")
        hidden[:] = [0, 0]

    def _close(self, segment: Segment | None) -> Iterator[Item]:
        if segment is None:
            return
        calls = self._loose.get(segment.number, [])
        shown = [call for call in calls if self.plan.shows(call)]
        if shown:
            yield Item("turn", "Verify", calls=map(self._call, shown))
        if len(calls) > len(shown):
            yield Item("gap", f"{count(len(calls) - len(shown), 'verify command')} left out here.")
        end = segment.end
        if end is None:
            status = self.report.status if segment is self.report.last else "lost"
            yield Item("end", f"No end of segment {segment.number} is recorded.", status=status)
            return
        reason = self.texts.line(end.reason, 2000)
        heading = end.status if reason in ("", end.status) else f"{end.status}: {reason}"
        notes = survivors(end.survivors, self.texts)
        yield Item(
            "end", heading, side=f"exit code {end.exit_code}", status=end.status, notes=notes
        )

    def _segment(self, segment: Segment) -> Item:
        side = f"{self.texts.line(segment.model, 80)} · {self.texts.line(when(segment.at), 40)}"
        return Item("segment", f"Segment {segment.number}", f"s{segment.number}", side)

    def _message(self, message: Message) -> Item:
        at = self.texts.line(when(message.at), 40)
        return Item("message", "You", side=at, text=self.texts.block(message.text))

    def _turn(self, turn: Turn) -> Item:
        calls = [self.report.calls[c] for c in turn.calls if c in self.report.calls]
        shown = [call for call in calls if self.plan.shows(call)]
        notes = []
        if turn.finish_reason not in ("", "stop", "tool_calls"):
            word = self.texts.line(turn.finish_word or turn.finish_reason, 60)
            notes.append(f"The answer ended with: {word}.")
        if len(shown) < len(calls):
            notes.append(f"{count(len(calls) - len(shown), 'call')} of this turn left out here.")
        return Item(
            "turn",
            f"Turn {turn.number}" + (" · final message" if turn.final else ""),
            anchor=f"t{turn.number}",
            side=self._usage(turn),
            text=self.texts.block(turn.text),
            reasoning=self.texts.block(turn.reasoning),
            notes=notes,
            calls=map(self._call, shown),
        )

    def _usage(self, turn: Turn) -> str:
        parts = []
        if turn.usage is not None:
            parts.append(f"{turn.usage.input:,} in, {turn.usage.output:,} out")
            parts.append(dollars(turn.usage.cost_usd))
        seconds = self._model_seconds.get(turn.number)
        if seconds is not None and seconds >= 0.0005:
            parts.append(f"model {duration(seconds)}")
        return " · ".join(part for part in parts if part)

    def _call(self, call: Call) -> CallView:
        texts = self.texts
        kind = "bad" if call.passed is False else KINDS[call.outcome]
        images, notes = _images(call.images)
        if call.images_left_out:
            notes.append(
                f"{count(call.images_left_out, 'image')} left out: all have 1 MB together."
            )
        if call.output_file is not None:
            notes.append(f"Whole output: {texts.line(call.output_file, 200)} in the run folder.")
        arguments = _arguments(call, texts)
        if isinstance(call.arguments, dict) and len(call.arguments) > len(arguments):
            more = len(call.arguments) - len(arguments)
            notes.append(f"{count(more, 'argument')} left out.")
        diff = diff_of(call.tool, call.arguments, texts)
        if diff is not None:
            arguments = [one for one in arguments if one.name not in ("old", "new")]
        return CallView(
            anchor=self._anchors.get(call.id, ""),
            tool="verify" if call.is_verify else texts.line(call.tool, 60),
            what=texts.line(call.command or _main_argument(call.arguments), HEADING),
            kind=kind,
            sign=SIGNS[kind],
            how=_how(call),
            opened=call.id in self._opened,
            facts=_facts(call, texts),
            arguments=arguments,
            diff=diff,
            output=texts.block(call.output),
            notes=notes + survivors(call.survivors, texts),
            images=images,
        )


def survivors(found: Iterable[Any], texts: Texts) -> list[str]:
    """A line for each process that could not be stopped, up to ten."""
    all_of_them = list(found)
    lines = [
        f"COULD NOT BE STOPPED: process {one.pid}, {texts.line(one.command, 200)}"
        for one in all_of_them[:10]
    ]
    if len(all_of_them) > 10:
        lines.append(f"... and {len(all_of_them) - 10} more could not be stopped")
    return lines


def _how(call: Call) -> str:
    if call.outcome is None:
        return "in flight, no end is recorded"
    parts = [call.outcome.value]
    if call.passed is not None:
        parts = ["passed" if call.passed else "FAILED"]
        if call.outcome not in (Outcome.OK, Outcome.ERROR):
            parts.append(call.outcome.value)
    if call.exit_status:
        parts.append(f"exit status {call.exit_status}")
    if call.ended is not None and (call.begun is not None or call.asked is not None):
        start = call.begun if call.begun is not None else call.asked
        parts.append(duration(call.ended - (start or 0.0)))
    return " · ".join(parts)


def _facts(call: Call, texts: Texts) -> list[Fact]:
    facts = [Fact("call", texts.line(call.id, 80))]
    if call.started != "yes":
        facts.append(Fact("started", call.started.value))
    if call.asked is not None and call.begun is not None and call.begun - call.asked >= 0.1:
        facts.append(Fact("waited", duration(call.begun - call.asked)))
    if call.timeout is not None:
        facts.append(Fact("time limit", duration(call.timeout)))
    for _, reason in call.cancels[:3]:
        facts.append(Fact("stop asked for", texts.line(reason, 80)))
    if call.rungs_ms:
        rungs = sorted(call.rungs_ms.items(), key=lambda rung: rung[1])
        steps = [f"{texts.line(name, 20)} {ms:,.0f} ms" if ms else name for name, ms in rungs[:8]]
        facts.append(Fact("stopped by", " → ".join(steps)))
    if call.detail:
        facts.append(Fact("reason", texts.line(call.detail, 1000)))
    if call.output_bytes:
        facts.append(Fact("printed", count(call.output_bytes, "byte")))
    return facts


def _main_argument(arguments: dict[str, Any] | str) -> str:
    if isinstance(arguments, str):
        return arguments
    for name in ("command", "path", "code", "pattern"):
        value = arguments.get(name)
        if isinstance(value, str):
            return value
    return ", ".join(f"{key}={value!r}" for key, value in list(arguments.items())[:4])


def _arguments(call: Call, texts: Texts) -> list[Argument]:
    if isinstance(call.arguments, str):
        return [Argument("arguments", texts.block(call.arguments))] if call.arguments else []
    number = max(1, min(len(call.arguments), ARGUMENTS, texts.limit // 32))
    limit = max(texts.limit // number, 32)
    return [
        Argument(texts.line(name, 40), texts.value(value, limit))
        for name, value in list(call.arguments.items())[:number]
    ]


def _images(images: tuple[Image, ...]) -> tuple[list[str], list[str]]:
    """Data URLs of the images. The type is that of the bytes, whatever the journal says."""
    urls, notes = [], []
    for image in images:
        kind = media_type_of(image.data)
        if kind is None:
            notes.append("An image is of no known type, and is left out.")
        else:
            urls.append(f"data:{kind};base64,{base64.b64encode(image.data).decode()}")
    return urls, notes
