"""A test that does not run is a hole: each one is listed in skips.toml, or the run fails.

An unlisted skip, xfail or skipped collection is reported as a failure of that test. Entries that
are only tolerated on poorer hosts do not count under `scripts/test --all`, which alone runs those
that are listed as long, and `--soak` those that are listed as a soak.
"""

from __future__ import annotations

import fnmatch
import os
import tomllib
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paths
import pytest

LIST = paths.TESTS / "skips.toml"


@dataclass(frozen=True)
class Entry:
    """test: pattern for node ids. reason: how the skip's reason begins. why: for the reader.

    with_all: also tolerated under `scripts/test --all`.
    """

    test: str
    reason: str
    why: str
    with_all: bool = False

    def covers(self, nodeid: str, reason: str) -> bool:
        # Brackets of parametrised tests are text here, not a character class.
        pattern = self.test.replace("[", "[[]")
        return fnmatch.fnmatchcase(nodeid, pattern) and reason.startswith(self.reason)


def load(path: Path = LIST) -> list[Entry]:
    return [Entry(**entry) for entry in tomllib.loads(path.read_text()).get("skip", [])]


@dataclass(frozen=True)
class Long:
    """Tests that run with --all only. test: pattern for node ids. why: for the reader. soak: with
    --soak only, because CI has no time for them."""

    test: str
    why: str
    soak: bool = False

    def covers(self, nodeid: str) -> bool:
        return fnmatch.fnmatchcase(nodeid, self.test)


def load_long(path: Path = LIST) -> list[Long]:
    return [Long(**entry) for entry in tomllib.loads(path.read_text()).get("long", [])]


def runs_all(config: pytest.Config) -> bool:
    """Whether nothing is left out that CI runs: under --all, and of files that are named."""
    return bool(os.environ.get("SANDBOX_AGENT_TEST_ALL")) or _names_files(config)


def _names_files(config: pytest.Config) -> bool:
    return any(".py" in argument for argument in config.args)


def is_soak() -> bool:
    """Whether there is time for every case: under --soak."""
    return bool(os.environ.get("SANDBOX_AGENT_TEST_SOAK"))


class Listed:
    """The pytest plugin."""

    def __init__(self) -> None:
        strict = bool(os.environ.get("SANDBOX_AGENT_TEST_ALL"))
        self.long = load_long()
        self.entries = [entry for entry in load() if entry.with_all or not strict]

    def pytest_configure(self, config: pytest.Config) -> None:
        for name in ("rerunfailures", "flaky"):
            if config.pluginmanager.has_plugin(name):
                raise pytest.UsageError(f"the plugin {name} would hide failures; uninstall it")

    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """Long ones wait for --all and soaks for --soak, unless a file is asked for by name."""
        if is_soak() or _names_files(config):
            return
        every = os.environ.get("SANDBOX_AGENT_TEST_ALL")
        wait = [one for one in self.long if one.soak or not every]
        left_out = {item for item in items if any(one.covers(item.nodeid) for one in wait)}
        if os.environ.get("SANDBOX_AGENT_TEST_USER_TOO"):
            left_out |= {item for item in items if self._runs_as_the_user(item)}
        if left_out:
            config.hook.pytest_deselected(items=list(left_out))
            items[:] = [item for item in items if item not in left_out]

    def _runs_as_the_user(self, item: pytest.Item) -> bool:
        """Whether `scripts/test` of an ordinary user, which .ci/run calls as well, runs this test
        just as it is: as that user, and without --all."""
        call = getattr(item, "callspec", None)
        as_user = call is not None and call.params.get("person") == "user"
        return as_user and not any(one.covers(item.nodeid) for one in self.long)

    def _judge(self, report: Any, reason: str) -> None:
        if any(entry.covers(report.nodeid, reason) for entry in self.entries):
            return
        report.outcome = "failed"
        report.longrepr = f"did not run ({reason}), and tests/skips.toml does not list it"
        if hasattr(report, "wasxfail"):
            del report.wasxfail

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self) -> Generator[None, Any, Any]:
        report = yield
        if hasattr(report, "wasxfail"):  # expected to fail, whether or not it did
            self._judge(report, f"xfail: {report.wasxfail}")
        elif report.skipped:
            self._judge(report, _reason(report))
        return report

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_make_collect_report(self) -> Generator[None, Any, Any]:
        report = yield
        if report.skipped:
            self._judge(report, _reason(report))
        return report


def _reason(report: Any) -> str:
    # A skip's longrepr is (file, line, "Skipped: reason").
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ")
