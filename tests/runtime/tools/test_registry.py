"""Which tools a conversation offers, and what is refused as one."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sandbox_agent.errors import ConfigError
from sandbox_agent.tools.registry import (
    BUILT_IN,
    Registry,
    ToolChoice,
    choose,
    import_roots,
    reference_of,
    resolve,
)
from sandbox_agent_ipc.messages import FunctionRef, ToolProblem, ToolSpec

HERE = Path(__file__).parent


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(HERE))
    import tools_for_registry

    yield tools_for_registry
    del sys.modules["tools_for_registry"]


async def nobody(functions: list[FunctionRef]) -> list[ToolSpec | ToolProblem]:
    raise AssertionError(f"a worker was asked about {functions}")


async def worker(functions: list[FunctionRef]) -> list[ToolSpec | ToolProblem]:
    return [
        ToolProblem(ref, "no module named gone")
        if ref.module == "gone"
        else ToolSpec(ref.qualname, "does", {}, ref)
        for ref in functions
    ]


def resolved(*entries: Any, describe: Any = nobody) -> Registry:
    return asyncio.run(resolve(choose(entries), describe))


def test_built_in_tools_are_described_without_a_worker() -> None:
    registry = resolved("shell", "files")
    names = [spec.name for spec in registry.specs]
    assert names == [
        "shell",
        "read_file",
        "write_file",
        "edit_file",
        "list_files",
        "find_files",
        "search_files",
    ]
    for spec in registry.specs:
        assert spec.description
        assert spec.parameters["type"] == "object"
    shell = registry.get("shell")
    assert shell is not None
    assert set(shell.spec.parameters["properties"]) == {"command", "timeout", "stdin"}


def test_named_functions_are_described_by_a_worker_only() -> None:
    registry = resolved("shell", "gone_pkg.mod:search", describe=worker)
    found = registry.get("search")
    assert found is not None
    assert found.spec.function == FunctionRef("gone_pkg.mod", "search")
    assert "gone_pkg" not in sys.modules


def test_a_named_function_that_cannot_be_imported_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match=r"gone:f cannot be a tool: no module named gone"):
        resolved("gone:f", describe=worker)


def test_functions_are_offered_by_their_marked_name(tools: Any) -> None:
    registry = resolved(tools.greet)
    (spec,) = registry.specs
    assert spec.name == "greet"
    assert spec.description == "Greets somebody."
    assert set(spec.parameters["properties"]) == {"name"}
    assert spec.function == FunctionRef("tools_for_registry", "greet")


def test_the_folder_of_a_function_is_one_that_workers_must_see(tools: Any) -> None:
    assert import_roots(choose([tools.greet, "shell"])) == [HERE]


def test_two_tools_of_one_name_are_refused(tools: Any) -> None:
    with pytest.raises(ConfigError, match="two tools are called shell"):
        resolved("shell", tools.not_the_shell)


def test_a_signature_that_no_model_can_be_told_of_is_refused(tools: Any) -> None:
    with pytest.raises(ConfigError, match="everything cannot be a tool"):
        resolved(tools.everything)


def test_functions_that_no_worker_could_find_are_refused(tools: Any) -> None:
    def inner() -> None:
        pass

    for unreachable in (inner, lambda: None, tools.nameless):
        with pytest.raises(ConfigError, match="so that a worker cannot find it"):
            reference_of(unreachable)


@pytest.mark.parametrize(
    "entry",
    ["bash", "a.b", "a:b:c", ":f", 7, None, {"shell": {}, "files": {}}, {"shell": {"speed": 1}}],
)
def test_what_is_not_a_tool_is_refused_with_the_mend(entry: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        choose([entry])
    assert caught.value.field == "tools"
    assert caught.value.hint


def test_a_bad_timeout_is_refused() -> None:
    with pytest.raises(ConfigError, match="timeout of shell"):
        choose([{"shell": {"timeout": "soon"}}])


@pytest.mark.parametrize(
    ("own", "asked", "limit", "expected"),
    [
        (None, None, None, None),
        (None, None, 120.0, 120.0),
        (60.0, None, 120.0, 60.0),
        (60.0, None, 30.0, 30.0),
        (60.0, 5, 120.0, 5.0),
        (60.0, 500, 120.0, 60.0),
        (None, 2.5, None, 2.5),
        (None, 0, 120.0, 120.0),
        (None, -1, 120.0, 120.0),
        (None, "9", 120.0, 120.0),
        (None, float("nan"), 120.0, 120.0),
    ],
)
def test_the_smallest_of_all_times_counts(
    own: float | None, asked: Any, limit: float | None, expected: float | None
) -> None:
    registry = resolved(ToolChoice("shell", own))
    shell = registry.get("shell")
    assert shell is not None
    arguments = {"command": "x"} if asked is None else {"command": "x", "timeout": asked}
    assert shell.time_for(arguments, limit) == expected


def test_only_the_shells_timeout_argument_is_a_time() -> None:
    registry = resolved("files")
    read = registry.get("read_file")
    assert read is not None
    assert read.time_for({"timeout": 1}, 120.0) == 120.0


def test_every_built_in_name_is_a_function_of_a_worker_module() -> None:
    for references in BUILT_IN.values():
        for reference in references:
            assert reference.module.startswith("sandbox_agent_sandbox.inside.tools.")
