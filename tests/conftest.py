"""For every test: nothing is left behind, and nothing is skipped in silence."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

# Tests import their helpers by name. At the end of the path: nothing is shadowed.
sys.path.append(str(Path(__file__).parent / "support"))

import paths

sys.path += [folder for folder in paths.IMPORT_PATHS if folder not in sys.path]

import groups
import identity
import leaks
import skips
import starter_environment
from environments import ENVIRONMENTS

_private = pytest.StashKey[Path]()
_failed = pytest.StashKey[bool]()

PURE = (
    "tests/provider/history_rules",
    "tests/runtime/config",
    "tests/runtime/journal/test_state.py",
    "tests/runtime/reports/page",
    "tests/runtime/journal/test_status.py",
    "tests/runtime/reports/runs",
    "tests/runtime/reports",
    "tests/runtime/reports/ci",
    "tests/runtime/reports/terminal",
    "tests/sandbox/policy/test_secrets.py",
    "tests/sandbox/policy/test_units.py",
)
"""Folders and files whose tests only compute. What they leave is looked for once a file and not
once a test; it fails the run all the same."""

_PURE_PATHS = frozenset(paths.CHECKOUT / name for name in PURE)


def _is_pure(path: Path) -> bool:
    return path in _PURE_PATHS or path.parent in _PURE_PATHS


def pytest_configure(config: pytest.Config) -> None:
    """All temporary files of a session go to one folder, where a forgotten one shows."""
    config.pluginmanager.register(skips.Listed(), "listed-skips")
    starter_environment.reset_signals()
    leaks.become_subreaper()
    leaks.have_own_mounts()
    folder = _private_folder(config)
    folder.chmod(0o711)  # tests that change their uid pass through, and cannot list it
    config.stash[_private] = folder
    (folder / "tmp").mkdir()
    (folder / "tmp").chmod(0o1777)
    starter_environment.forget(os.environ)
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder / "tmp")
    os.environ["XDG_STATE_HOME"] = str(folder / "state")


def _private_folder(config: pytest.Config) -> Path:
    """A new folder. That of a worker of pytest-xdist lies in the folder of the whole session."""
    given = getattr(config, "workerinput", None)
    if given is None:
        return Path(tempfile.mkdtemp(prefix="sa-"))
    folder = Path(given["folder"], given["workerid"])
    folder.mkdir()
    return folder


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """A worker is about to be started (pytest-xdist)."""
    node.workerinput["folder"] = str(node.config.stash[_private])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Hands a whole group of files to one worker."""
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Grouped(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return groups.of(nodeid)

    return Grouped(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Brings the files of a group together, where the first of them stands."""
    first: dict[str, int] = {}
    for number, item in enumerate(items):
        first.setdefault(groups.of(item.nodeid), number)
    items.sort(key=lambda item: first[groups.of(item.nodeid)])


def pytest_unconfigure(config: pytest.Config) -> None:
    folder = config.stash.get(_private, None)
    if folder is not None:
        tempfile.tempdir = None
        if not config.stash.get(_failed, False):
            shutil.rmtree(folder, ignore_errors=True)


def pytest_sessionfinish(session: pytest.Session) -> None:
    session.config.stash[_failed] = bool(session.testsfailed)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if config.stash.get(_failed, False):
        terminalreporter.write_line(f"Temporary files of this run: {config.stash[_private]}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    report = yield
    if report.failed:
        item.stash[_failed] = True
    return report


def _check(before: leaks.Snapshot, clean: bool) -> None:
    """Fails the test if something has been left since the snapshot. clean: without litellm."""
    leaks.become_dumpable()
    found = leaks.find(before)
    if clean and "litellm" in sys.modules:  # conversations ran in this very process
        found.append("litellm in the agent's process, where its seconds and memory never belong")
    if found:
        pytest.fail("left behind:\n  " + "\n  ".join(found), pytrace=False)


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left_at_the_end() -> Iterator[None]:
    """Fails the last test if fixtures of modules and of the session left something."""
    before = leaks.Snapshot.take()
    yield
    _check(before, clean=False)


@pytest.fixture(scope="module", autouse=True)
def nothing_is_left_by_a_pure_file(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails the last test of a file in PURE if one of its tests left something."""
    if not _is_pure(request.path):
        yield
        return
    before = leaks.Snapshot.take()
    clean = "litellm" not in sys.modules
    yield
    _check(before, clean)


@pytest.fixture(autouse=True)
def nothing_is_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails a test that passed and left something. A failed test is only cleaned up after."""
    if _is_pure(request.path):
        yield
        return
    before = leaks.Snapshot.take()
    clean = "litellm" not in sys.modules
    yield
    if request.node.stash.get(_failed, False):
        leaks.become_dumpable()
        leaks.kill_new_processes(before)
    else:
        _check(before, clean)


@pytest.fixture
def watch() -> Any:
    """What a conversation's listeners saw; see `talking`, which imports the whole runtime."""
    from talking import Watch

    return Watch()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that asks for a person runs as an ordinary user, and under `scripts/test --all` as
    root too, unless its file says `PERSONS = ["user"]`, or its mark `as_user`: what it shows does
    not depend on who runs the command."""
    if "person" in metafunc.fixturenames:
        both = ["root", "user"] if skips.runs_all(metafunc.config) else ["user"]
        kinds = getattr(metafunc.module, "PERSONS", both)
        if metafunc.definition.get_closest_marker("as_user"):
            kinds = ["user"]
        metafunc.parametrize("person", kinds, indirect=True)


@pytest.fixture
def person(request: pytest.FixtureRequest) -> Iterator[identity.Person]:
    """The person, root or an ordinary user, who runs the command, with a folder of their own."""
    if request.param.startswith("root") and os.geteuid() != 0:
        pytest.skip("needs root")
    _, _, place = request.param.partition(" in ")
    if place and (why := ENVIRONMENTS[place].missing()):
        pytest.skip(f"needs {place}: {why}")
    yield from identity.someone(request.param)
