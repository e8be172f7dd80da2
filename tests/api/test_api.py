"""The public surface is what python.json says, and what changes in it is in the CHANGELOG."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import broken_copy
import pytest
from paths import CHECKOUT

from api.__main__ import NOW, RELEASED, load
from api.changes import ADDS, BREAKS, Change, changes, unsaid
from api.surface import Surface

_RUNTIME = "runtime/sandbox_agent"
_MODELS = f"{_RUNTIME}/models/__init__.py"
_OUTCOME = "sandbox/sandbox_agent_sandbox/outcome.py"

CHANGED: dict[str, tuple[broken_copy.Change, str]] = {
    "an export is gone": (
        (
            f"{_RUNTIME}/__init__.py",
            "def __dir__",
            '__all__.remove("load_script")\n\n\ndef __dir__',
        ),
        "python: load_script is gone",
    ),
    "a field of a Struct is gone": (
        (_MODELS, "    usage: TokenUsage | None = None\n", ""),
        "python: ModelTurn.usage is gone",
    ),
    "a field of a Struct has another name": (
        (_OUTCOME, "    pid: int\n", "    process: int\n"),
        "python: Survivor.pid is gone",
    ),
    "fields of a Struct have another order": (
        (
            _MODELS,
            "    name: str\n    arguments: dict[str, Any] | str\n",
            "    arguments: dict[str, Any] | str\n    name: str\n",
        ),
        "python: ModelCall.arguments is now: positional 0: ",
    ),
    "a field of a Struct has another default": (
        (_MODELS, "    final: bool = False\n", "    final: bool = True\n"),
        "python: ModelTurn.final is now: positional 2: bool = True",
    ),
    "a field of a Struct has another type": (
        (_MODELS, '    reasoning: str = ""\n', '    reasoning: bytes = ""\n'),
        "python: ModelTurn.reasoning is now: positional 3: bytes = ''",
    ),
    "a value of an enum is gone": (
        (_OUTCOME, '    MAYBE = "maybe"\n', ""),
        "python: StartedState.MAYBE is gone",
    ),
    "a value of an enum is another": (
        (_OUTCOME, '    DENIED = "denied"\n', '    DENIED = "refused"\n'),
        "python: Outcome.DENIED is now: 'refused'",
    ),
    "a parameter of a function has another name": (
        (
            f"{_RUNTIME}/config/task_file.py",
            "def load_task(path: ",
            "def load_task(file: ",
        ),
        "python: load_task(path) is gone",
    ),
    "a parameter of a method has another name": (
        (
            f"{_RUNTIME}/conversation.py",
            "def cancel_call(self, call_id: ",
            "def cancel_call(self, id: ",
        ),
        "python: Conversation.cancel_call(call_id) is gone",
    ),
    "a parameter has another default": (
        (
            f"{_RUNTIME}/conversation.py",
            "        name: str | None = None,\n",
            '        name: str | None = "x",\n',
        ),
        "python: Conversation(name) is now: keyword: str | None = 'x'",
    ),
    "a field of an event has another name": (
        (f"{_RUNTIME}/journal/events.py", "    output_bytes: int = 0\n", "    printed: int = 0\n"),
        "journal: ended.output_bytes is gone",
    ),
    "a field of result.json has another name": (
        (f"{_RUNTIME}/journal/result_file.py", "    requests: int = 0\n", "    asked: int = 0\n"),
        "result.json: usage.requests is gone",
    ),
    "an exit code is another": (
        (f"{_RUNTIME}/exit_codes.py", "    MODEL = 4, ", "    MODEL = 9, "),
        "exit codes: 4 is gone",
    ),
    "an option has another name": (
        (f"{_RUNTIME}/cli/parser.py", '"--version", action', '"--release", action'),
        "commands: --version is gone",
    ),
    "a default of a task file is another": (
        (f"{_RUNTIME}/config/plain.py", "repeats: int | None = 5\n", "repeats: int | None = 6\n"),
        "task file: budgets.repeats is now: ",
    ),
}
"""Breaking changes, each of which is made in a copy, and what the check says of it."""


def run(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`scripts/api` as it runs in a checkout, with this environment's interpreter."""
    folders = [checkout / name for name in (*broken_copy.ROOTS, "tests", "tests/support")]
    return subprocess.run(
        [sys.executable, "-m", "api", *arguments],
        env={**os.environ, "PYTHONPATH": ":".join(map(str, folders))},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with all of the changes."""
    folder = tmp_path_factory.mktemp("changed")
    broken_copy.make(folder, "a change of the surface", [change for change, _ in CHANGED.values()])
    for name in ("tests/api", "tests/support"):
        shutil.copytree(CHECKOUT / name, folder / name)
    shutil.copy(CHECKOUT / "CHANGELOG.md", folder)
    return folder


@pytest.fixture(scope="module")
def complaints(changed: Path) -> str:
    done = run(changed, "--check")
    assert done.returncode == 1, done.stderr
    return done.stdout


def test_the_surface_is_what_the_file_and_the_changelog_say() -> None:
    done = run(CHECKOUT, "--check")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@pytest.mark.parametrize("kind", CHANGED)
def test_a_change_of_the_surface_is_found(kind: str, complaints: str) -> None:
    assert f"\n  {CHANGED[kind][1]}" in complaints


def test_a_changed_surface_needs_the_file_and_a_line_for_each_change(changed: Path) -> None:
    assert run(changed).returncode == 0
    done = run(changed, "--check")
    assert (done.returncode, done.stderr) == (1, "")
    assert "python.json" not in done.stdout
    names = [line.split("`")[1] for line in done.stdout.splitlines() if line.startswith("  - ")]
    assert {"load_script", "ModelTurn.usage", "ended.output_bytes"} <= set(names)
    changelog = changed / "CHANGELOG.md"
    text = changelog.read_text()
    said = "".join(f"- {kind} `{name}`.\n" for name in names for kind in (ADDS, BREAKS))
    changelog.write_text(text.replace(", unreleased\n", f", unreleased\n\n{said}", 1))
    done = run(changed, "--check")
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    changelog.write_text(text + f"\n## 0.0.1\n\n{said}")
    assert run(changed, "--check").returncode == 1, "lines of an older version do not count"


OLD: Surface = {
    "python": {
        "A": "class()",
        "A (order)": "x, y",
        "A.x": "positional 0: int, required",
        "A.y": "keyword: int = 1",
        "A.go": "def -> None",
        "A.go(fast)": "keyword: bool = False",
        "B": "class()",
        "B.z": "property: int",
    },
    "journal": {"ended": "event", "ended.call": {"type": "string", "required": True}},
}


def differ(section: str, **entries: str | None) -> list[Change]:
    """The changes where these entries of OLD are others, or (None) gone."""
    names = {name.replace("__", ".").replace("_of_", "("): one for name, one in entries.items()}
    after = {**OLD[section], **{f"{n})" if "(" in n else n: one for n, one in names.items()}}
    return list(changes(OLD, {**OLD, section: {n: one for n, one in after.items() if one}}))


@pytest.mark.parametrize(
    ("entries", "name", "lines"),
    [
        ({"A__y": None}, "A.y", (BREAKS,)),
        ({"A__go_of_fast": None}, "A.go(fast)", (BREAKS,)),
        ({"A__go_of_slow": "keyword: bool = True"}, "A.go(slow)", (ADDS,)),
        ({"A__go_of_slow": "keyword: bool, required"}, "A.go(slow)", (BREAKS,)),
        ({"A__x": "positional 0: str, required"}, "A.x", (ADDS, BREAKS)),
        ({"B": None, "B__z": None}, "B", (BREAKS,)),
        ({"C": "class()", "C__z": "positional 0: int, required"}, "C", (ADDS,)),
    ],
)
def test_each_kind_of_change_needs_its_line(
    entries: dict[str, str | None], name: str, lines: tuple[str, ...]
) -> None:
    (change,) = differ("python", **entries)
    assert (change.name, change.lines) == (name, lines)
    for kind in (ADDS, BREAKS):
        changelog = f"# Log\n\n## 2, unreleased\n\n- {kind} something,\n  in `{name}`.\n\n## 1\n"
        assert bool(unsaid([change], changelog)) == (kind not in lines)
        assert unsaid([change], changelog.replace("`", ""))
        assert unsaid([change], changelog.replace(f"`{name}`", "`A.other`"))
        assert unsaid([change], changelog.replace("## 2", "## 3\n\n## 2"))


def test_a_parameter_may_be_named_by_its_function() -> None:
    (change,) = differ("python", A__go_of_fast=None)
    assert not unsaid([change], "## 2\n\nBreaks: `A.go` is slow.\n")
    assert unsaid([change], "## 2\n\nBreaks: `A` is slow.\n")


def test_a_new_field_of_an_output_breaks_nobody() -> None:
    after = {**OLD["journal"], "ended.why": {"type": "string", "required": True}}
    (change,) = changes(OLD, {**OLD, "journal": after})
    assert change.lines == (ADDS,)


def test_an_order_that_only_grows_is_no_change_of_its_own() -> None:
    assert [one.name for one in _ordered("x, new, y")] == []
    assert [one.name for one in _ordered("y, x")] == ["A (order)"]
    assert not unsaid(_ordered("y, x"), "## 2\n\n- Breaks: the order of `A`.\n")


def _ordered(order: str) -> list[Change]:
    return list(changes(OLD, {**OLD, "python": {**OLD["python"], "A (order)": order}}))


def test_the_files_say_something_of_everything() -> None:
    """A surface that could not be read would have no changes either."""
    for surface in (load(NOW), load(RELEASED)):
        sizes = {section: len(entries) for section, entries in surface.items()}
        assert all(size >= 15 for size in sizes.values()), sizes
        assert len(surface["python"]) > 250


def test_no_entry_depends_on_the_process_or_the_machine() -> None:
    text = NOW.read_text()
    assert " at 0x" not in text
    assert str(CHECKOUT) not in text
    assert str(Path.home()) not in text or str(Path.home()) == "/"
