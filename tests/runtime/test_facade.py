"""`sandbox_agent` is all that a program has to import from, and says so once."""

from __future__ import annotations

import ast
import enum
import importlib
import inspect
import re
import subprocess
import sys
import tomllib
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sandbox_agent
from paths import CHECKOUT

FACADE = Path(sandbox_agent.__file__)


def test_the_facade_offers_every_name_and_imports_nothing_by_itself() -> None:
    code = (
        "import sys, sandbox_agent\n"
        "heavy = {'asyncio', 'msgspec', 'pydantic', 'psutil', 'yaml', 'litellm', 'rich'}\n"
        "heavy |= {'logging', 'importlib.metadata'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "from sandbox_agent import tool, CancelToken\n"
        "heavy.discard('msgspec')\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "for name in sandbox_agent.__all__: getattr(sandbox_agent, name)\n"
        "assert set(sandbox_agent.__all__) <= set(dir(sandbox_agent))\n"
        "try: sandbox_agent.nothing\n"
        "except AttributeError: print('fine')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.stdout, done.stderr) == ("fine\n", "")


def test_every_name_is_said_to_type_checkers_readers_and_the_importer_alike() -> None:
    source = ast.parse(FACADE.read_text())
    conditions = (node for node in source.body if isinstance(node, ast.If))
    (block,) = (node for node in conditions if ast.unparse(node.test) == "TYPE_CHECKING")
    typed = {
        alias.asname: f"{node.module}.{alias.name}"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    lazy = {name: f"{module}.{name}" for name, module in sandbox_agent._HOME.items()}
    assert typed == lazy
    (listed,) = (
        ast.literal_eval(node.value)
        for node in source.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    )
    assert listed == sorted([*lazy, "__version__"])


def test_the_version_is_that_of_the_distribution() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    assert sandbox_agent.__version__ == project["version"]


# --- every type of a result, an event or an argument ------------------------------------------


def ours(value: Any) -> Iterator[type]:
    """The classes of this project that a type is made of."""
    if isinstance(value, type) and not isinstance(value, types.GenericAlias):
        if value.__module__.partition(".")[0].startswith("sandbox_agent"):
            yield value
        return
    for argument in typing.get_args(value):
        if isinstance(argument, list):
            for one in argument:
                yield from ours(one)
        yield from ours(argument)


def hints(value: Any, module: str) -> dict[str, Any]:
    """Annotations of its own; names that only type checkers import are looked up as they would."""
    names: dict[str, Any] = dict(vars(sys.modules[module]))
    for node in ast.walk(ast.parse(inspect.getsource(sys.modules[module]))):
        if isinstance(node, ast.ImportFrom):
            folder = hasattr(sys.modules[module], "__path__")
            package = module if folder else module.rpartition(".")[0]
            imported = importlib.import_module("." * node.level + (node.module or ""), package)
            names |= {a.asname or a.name: getattr(imported, a.name, None) for a in node.names}
    own: Any = types.SimpleNamespace(__annotations__=vars(value).get("__annotations__", {}))
    if inspect.isfunction(value):
        own = types.SimpleNamespace(__annotations__=value.__annotations__)
    own.__annotations__ = {
        name: hint for name, hint in own.__annotations__.items() if "ClassVar" not in str(hint)
    }
    return typing.get_type_hints(own, globalns=names, localns=names)


def mentioned(cls: type) -> Iterator[type]:
    """The classes of this project that fields, properties and methods of `cls` mention."""
    for base in cls.__mro__:
        if not base.__module__.startswith("sandbox_agent"):
            continue
        if not issubclass(base, enum.Enum):
            for name, hint in hints(base, base.__module__).items():
                if not name.startswith("_"):
                    yield from ours(hint)
        for name, member in vars(base).items():
            function = getattr(member, "fget", getattr(member, "__func__", member))
            public = not name.startswith("_") or name == "__init__"
            if public and inspect.isfunction(function):
                for hint in hints(function, function.__module__).values():
                    yield from ours(hint)


def test_every_type_that_a_public_class_mentions_is_public() -> None:
    public = {
        value
        for name in sandbox_agent.__all__
        if isinstance(value := getattr(sandbox_agent, name), type)
    }
    missing: dict[str, str] = {}
    for cls in public:
        for found in mentioned(cls):
            if found not in public and not found.__name__.startswith("_"):
                missing[f"{found.__module__}.{found.__name__}"] = cls.__name__
    assert missing == {}


# --- names that documents give -----------------------------------------------------------------

DOCUMENTS = sorted(
    [CHECKOUT / "CHANGELOG.md", *CHECKOUT.glob("README.md"), *CHECKOUT.glob("*/README.md")]
)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_what_a_document_imports_is_there(document: Path) -> None:
    """No document has ever named another module path, so there is none that must explain itself."""
    text = document.read_text()
    named = set(re.findall(r"\bsandbox_agent(?:_ipc|_sandbox)?(?:\.[a-z_]+)*\.\w+", text))
    imports = r"from (sandbox_agent[\w.]*) import (?:\(([^)]*)\)|([^\n(]+))"
    for module, *names in re.findall(imports, text):
        named |= {f"{module}.{name}" for name in re.findall(r"\w+", " ".join(names))}
    for path in named:
        found: Any = importlib.import_module(path.partition(".")[0])
        for name in path.split(".")[1:]:
            if not hasattr(found, name):
                importlib.import_module(f"{found.__name__}.{name}")
            found = getattr(found, name)
