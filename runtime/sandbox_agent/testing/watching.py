"""Watches the tests that use the fixture `agent_run` or the marker `agent`.

Registered by `plugin` once such a test has been collected.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from sandbox_agent.testing.agent_result import AgentResult
from sandbox_agent.testing.agent_run import AgentRun
from sandbox_agent.testing.leftovers import ProcessWatch

CHECK = "check_processes"


def options_of(item: pytest.Item) -> dict[str, Any]:
    """The options that the markers of a test give; the nearest one wins, option by option."""
    return {name: value for name, value in _given(item).items() if name != CHECK}


def _given(item: pytest.Item) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for marker in reversed(list(item.iter_markers("agent"))):
        if marker.args:
            pytest.fail(
                f"@pytest.mark.agent takes keywords only, not {marker.args[0]!r}; write"
                ' @pytest.mark.agent(tools=["shell"])',
                pytrace=False,
            )
        given |= marker.kwargs
    check = given.get(CHECK, True)
    if not isinstance(check, bool):
        pytest.fail(f"@pytest.mark.agent({CHECK}={check!r}): write True or False", pytrace=False)
    return given


def _is_watched(item: pytest.Item) -> bool:
    uses = "agent_run" in getattr(item, "fixturenames", ())
    if not uses and item.get_closest_marker("agent") is None:
        return False
    return bool(_given(item).get(CHECK, True))


class Watching:
    """Fails a test that leaves a process behind, and shows the runs of a test that failed."""

    def __init__(self) -> None:
        self._watch: ProcessWatch | None = None

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, Any, Any]:
        if self._watch is None and _is_watched(item):
            self._watch = ProcessWatch()
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Generator[None, Any, Any]:
        """A fixture of the session may start a server that outlives the test."""
        watch = self._watch
        if watch is None or fixturedef.scope == "function":
            return (yield)
        with watch.adopting():
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Outermost, so that all fixtures of the test have cleaned up before."""
        try:
            result = yield
        except BaseException as error:
            if complaint := self._end(item):
                error.add_note(complaint)
            raise
        if complaint := self._end(item):
            pytest.fail(complaint, pytrace=False)
        return result

    def _end(self, item: pytest.Item) -> str:
        """What to say of the processes that the test left; "" if it left none."""
        watch, self._watch = self._watch, None
        left = [] if watch is None else watch.end()
        if not left:
            return ""
        lines = "\n  ".join(left)
        return (
            f"{item.nodeid} left processes behind; they were killed:\n  {lines}\n"
            "hint: wait for what the test starts, and close() what it opens;"
            f" @pytest.mark.agent({CHECK}=False) turns this check off"
        )

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, Any, Any]:
        report = yield
        run = getattr(item, "funcargs", {}).get("agent_run")
        if report.when == "call" and report.failed and isinstance(run, AgentRun):
            for result in run.results:
                folder = result.run.run_dir
                report.sections.append((f"sandbox-agent run {folder.name}", _shown(result)))
        return report


def _shown(result: AgentResult) -> str:
    """The run in the lines of a command's progress."""
    from sandbox_agent.reports.lines import Progress, how_it_ended

    progress = Progress()
    lines = [line for event in result.events if (line := progress.line(event))]
    for call in result.calls:
        if call.outcome != "ok" and call.text:
            lines += [f"output of {call.id}:", *call.text.splitlines()[-20:]]
    lines.append(how_it_ended(result.status, result.reason))
    lines.append(f"record: {result.run.run_dir}")
    return "\n".join(lines)
