"""The sources of the three packages, read and never imported: modules, imports, functions."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from paths import CHECKOUT

ROOTS = {"sandbox_agent_ipc": "ipc", "sandbox_agent_sandbox": "sandbox", "sandbox_agent": "runtime"}
"""Each package, and the folder of the checkout that holds it."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Import:
    """One imported module. typing_only: under `if TYPE_CHECKING`, so it costs nothing."""

    module: str
    line: int
    typing_only: bool


@dataclass(frozen=True)
class Module:
    """One source file. path: relative to the checkout."""

    name: str
    path: Path
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, str(self.path))

    def moved(self, name: str) -> Module:
        """The same text in a file of another name beside it."""
        dotted = f"{self.name.rpartition('.')[0]}.{name.removesuffix('.py')}"
        return Module(dotted, self.path.with_name(name), self.text)

    @property
    def is_package(self) -> bool:
        return self.path.name == "__init__.py"

    @property
    def lines(self) -> int:
        return len(self.text.splitlines())

    @cached_property
    def _nodes(self) -> list[ast.AST]:
        return list(ast.walk(self.tree))

    def nodes(self) -> list[ast.AST]:
        return self._nodes

    def functions(self) -> Iterator[Function]:
        return (node for node in self.nodes() if isinstance(node, Function))

    @cached_property
    def imported(self) -> list[tuple[str, str, int, bool]]:
        """(module, name or "", line, typing_only) of every import statement."""
        package = self.name if self.is_package else self.name.rpartition(".")[0]
        return list(_imports(self.tree, package, False))

    def texts(self) -> Iterator[tuple[str, int]]:
        """The string constants that are code, with their lines; no docstrings."""
        prose = {
            id(node.value)
            for node in self.nodes()
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        }
        for node in self.nodes():
            if not isinstance(node, ast.Constant) or id(node) in prose:
                continue
            if isinstance(node.value, str):
                yield node.value, node.lineno


class Sources(Mapping[str, Module]):
    """All modules by dotted name."""

    def __init__(self, modules: Mapping[str, Module]) -> None:
        self._modules = dict(sorted(modules.items()))

    @classmethod
    def of(cls, checkout: Path) -> Sources:
        found = {}
        for package, root in ROOTS.items():
            for path in (checkout / root / package).rglob("*.py"):
                parts = path.relative_to(checkout / root).with_suffix("").parts
                name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
                found[name] = Module(name, path.relative_to(checkout), path.read_text())
        return cls(found)

    def __getitem__(self, name: str) -> Module:
        return self._modules[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __len__(self) -> int:
        return len(self._modules)

    def plus(self, name: str, text: str) -> Sources:
        """The same with `text` added to the end of a module, which is created if need be."""
        package = name.partition(".")[0]
        old = self.get(name)
        path = old.path if old else Path(ROOTS[package], *name.split(".")).with_suffix(".py")
        changed = Module(name, path, (old.text if old else "") + text)
        return Sources({**self._modules, name: changed})

    def of_package(self, package: str) -> list[str]:
        return [name for name in self if top(name) == package]

    def imports(self, name: str) -> Iterator[Import]:
        """Every import, also inside functions. `from a import b` names a.b where that is a
        module."""
        for base, alias, line, typing_only in self[name].imported:
            deeper = f"{base}.{alias}"
            yield Import(deeper if alias and deeper in self else base, line, typing_only)


def _imports(
    node: ast.AST, package: str, typing_only: bool
) -> Iterator[tuple[str, str, int, bool]]:
    if isinstance(node, ast.If) and _is_type_checking(node.test):
        for child in node.body:
            yield from _imports(child, package, True)
        for child in node.orelse:
            yield from _imports(child, package, typing_only)
        return
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield alias.name, "", node.lineno, typing_only
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            parents = package.split(".")
            parents = parents[: len(parents) - node.level + 1]
            base = ".".join([*parents, base] if base else parents)
        for alias in node.names:
            yield base, alias.name, node.lineno, typing_only
    for child in ast.iter_child_nodes(node):
        yield from _imports(child, package, typing_only)


def _is_type_checking(test: ast.expr) -> bool:
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def top(module: str) -> str:
    return module.partition(".")[0]


def within(name: str, *parents: str) -> bool:
    return any(name == parent or name.startswith(f"{parent}.") for parent in parents)


OURS = Sources.of(CHECKOUT)
"""The sources of this checkout."""
