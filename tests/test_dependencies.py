"""Which module may import which, and what lies where. Reads the sources; two tests import them.

Each rule is a function from sources to complaints. The checkout must give none, and a copy with a
violation planted in it must give one: a rule that cannot fail is no rule.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from paths import CHECKOUT
from sources import OURS, ROOTS, Import, Sources, top, within

TOP_LEVEL = {
    "pyproject.toml", "runtime", "sandbox", "ipc", "tests", "scripts",
    "README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md",
}  # fmt: skip
MADE_BY_TOOLS = {"dist", "build", "__pycache__"}

ORDER = (
    "sandbox_agent_ipc",
    "sandbox_agent_sandbox.put_off",
    "sandbox_agent_sandbox.errors",
    "sandbox_agent_sandbox.utf8",
    "sandbox_agent_sandbox.nearest",
    "sandbox_agent_sandbox.capture",
    "sandbox_agent_sandbox.temporary_files",
    "sandbox_agent_sandbox.images",
    "sandbox_agent_sandbox.received",
    "sandbox_agent_sandbox.steps",
    "sandbox_agent_sandbox.privileges",
    "sandbox_agent_sandbox.plan",
    "sandbox_agent_sandbox.outcome",
    "sandbox_agent_sandbox.call_status",
    "sandbox_agent_sandbox.request",
    "sandbox_agent_sandbox",
    "sandbox_agent_sandbox.import_roots",
    "sandbox_agent_sandbox.interpreter",
    "sandbox_agent_sandbox.inside.kernel",
    "sandbox_agent_sandbox.inside.walls",
    "sandbox_agent_sandbox.inside.worker",
    "sandbox_agent_sandbox.inside.tools",
    "sandbox_agent_sandbox.inside",
    "sandbox_agent_sandbox.inside.unshared.view",
    "sandbox_agent_sandbox.inside.unshared",
    "sandbox_agent_sandbox.limits",
    "sandbox_agent_sandbox.protection",
    "sandbox_agent_sandbox.policy.fields",
    "sandbox_agent_sandbox.policy.rules",
    "sandbox_agent_sandbox.policy",
    "sandbox_agent_sandbox.policy.kinds",
    "sandbox_agent_sandbox.host.spawner",
    "sandbox_agent_sandbox.host.disk",
    "sandbox_agent_sandbox.host",
    "sandbox_agent_sandbox.diagnosis",
    "sandbox_agent.first_imports",
    "sandbox_agent.source_root",
    "sandbox_agent.lean_imports",
    "sandbox_agent.exit_codes",
    "sandbox_agent.errors",
    "sandbox_agent.embedding",
    "sandbox_agent.config",
    "sandbox_agent.journal",
    "sandbox_agent.models.process.inside",
    "sandbox_agent.models.process",
    "sandbox_agent.models",
    "sandbox_agent.tools",
    "sandbox_agent.reports",
    "sandbox_agent.instructions",
    "sandbox_agent.reports.page",
    "sandbox_agent.reports.runs",
    "sandbox_agent.reports.terminal",
    "sandbox_agent.reports.ci",
    "sandbox_agent.run",
    "sandbox_agent.lone",
    "sandbox_agent.box",
    "sandbox_agent.resume",
    "sandbox_agent.stream",
    "sandbox_agent.conversation",
    "sandbox_agent",
    "sandbox_agent.testing",
    "sandbox_agent.wiring",
    "sandbox_agent.cli.templates",
    "sandbox_agent.cli",
    "sandbox_agent.cli.terminal",
    "sandbox_agent.cli.reporting",
    "sandbox_agent.cli.verbs",
    "sandbox_agent.cli.verbs.runs",
    "sandbox_agent.command",
    "sandbox_agent.__main__",
)
"""The folders, and the modules at the top of a package, from the lowest to the highest. A module
imports from its own folder and from lower ones, never from a higher one."""

FACADES = {"sandbox_agent", "sandbox_agent_sandbox"}
"""Packages whose modules each have a place of their own in ORDER."""

INSIDE = "sandbox_agent_sandbox.inside"
"""What runs inside the walls: the price of every call includes its imports."""

FORK_BASE = tuple(
    f"{INSIDE}.{name}"
    for name in ("spawner", "unshared.spawner", "shared_proc", "worker.serving", "prepare_tools")
)
"""What is imported before a call's processes are forked, with all that these import at once."""

NOT_IN_FORK_BASE = {
    *("threading", "random", "secrets", "pathlib", "dataclasses", "inspect", "typing_extensions"),
    *("queue", "tempfile", "subprocess", "concurrent", "logging", "ipaddress", "urllib", "ast"),
    *("platform", "textwrap"),
}
"""What a worker may import once it runs a tool, and not before. The first line is costly, the
second imports the first, or is imported by it. The third compiles expressions."""

HOST_ENDS = {f"sandbox_agent_ipc.{name}" for name in ("aio", "cancel_shield", "futures")}
"""Host ends in a package that children import too: they cost asyncio."""

BY_NAME = {
    "sandbox_agent": "the facade",
    "sandbox_agent_sandbox.put_off": "a module that was put off",
    "sandbox_agent.cli.parser": "the module of the verb",
    "sandbox_agent.tools.registry": "a built-in tool's function",
    "sandbox_agent_sandbox.inside.prepare_tools": "what users' tools import from us",
    "sandbox_agent_sandbox.inside.worker.load": "the task's tools",
    "sandbox_agent_sandbox.inside.worker.serving": "what a session serves",
}
"""Modules that import others by a name computed at run time, which no rule here can see."""

Rule = Callable[[Sources], Iterator[str]]


def complain(sources: Sources, name: str, found: Import, rule: str) -> str:
    return f"{sources[name].path}:{found.line}: imports {found.module}; {rule}"


def folder(sources: Sources, name: str) -> str:
    """The entry of ORDER that a module belongs to."""
    if sources[name].is_package:
        return name
    parent = name.rpartition(".")[0]
    return name if parent in FACADES else parent


def is_shared(sources: Sources, name: str) -> bool:
    """A module at the top of the sandbox package, which both sides of the walls import."""
    return (
        top(name) == "sandbox_agent_sandbox"
        and folder(sources, name) == name
        and (name == "sandbox_agent_sandbox" or not sources[name].is_package)
    )


def inside(sources: Sources) -> frozenset[str]:
    """The modules of the folder `inside`, the shared ones at the top, and every module of the
    sandbox that these import."""
    sandbox = set(sources.of_package("sandbox_agent_sandbox"))
    queue = [one for one in sandbox if within(one, INSIDE) or is_shared(sources, one)]
    found: set[str] = set()
    while queue:
        name = queue.pop()
        if name not in found:
            found.add(name)
            queue += [one.module for one in sources.imports(name) if one.module in sandbox]
    return frozenset(found)


def every_folder_has_a_place_in_the_order(sources: Sources) -> Iterator[str]:
    folders = {folder(sources, name) for name in sources}
    yield from (f"{name} is not in ORDER" for name in sorted(folders - set(ORDER)))
    yield from (f"ORDER names {name}, which is not there" for name in set(ORDER) - folders)
    yield from (f"ORDER names {name} twice" for name in set(ORDER) if ORDER.count(name) > 1)


def no_module_imports_from_a_higher_folder(sources: Sources) -> Iterator[str]:
    for name in sources:
        for found in sources.imports(name):
            if found.module not in sources:
                continue
            here, there = folder(sources, name), folder(sources, found.module)
            if not {here, there} <= set(ORDER):
                continue  # the rule above complains
            # The facade names its modules for type checkers; at run time it imports on demand.
            if name == "sandbox_agent" and found.typing_only:
                continue
            if ORDER.index(there) > ORDER.index(here):
                yield complain(sources, name, found, f"{there} is above {here}")


def no_modules_import_each_other_in_a_circle(sources: Sources) -> Iterator[str]:
    """Also not within one folder. Imports inside functions and for type checkers count."""
    left = {
        name: {one.module for one in sources.imports(name) if one.module in sources} - {name}
        for name in sources
        if name not in FACADES
    }
    while free := {name for name, needs in left.items() if not needs & left.keys()}:
        for name in free:
            del left[name]
    if left:
        yield f"these import each other: {sorted(left)}"


def ipc_needs_msgspec_and_asyncio_only_in_its_host_ends(sources: Sources) -> Iterator[str]:
    allowed = sys.stdlib_module_names | {"msgspec", "sandbox_agent_ipc"}
    for name in sources.of_package("sandbox_agent_ipc"):
        for found in sources.imports(name):
            if found.typing_only:
                continue
            costly = top(found.module) == "asyncio" or found.module in HOST_ENDS
            if top(found.module) not in allowed or (costly and name not in HOST_ENDS):
                yield complain(sources, name, found, "children import this package, and pay for it")


def what_runs_inside_the_walls_imports_little(sources: Sources) -> Iterator[str]:
    allowed = sys.stdlib_module_names | {"msgspec", "sandbox_agent_ipc", "sandbox_agent_sandbox"}
    rule = "inside the walls: the standard library, msgspec, ipc and Structs"
    for name in sorted(inside(sources)):
        for found in sources.imports(name):
            if found.typing_only:
                continue
            if found.module in HOST_ENDS or top(found.module) not in allowed:
                yield complain(sources, name, found, rule)


def what_runs_inside_uses_only_the_shared_modules_at_the_top(sources: Sources) -> Iterator[str]:
    for name in sorted(inside(sources)):
        if not within(name, INSIDE) and not is_shared(sources, name):
            yield f"{name} is dragged inside the walls"


def what_every_fork_of_a_call_copies_is_lean(sources: Sources) -> Iterator[str]:
    """Each call forks twice from what the spawner has imported: the at-fork hooks of `threading`
    and `random` run each time, and each page is mapped each time."""
    queue, seen = list(FORK_BASE), set()
    while queue:
        name = queue.pop()
        if name in seen:
            continue
        seen.add(name)
        functions = list(sources[name].functions())
        for found in sources.imports(name):
            inner = any(f.lineno <= found.line <= (f.end_lineno or 0) for f in functions)
            if found.typing_only or inner:
                continue
            if top(found.module) in NOT_IN_FORK_BASE:
                yield complain(sources, name, found, "each fork of a call would pay for it")
            elif found.module in sources:
                queue.append(found.module)


def the_facade_and_the_decorator_are_light(sources: Sources) -> Iterator[str]:
    """Users' tool modules import `sandbox_agent` inside the walls."""
    for name in ("sandbox_agent", "sandbox_agent.tools", "sandbox_agent.tools.decorator"):
        if name not in sources:
            yield f"{name} is not there"
            continue
        for found in sources.imports(name):
            if found.typing_only or top(found.module) in sys.stdlib_module_names:
                continue
            if not within(found.module, "sandbox_agent", "sandbox_agent_ipc"):
                yield complain(sources, name, found, "imported inside the walls by users' tools")


def conversation_names_no_concrete_model_or_tool(sources: Sources) -> Iterator[str]:
    name = "sandbox_agent.conversation"
    if name not in sources:
        yield f"{name} is not there"
        return
    models = [one for one in sources if one.startswith("sandbox_agent.models.")]
    for found in sources.imports(name):
        if within(found.module, *models, INSIDE):
            yield complain(sources, name, found, "it is given a model and tools")
    concrete = {"shell", "files", "python", "read_file", "write_file", "edit_file", "list_files"}
    concrete |= {"find_files", "search_files", "scripted", "replay", "litellm"}
    for text, line in sources[name].texts():
        if text in concrete:
            yield f"{sources[name].path}:{line}: says {text!r}"


def reports_read_the_journal_and_never_a_live_conversation(sources: Sources) -> Iterator[str]:
    for name in sources:
        if within(name, "sandbox_agent.reports"):
            for found in sources.imports(name):
                if within(found.module, "sandbox_agent.conversation", "sandbox_agent.run"):
                    yield complain(sources, name, found, "a report reads the journal")


def nothing_but_main_imports_the_command_line(sources: Sources) -> Iterator[str]:
    for name in sources:
        if not within(name, "sandbox_agent.cli", "sandbox_agent.command"):
            for found in sources.imports(name):
                if within(found.module, "sandbox_agent.cli"):
                    yield complain(sources, name, found, "the command line is the outermost layer")


def litellm_is_imported_inside_the_model_process_alone(sources: Sources) -> Iterator[str]:
    for name in sources:
        if within(name, MODEL_PROCESS):
            continue
        for found in sources.imports(name):
            # Both sides need to know which variables hold keys.
            ours = within(found.module, MODEL_PROCESS) and found.module != f"{MODEL_PROCESS}.keys"
            if top(found.module) == "litellm" or ours:
                yield complain(sources, name, found, "4 to 9 seconds; only the model process pays")


def rich_and_the_live_view_are_imported_where_they_are_needed(sources: Sources) -> Iterator[str]:
    """By functions. Only the view itself, which only a terminal gets, imports rich at once."""
    for name in sources:
        if within(name, *VIEW):
            continue
        functions = list(sources[name].functions())
        for found in sources.imports(name):
            inner = any(f.lineno <= found.line <= (f.end_lineno or 0) for f in functions)
            if within(found.module, "rich", *VIEW) and not found.typing_only and not inner:
                yield complain(sources, name, found, "50 ms; import it in a function")


def the_model_process_imports_nothing_of_the_hosts(sources: Sources) -> Iterator[str]:
    allowed = (
        "sandbox_agent_ipc",
        MODEL_PROCESS,
        "sandbox_agent_sandbox.inside.kernel.syscalls",
        "sandbox_agent_sandbox.inside.worker",
        "sandbox_agent_sandbox.policy.fields.secrets",
        "sandbox_agent_sandbox.utf8",
    )
    for name in sources:
        if not within(name, MODEL_PROCESS):
            continue
        for found in sources.imports(name):
            if top(found.module) not in ROOTS or found.module == "sandbox_agent_sandbox":
                continue
            if not within(found.module, *allowed):
                yield complain(sources, name, found, "it starts as fast as litellm's import allows")


def only_listed_modules_import_by_a_computed_name(sources: Sources) -> Iterator[str]:
    dynamic = {"import_module", "__import__"}
    for name in sources:
        words = {getattr(node, "id", getattr(node, "attr", "")) for node in sources[name].nodes()}
        if words & dynamic and name not in BY_NAME:
            yield f"{sources[name].path} imports by a computed name; BY_NAME does not list it"
        if name in BY_NAME and not words & dynamic:
            yield f"{sources[name].path} no longer imports by a computed name; see BY_NAME"


VIEW = ("sandbox_agent.reports.terminal", "sandbox_agent.cli.terminal")
MODEL_PROCESS = "sandbox_agent.models.process.inside"
_MOUNTS = "sandbox_agent_sandbox.inside.walls.mounts"
_PLAN = "sandbox_agent_sandbox.plan"
_CODEC = "sandbox_agent_ipc.codec"
_CONVERSATION = "sandbox_agent.conversation"

PLANTED: dict[Rule, tuple[tuple[str, str], ...]] = {
    every_folder_has_a_place_in_the_order: (
        ("sandbox_agent.attic.lamp", ""),
        ("sandbox_agent.lamp", ""),
    ),
    no_module_imports_from_a_higher_folder: (
        ("sandbox_agent.journal.file", "import sandbox_agent.run.loop"),
        ("sandbox_agent_ipc.token", "from sandbox_agent_sandbox import plan"),
        (_PLAN, "from .host.cell import Cell"),
        ("sandbox_agent.run.end", "def f():\n    from sandbox_agent import conversation"),
    ),
    no_modules_import_each_other_in_a_circle: (
        ("sandbox_agent.run.call", "from sandbox_agent.run import loop"),
        ("sandbox_agent_ipc.framing", "if TYPE_CHECKING:\n    import sandbox_agent_ipc.channel"),
    ),
    ipc_needs_msgspec_and_asyncio_only_in_its_host_ends: (
        (_CODEC, "import psutil"),
        (_CODEC, "import asyncio.events"),
        (_CODEC, "from sandbox_agent_ipc import aio"),
    ),
    what_runs_inside_the_walls_imports_little: (
        (_MOUNTS, "import psutil"),
        (_MOUNTS, "from sandbox_agent import tool"),
        (_MOUNTS, "from sandbox_agent_ipc import aio"),
        (_PLAN, "def f():\n    import pydantic"),
    ),
    what_runs_inside_uses_only_the_shared_modules_at_the_top: (
        (_MOUNTS, "from sandbox_agent_sandbox.policy import policy"),
        (_PLAN, "import sandbox_agent_sandbox.host.process"),
    ),
    what_every_fork_of_a_call_copies_is_lean: (
        (_MOUNTS, "import threading"),
        ("sandbox_agent_ipc.token", "from random import random"),
        ("sandbox_agent_sandbox.inside.tools.globs", "from pathlib import Path"),
        ("sandbox_agent_sandbox.inside.unshared.view.sockets", "from queue import SimpleQueue"),
    ),
    the_facade_and_the_decorator_are_light: (
        ("sandbox_agent", "import msgspec"),
        ("sandbox_agent.tools.decorator", "import pydantic"),
    ),
    conversation_names_no_concrete_model_or_tool: (
        (_CONVERSATION, "from sandbox_agent.models import scripted"),
        (_CONVERSATION, "from sandbox_agent_sandbox.inside.tools import shell"),
        (_CONVERSATION, "TOOL = 'shell'"),
    ),
    reports_read_the_journal_and_never_a_live_conversation: (
        ("sandbox_agent.reports.lines", "from sandbox_agent.run.end import End"),
        ("sandbox_agent.reports.lines", "import sandbox_agent.conversation"),
    ),
    nothing_but_main_imports_the_command_line: (
        ("sandbox_agent.wiring.task", "from sandbox_agent.cli.verbs import run"),
    ),
    litellm_is_imported_inside_the_model_process_alone: (
        ("sandbox_agent.models.catalogue", "def f():\n    import litellm.utils"),
        ("sandbox_agent.models.provider", f"from {MODEL_PROCESS} import retry"),
    ),
    rich_and_the_live_view_are_imported_where_they_are_needed: (
        ("sandbox_agent.reports.lines", "from rich.text import Text"),
        ("sandbox_agent.cli.verbs.run", "from sandbox_agent.cli.terminal import view"),
    ),
    the_model_process_imports_nothing_of_the_hosts: (
        (f"{MODEL_PROCESS}.serve", "from sandbox_agent_sandbox.host import process"),
        (f"{MODEL_PROCESS}.serve", "from sandbox_agent.models import catalogue"),
    ),
    only_listed_modules_import_by_a_computed_name: (
        ("sandbox_agent.run.end", "import importlib\nimportlib.import_module('x')"),
        ("sandbox_agent.run.end", "__import__('sandbox_agent.cli')"),
    ),
}
"""Violations of each rule: what is added to the end of which module."""


@pytest.mark.parametrize("rule", PLANTED, ids=lambda rule: rule.__name__)
def test_the_sources_keep_the_rule(rule: Rule) -> None:
    wrong = list(rule(OURS))
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("rule", PLANTED, ids=lambda rule: rule.__name__)
def test_the_rule_finds_planted_violations(rule: Rule) -> None:
    before = set(rule(OURS))
    for name, text in PLANTED[rule]:
        assert name in OURS or not text, f"{name} is not there"
        assert set(rule(OURS.plus(name, f"\n{text}\n"))) - before, (name, text)


def with_all_modules(code: str) -> str:
    """Runs the code, whose arguments are the names of all modules. Returns what it printed."""
    names = [name for name in OURS if not name.endswith("__main__")]
    argv = [sys.executable, "-c", f"import importlib, sys\n{code}", *names]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_module_can_be_imported() -> None:
    """A name that only types need, under `if TYPE_CHECKING`, is not there for an import that runs:
    mypy does not see that."""
    with_all_modules("[importlib.import_module(name) for name in sys.argv[1:]]")


def test_every_expression_that_is_compiled_late_can_be_compiled() -> None:
    code = """
import re
from sandbox_agent_sandbox.put_off import LateExpression
for name in sys.argv[1:]:
    for value in vars(importlib.import_module(name)).values():
        if isinstance(value, LateExpression):
            assert re.compile(value.pattern, value.flags) is not None
            print(name)
"""
    assert len(with_all_modules(code).splitlines()) > 20


def test_every_rule_of_this_file_is_used() -> None:
    signature = {"sources": "Sources", "return": "Iterator[str]"}
    rules = {
        value for value in globals().values() if getattr(value, "__annotations__", {}) == signature
    }
    assert rules == PLANTED.keys()


def test_the_roots_hold_one_package_each_and_no_stray_files() -> None:
    for package, name in ROOTS.items():
        root = CHECKOUT / name
        entries = {entry.name for entry in root.iterdir()}
        entries -= {"__pycache__", "README.md", "pictures"}
        assert entries == {package}, f"{root} holds {sorted(entries)}"
        assert (root / package / "py.typed").is_file()


def test_top_level_entries_are_the_documented_ones() -> None:
    visible = {entry.name for entry in CHECKOUT.iterdir() if not entry.name.startswith(".")}
    visible = {name for name in visible if not name.endswith(".egg-info")} - MADE_BY_TOOLS
    assert visible == TOP_LEVEL


def test_no_file_records_registry_addresses() -> None:
    """A lock file names one place's package index."""
    names = {"uv.lock", "poetry.lock", "pdm.lock", "Pipfile.lock", "requirements.lock"}
    assert not names & {entry.name for entry in CHECKOUT.iterdir()}
