"""Who may import whom, and what lies where. Reads the sources; imports none of them."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
ROOTS = {
    "sandbox_agent_ipc": CHECKOUT / "ipc",
    "sandbox_agent_sandbox": CHECKOUT / "sandbox",
    "sandbox_agent": CHECKOUT / "runtime",
}
TOP_LEVEL = {
    "pyproject.toml", "runtime", "sandbox", "ipc", "tests", "scripts",
    "README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md",
}  # fmt: skip
MADE_BY_TOOLS = {"dist", "build", "__pycache__"}

ORDER = (
    "sandbox_agent_ipc",
    "sandbox_agent_sandbox.errors",
    "sandbox_agent_sandbox.utf8",
    "sandbox_agent_sandbox.images",
    "sandbox_agent_sandbox.steps",
    "sandbox_agent_sandbox.plan",
    "sandbox_agent_sandbox.outcome",
    "sandbox_agent_sandbox.call_status",
    "sandbox_agent_sandbox",
    "sandbox_agent_sandbox.import_roots",
    "sandbox_agent_sandbox.inside.kernel",
    "sandbox_agent_sandbox.inside.walls",
    "sandbox_agent_sandbox.inside.worker",
    "sandbox_agent_sandbox.inside.tools",
    "sandbox_agent_sandbox.inside",
    "sandbox_agent_sandbox.policy",
    "sandbox_agent_sandbox.host",
    "sandbox_agent.source_root",
    "sandbox_agent.errors",
    "sandbox_agent.embedding",
    "sandbox_agent.config",
    "sandbox_agent.journal",
    "sandbox_agent.models.process.inside",
    "sandbox_agent.models.process",
    "sandbox_agent.models",
    "sandbox_agent.tools",
    "sandbox_agent.reports",
    "sandbox_agent.run",
    "sandbox_agent.resume",
    "sandbox_agent.conversation",
    "sandbox_agent",
    "sandbox_agent.wiring",
    "sandbox_agent.cli",
    "sandbox_agent.cli.verbs",
    "sandbox_agent.__main__",
)
"""The folders, and the modules at the top of a package, from the lowest to the highest. A module
imports from its own folder and from lower ones, never from a higher one."""

FACADES = {"sandbox_agent", "sandbox_agent_sandbox"}
"""Packages whose modules each have a place of their own in ORDER."""

INSIDE = "sandbox_agent_sandbox.inside"
"""What runs inside the walls: the price of every call includes its imports."""

# Host ends, in a package that children import too: they cost asyncio.
HOST_ENDS = {"sandbox_agent_ipc.aio"}


@dataclass(frozen=True)
class Import:
    """One imported name. typing_only: under `if TYPE_CHECKING`, so it costs nothing."""

    module: str
    line: int
    typing_only: bool


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def modules(package: str) -> dict[str, Path]:
    """All modules of a package, by dotted name."""
    found = {}
    for path in sorted((ROOTS[package] / package).rglob("*.py")):
        parts = path.relative_to(ROOTS[package]).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


ALL = {name: path for package in ROOTS for name, path in modules(package).items()}


def is_type_checking(test: ast.expr) -> bool:
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def imports(name: str) -> Iterator[Import]:
    """Every import of a module, also inside functions. `from a import b` names a.b if a module."""
    path = ALL[name]
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]

    def walk(node: ast.AST, typing_only: bool) -> Iterator[Import]:
        if isinstance(node, ast.If) and is_type_checking(node.test):
            for child in node.body:
                yield from walk(child, True)
            for child in node.orelse:
                yield from walk(child, typing_only)
            return
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, typing_only)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")
                parents = parents[: len(parents) - node.level + 1]
                base = ".".join([*parents, base] if base else parents)
            for alias in node.names:
                deeper = f"{base}.{alias.name}"
                yield Import(deeper if deeper in ALL else base, node.lineno, typing_only)
        for child in ast.iter_child_nodes(node):
            yield from walk(child, typing_only)

    yield from walk(tree(path), False)


def top(module: str) -> str:
    return module.partition(".")[0]


def within(name: str, *parents: str) -> bool:
    return any(name == parent or name.startswith(f"{parent}.") for parent in parents)


def folder(name: str) -> str:
    """The entry of ORDER that a module belongs to."""
    if ALL[name].name == "__init__.py":
        return name
    parent = name.rpartition(".")[0]
    return name if parent in FACADES else parent


@cache
def inside() -> frozenset[str]:
    """The modules of the folder `inside`, and every module of the sandbox that they import."""
    sandbox = modules("sandbox_agent_sandbox")
    queue = [name for name in sandbox if within(name, INSIDE)]
    found = {"sandbox_agent_sandbox"}
    while queue:
        name = queue.pop()
        if name not in found:
            found.add(name)
            queue += [one.module for one in imports(name) if one.module in sandbox]
    return frozenset(found)


def complain(name: str, found: Import, rule: str) -> str:
    return f"{ALL[name].relative_to(CHECKOUT)}:{found.line}: imports {found.module}; {rule}"


def test_every_folder_has_a_place_in_the_order() -> None:
    assert {folder(name) for name in ALL} == set(ORDER)
    assert len(set(ORDER)) == len(ORDER)


def test_no_module_imports_from_a_higher_folder() -> None:
    wrong = [
        complain(name, found, f"{folder(found.module)} is above {folder(name)}")
        for name in ALL
        for found in imports(name)
        if found.module in ALL
        if ORDER.index(folder(found.module)) > ORDER.index(folder(name))
        # The facade names its modules for type checkers; at run time it imports them on demand.
        if not (name == "sandbox_agent" and found.typing_only)
    ]
    assert not wrong, "\n".join(wrong)


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Also not within one folder. Imports inside functions and for type checkers count."""
    below: dict[str, set[str]] = {
        name: {one.module for one in imports(name) if one.module in ALL} - {name}
        for name in ALL
        if name not in FACADES
    }
    left = dict(below)
    while free := {name for name, needs in left.items() if not needs & left.keys()}:
        for name in free:
            del left[name]
    assert not left, f"these import each other: {sorted(left)}"


def test_ipc_needs_msgspec_and_asyncio_only_in_its_host_ends() -> None:
    wrong = [
        complain(name, found, "children import this package, and pay for it")
        for name in modules("sandbox_agent_ipc")
        for found in imports(name)
        if not found.typing_only
        if (
            top(found.module) not in sys.stdlib_module_names | {"msgspec", "sandbox_agent_ipc"}
            or (name not in HOST_ENDS and top(found.module) == "asyncio")
            or (name not in HOST_ENDS and found.module in HOST_ENDS)
        )
    ]
    assert not wrong, "\n".join(wrong)


def test_what_runs_inside_the_walls_imports_little() -> None:
    allowed = sys.stdlib_module_names | {"msgspec"}
    allowed |= {"sandbox_agent_ipc", "sandbox_agent_sandbox"}
    wrong = [
        complain(name, found, "inside the walls: the standard library, msgspec, ipc and Structs")
        for name in sorted(inside())
        for found in imports(name)
        if not found.typing_only
        if found.module in HOST_ENDS or top(found.module) not in allowed
    ]
    assert not wrong, "\n".join(wrong)


def test_what_runs_inside_uses_only_the_shared_modules_at_the_top() -> None:
    shared = {name for name in modules("sandbox_agent_sandbox") if folder(name) == name}
    wrong = [name for name in inside() if not within(name, INSIDE) and name not in shared]
    assert not wrong, f"dragged inside the walls: {sorted(wrong)}"


def test_the_facade_and_the_decorator_are_light() -> None:
    """Users' tool modules import `sandbox_agent` inside the walls."""
    wrong = [
        complain(name, found, "imported inside the walls by users' tools")
        for name in ("sandbox_agent", "sandbox_agent.tools", "sandbox_agent.tools.decorator")
        if name in ALL
        for found in imports(name)
        if not found.typing_only
        if top(found.module) not in sys.stdlib_module_names
        if not within(found.module, "sandbox_agent", "sandbox_agent_ipc")
    ]
    assert not wrong, "\n".join(wrong)


def concrete_models() -> list[str]:
    return [name for name in ALL if name.startswith("sandbox_agent.models.")]


def words(path: Path) -> Iterator[tuple[str, int]]:
    """The string constants of a module that are code, with their lines; no docstrings."""
    prose = {
        id(node.value)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield node.value, node.lineno


def test_conversation_names_no_concrete_model_or_tool() -> None:
    name = "sandbox_agent.conversation"
    if name not in ALL:
        pytest.fail(f"{name} is not there")
    wrong = [
        complain(name, found, "it is given a model and tools")
        for found in imports(name)
        if within(found.module, *concrete_models(), "sandbox_agent_sandbox.inside")
    ]
    concrete = {"shell", "files", "python", "read_file", "write_file", "edit_file", "list_files"}
    concrete |= {"find_files", "search_files", "scripted", "replay", "litellm"}
    wrong += [
        f"{ALL[name].relative_to(CHECKOUT)}:{line}: says {text!r}"
        for text, line in words(ALL[name])
        if text in concrete
    ]
    assert not wrong, "\n".join(wrong)


def test_reports_read_the_journal_and_never_a_live_conversation() -> None:
    wrong = [
        complain(name, found, "a report reads the journal")
        for name in ALL
        if within(name, "sandbox_agent.reports")
        for found in imports(name)
        if within(found.module, "sandbox_agent.conversation", "sandbox_agent.run")
    ]
    assert not wrong, "\n".join(wrong)


def test_nothing_but_main_imports_the_command_line() -> None:
    wrong = [
        complain(name, found, "the command line is the outermost layer")
        for name in ALL
        if not within(name, "sandbox_agent.cli", "sandbox_agent.__main__")
        for found in imports(name)
        if within(found.module, "sandbox_agent.cli")
    ]
    assert not wrong, "\n".join(wrong)


MODEL_PROCESS = "sandbox_agent.models.process.inside"


def test_litellm_is_imported_inside_the_model_process_alone() -> None:
    wrong = [
        complain(name, found, "4 to 9 seconds; it belongs in a process of its own")
        for name in ALL
        if not within(name, MODEL_PROCESS)
        for found in imports(name)
        if top(found.module) == "litellm"
        # Which variables hold keys is known to both.
        or (within(found.module, MODEL_PROCESS) and found.module != f"{MODEL_PROCESS}.keys")
    ]
    assert not wrong, "\n".join(wrong)


def test_the_model_process_imports_nothing_of_the_hosts() -> None:
    ours = (
        "sandbox_agent_ipc",
        MODEL_PROCESS,
        "sandbox_agent_sandbox.inside.kernel.syscalls",
        "sandbox_agent_sandbox.policy.secrets",
    )
    ends = ("sandbox_agent_sandbox.inside.worker", "sandbox_agent_sandbox")
    wrong = [
        complain(name, found, "it starts as fast as litellm's import lets it")
        for name in modules("sandbox_agent")
        if within(name, MODEL_PROCESS)
        for found in imports(name)
        if top(found.module) in ROOTS
        and not within(found.module, *ours, ends[0])
        and found.module != ends[1]
    ]
    assert not wrong, "\n".join(wrong)


def test_the_roots_hold_one_package_each_and_no_stray_files() -> None:
    for package, root in ROOTS.items():
        entries = {entry.name for entry in root.iterdir()} - {"__pycache__"}
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
