"""Hand-made journals: the events of runs of any size and with any text, without a run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from sandbox_agent.journal import events
from sandbox_agent.journal.usage import TokenUsage
from sandbox_agent.reports.report import Report, report_of
from sandbox_agent_ipc.messages import Image
from sandbox_agent_sandbox.outcome import Outcome, Rung, StartedState, Survivor

RUN = "20261128T100000000-abcdef"

SETTINGS: dict[str, Any] = {
    "budgets": {"turns": 40, "tokens": 200_000, "cost_usd": 2.0, "time": 60.0},
    "verify": ["pytest -q"],
}

HOSTILE = {
    "a script": "<script>document.title='broken'</script>",
    "a tag that ends what it is in": "</pre></code></div></details></title></style><b id=broken>",
    "an attribute": "\" onerror=\"document.title='broken'\" x='><img src=x onerror=alert(1)>",
    "the end of CDATA": "]]><script>1</script>",
    "a comment": "<!-- <svg onload=alert(1)> --!><!--",
    "a template": "{{ 7 * 7 }}{% raw %}{# x #}",
    "NUL": "a\0b",
    "ANSI": "\x1b[31mred\x1b[0m\x1b]8;;http://example.com\x07link\x1b]8;;\x07\x1b[2J",
    "right to left": "\u202eevil\u2066\u2069\u200f \u05d0\u05d1\u05d2 \u0627\u0644",
    "half of a pair": "\ud83d \udc00",
    "no character": "\ufffe\uffff\ufeff\u2028\x85",
    "a link": "javascript:alert(1) data:text/html,<script>1</script>",
    "an entity": "&lt;script&gt; &#0; &amp &nosuch;",
    "commands of CI": "::add-mask::x\n##vso[task.complete]\nsection_start:1:x\r\x1b[0K",
    "many marks": "Z" + "\u0300" * 300,
}
"""Texts that break out of a page that is not careful."""


class Maker:
    """Makes events one after the other, each `step` seconds after the one before."""

    def __init__(self, step: float = 0.1) -> None:
        self.now = 100.0
        self.step = step
        self.turn = 0

    def stamp(self, after: float | None = None) -> dict[str, Any]:
        self.now += self.step if after is None else after
        seconds = self.now % 60
        return {"at": f"2026-11-28T10:00:{seconds:06.3f}Z", "monotonic": round(self.now, 6)}

    def opened(self, name: str | None = None) -> events.JournalOpened:
        settings = events.RecordedSettings("scripted:steps.yaml", {}, SETTINGS)
        stamp = self.stamp()
        return events.JournalOpened(
            version=events.VERSION, run=RUN, name=name, settings=settings, **stamp
        )

    def segment(self, number: int = 1, **task: Any) -> events.SegmentStarted:
        settings = events.RecordedSettings("openai/gpt-4o", {}, {**SETTINGS, **task})
        return events.SegmentStarted(
            number=number, pid=42, settings=settings, tools=(), plan=None, **self.stamp()
        )

    def user(self, text: str) -> events.UserText:
        return events.UserText(text=text, **self.stamp())

    def answer(
        self,
        text: str,
        *calls: tuple[str, dict[str, Any] | str],
        final: bool = False,
        reasoning: str = "",
        cost: float | None = 0.01,
        after: float | None = None,
    ) -> events.TurnTaken:
        """A turn with these calls: (tool, arguments). Their ids are `call_TURN_N`."""
        self.turn += 1
        made = tuple(
            events.ToolCall(f"call_{self.turn}_{n}", tool, arguments)
            for n, (tool, arguments) in enumerate(calls, 1)
        )
        return events.TurnTaken(
            turn=self.turn,
            text=text,
            final=final,
            calls=made,
            reasoning=reasoning,
            usage=TokenUsage(input=1000, output=100, cost_usd=cost),
            **self.stamp(after),
        )

    def begun(self, call: str, tool: str = "shell", command: str | None = None) -> Iterator[Any]:
        yield events.Dispatching(
            call=call, tool=tool, command=command, timeout=120.0, **self.stamp(0.01)
        )
        yield events.Started(call=call, **self.stamp(0.01))

    def ended(
        self, call: str, content: str, outcome: Outcome = Outcome.OK, **more: Any
    ) -> events.Ended:
        started = more.pop("started", StartedState.YES)
        return events.Ended(
            call=call, outcome=outcome, started=started, content=content, **more, **self.stamp()
        )

    def killed(self, call: str, content: str = "", **more: Any) -> events.Ended:
        rungs = {"flag": 0.0, "term": 40.0, "kill": 70.0, "ended": 80.0}
        return self.ended(
            call, content, Outcome.KILLED, rung=Rung.KILL, rungs_ms=rungs, exit_status=-9, **more
        )

    def verified(self, call: str, command: str, content: str, passed: bool) -> Iterator[Any]:
        yield from self.begun(call, command=command)
        outcome = Outcome.OK if passed else Outcome.ERROR
        yield self.ended(call, content, outcome, exit_status=0 if passed else 1)
        yield events.Verified(command=command, call=call, passed=passed, **self.stamp())

    def end(
        self, status: str, reason: str = "", number: int = 1, **more: Any
    ) -> events.SegmentEnded:
        return events.SegmentEnded(
            number=number,
            status=status,
            exit_code=0 if status == "done" else 1,
            reason=reason or status,
            requests=self.turn,
            calls=0,
            seconds=self.now - 100,
            **more,
            **self.stamp(),
        )


def short_run(text: str = "hello") -> Iterator[Any]:
    """A run with one of each: texts, calls that end in each way, an edit, an image, a verify
    command that fails. `text` stands wherever a text of a model or a tool may stand."""
    make = Maker()
    yield make.opened(name=text)
    yield make.user(text)
    yield make.segment(verify=[text])
    yield make.answer(text, ("shell", {"command": text, text: [text, 1]}), reasoning=text)
    yield from make.begun("call_1_1")
    yield make.ended("call_1_1", text, output_bytes=10, output_file="output/call_1_1.txt")
    edit = ("edit_file", {"path": text, "old": f"one\n{text}\nthree", "new": f"{text}\nthree\n4"})
    yield make.answer("", edit, (text, text), ("shell", {"command": "sleep 600"}))
    for call, tool in (("call_2_1", "edit_file"), ("call_2_2", text), ("call_2_3", "shell")):
        yield from make.begun(call, tool)
    picture = Image("image/png", b"\x89PNG\r\n\x1a\n" + bytes(50))
    yield make.ended(
        "call_2_1", text, images=(picture, Image(text, text.encode("utf-8", "replace")))
    )
    yield make.ended("call_2_2", text, Outcome.ERROR, detail=text, exit_status=3)
    yield events.CancelRequested(reason="call", call="call_2_3", **make.stamp(0.01))
    yield make.killed("call_2_3", text, survivors=(Survivor(7, text),))
    yield make.answer(text, final=True)
    yield from make.verified("verify_1_1", text, text, passed=False)
    yield make.end("failed", f"verify failed: {text}", survivors=(Survivor(7, text),))


def long_run(turns: int, calls: int = 1, output: str = "x") -> Iterator[Any]:
    """A run of many turns: each has 1 + 3 * calls events."""
    make = Maker(step=0.05)
    yield make.opened("long")
    yield make.user("Do it.")
    yield make.segment()
    for number in range(1, turns + 1):
        command = {"command": f"echo {number} {output[:500]}"}
        yield make.answer(f"Step {number}.", *[("shell", command)] * calls)
        for n in range(1, calls + 1):
            yield from make.begun(f"call_{number}_{n}")
            failed = number % 50 == 0
            outcome = Outcome.ERROR if failed else Outcome.OK
            yield make.ended(f"call_{number}_{n}", f"{number}: {output}", outcome)
    yield make.answer("Done.", final=True)
    yield make.end("done")


def report(journal: Iterable[Any]) -> Report:
    """The report of these events."""
    return report_of(RUN, Path("/runs") / RUN, journal)
