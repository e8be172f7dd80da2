"""What a run is judged by: the run itself and each command of `verify`, as cases of a test report.
JUnit, the Markdown summary, GitLab's report and the lines for GitHub are made from them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from sandbox_agent_sandbox.outcome import Outcome

from sandbox_agent.journal.status import Status
from sandbox_agent.reports.escape import escape_text, one_line
from sandbox_agent.reports.lines import how_it_ended
from sandbox_agent.reports.mask import Mask
from sandbox_agent.reports.report import LOST, RUNNING, Call, Report, Text

TAIL_LINES = 20
"""Lines of a failing command that a report shows."""
_LINE = 500
"""Characters of a line that a report shows."""


class Verdict(Enum):
    """passed: all is well. failed: the work is not right. error: there is no verdict, because
    something else went wrong. skipped: it was not judged."""

    PASSED = "passed"
    FAILED = "failed"
    ERROR = "error"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Case:
    """name: `run`, or the command of `verify`. message: one line, "" if all is well. tail: the last
    lines of the output, if it failed. call: of a command that was started."""

    name: str
    verdict: Verdict
    seconds: float
    message: str = ""
    tail: tuple[str, ...] = ()
    call: Call | None = None

    @property
    def is_bad(self) -> bool:
        return self.verdict in (Verdict.FAILED, Verdict.ERROR)


_RUN_VERDICTS = {
    Status.DONE: Verdict.PASSED,
    Status.PAUSED: Verdict.SKIPPED,
    Status.FAILED: Verdict.FAILED,
    RUNNING: Verdict.SKIPPED,
}


def cases_of(report: Report) -> list[Case]:
    """The case of the run, then those of `verify` in the order of the task."""
    return [run_case(report), *_verify_cases(report)]


def run_case(report: Report) -> Case:
    """The case of the run. Any end but `done` and `paused` is bad."""
    status, end = report.status, report.end
    verdict = _RUN_VERDICTS.get(status, Verdict.ERROR)
    if verdict is Verdict.PASSED and end is not None and end.exit_code:
        verdict = Verdict.ERROR  # such as a process that could not be stopped
    message = "" if verdict is Verdict.PASSED else _why(report)
    return Case("run", verdict, report.seconds(), message)


def _why(report: Report) -> str:
    if report.end is not None:
        return how_it_ended(report.end.status, report.end.reason)
    if report.status == LOST:
        return "lost: the agent was killed, and its calls ended with it"
    if report.status == RUNNING:
        return "the run is going"
    return "the run did not begin"


def _verify_cases(report: Report) -> list[Case]:
    cases: list[Case] = []
    calls = report.verify_calls()
    commands = _commands(report)
    for place, command in enumerate(commands):
        seen = commands[:place].count(command)
        name = f"{command} ({seen + 1})" if seen else command  # GitLab tells cases by their names
        call = calls[place] if place < len(calls) else None
        cases.append(_not_judged(name, report) if call is None else _judged(name, call))
    return cases


def _commands(report: Report) -> list[str]:
    """The commands of the task; those of a damaged journal that were started."""
    settings = report.last.settings if report.last is not None else {}
    named = settings.get("verify")
    started = [call.command or "" for call in report.verify_calls()]
    if not isinstance(named, list) or [str(name) for name in named[: len(started)]] != started:
        return started
    return [str(name) for name in named]


def _not_judged(name: str, report: Report) -> Case:
    return Case(name, Verdict.SKIPPED, 0.0, f"not started: {_why(report)}")


def _judged(name: str, call: Call) -> Case:
    seconds = 0.0
    if call.asked is not None and call.ended is not None:
        seconds = call.ended - call.asked
    if call.passed:
        return Case(name, Verdict.PASSED, seconds, call=call)
    message = how_it_failed(call)
    judged = call.passed is False and call.outcome in (Outcome.OK, Outcome.ERROR, Outcome.TIMEOUT)
    verdict = Verdict.FAILED if judged else Verdict.ERROR
    return Case(name, verdict, seconds, message, tail_of(call), call)


def how_it_failed(call: Call) -> str:
    """In a few words: `timeout`, `exit status 1`."""
    if call.outcome is None:
        return "no end: the agent was killed"
    parts = [f"exit status {call.exit_status}"] if call.exit_status else []
    if call.outcome is not Outcome.OK and (call.outcome is not Outcome.ERROR or not parts):
        parts.insert(0, call.outcome.value)
    text = ", ".join(parts)
    return f"{text}: {call.detail}" if call.detail else text


def workspace_of(report: Report) -> Path | None:
    """The workspace of the last segment; None if the journal does not say."""
    given = report.last.settings.get("workspace") if report.last is not None else None
    path = given.get("path") if isinstance(given, dict) else None
    return Path(path) if isinstance(path, str) and path.startswith("/") else None


def tail_of(call: Call) -> tuple[str, ...]:
    """The last lines of what a call printed."""
    return tuple(call.output.last_lines(TAIL_LINES))


def shown_tail(case: Case, mask: Mask) -> list[str]:
    """The tail of a case, masked, then escaped, then cut: a cut must not hide half a secret."""
    lines = escape_text(mask.apply("\n".join(case.tail))).split("\n") if case.tail else []
    return [line if len(line) <= _LINE else f"...{line[-_LINE:]}" for line in lines]


def shown_line(text: str, mask: Mask, width: int = _LINE) -> str:
    """The beginning of a text on one line, masked, then escaped and cut."""
    return one_line(mask.apply(Text.of(text).head), width)
