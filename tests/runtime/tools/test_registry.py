"""Which tools a conversation offers, and what is refused as one."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sandbox_agent.config.settings import BUILT_IN_TOOLS, FILE_TOOLS, ToolChoice, settings_from
from sandbox_agent.errors import ConfigError
from sandbox_agent.tools.registry import BUILT_IN, Registry, import_roots, resolve, time_for
from sandbox_agent_ipc.messages import FunctionRef, ToolProblem, ToolSpec
from sandbox_agent_sandbox.inside.worker.load import LoadError, load
from sandbox_agent_sandbox.inside.worker.signature import SignatureError, describe

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
    """What a worker does when it is asked, in this process."""

    def look_at(reference: FunctionRef) -> ToolSpec | ToolProblem:
        try:
            return describe(load(reference), reference)
        except (LoadError, SignatureError) as error:
            return ToolProblem(reference, str(error))

    return [look_at(reference) for reference in functions]


def choices(*entries: Any) -> list[ToolChoice]:
    return settings_from({"tools": entries}).tools


def resolved(*entries: Any, describe: Any = nobody) -> Registry:
    return asyncio.run(resolve(choices(*entries), describe))


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


def test_named_functions_are_described_by_a_worker(tools: Any) -> None:
    registry = resolved("shell", "tools_for_registry:greet", describe=worker)
    found = registry.get("greet")
    assert found is not None
    assert found.spec.function == FunctionRef("tools_for_registry", "greet")


def test_a_named_function_that_cannot_be_imported_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match=r"gone:f cannot be a tool: .*no module 'gone'") as caught:
        resolved("gone:f", describe=worker)
    assert caught.value.hint


def test_a_named_method_is_refused(tools: Any) -> None:
    """Only a worker can know that it is one."""
    with pytest.raises(ConfigError, match=r"Store\.add is a method of Store"):
        resolved("tools_for_registry:Store.add", describe=worker)


def test_functions_are_offered_by_their_marked_name(tools: Any) -> None:
    registry = resolved(tools.greet, describe=worker)
    (spec,) = registry.specs
    assert spec.name == "greet"
    assert spec.description == "Greets somebody."
    assert set(spec.parameters["properties"]) == {"name"}
    assert spec.function == FunctionRef("tools_for_registry", "greet")


def test_the_folder_of_a_function_is_one_that_workers_must_see(tools: Any) -> None:
    assert import_roots(choices(tools.greet, "shell"), HERE / "elsewhere") == [HERE]


def test_two_tools_of_one_name_are_refused(tools: Any) -> None:
    with pytest.raises(ConfigError, match="two tools are called shell"):
        resolved("shell", tools.not_the_shell, describe=worker)


def test_a_signature_that_no_model_can_be_told_of_is_refused(tools: Any) -> None:
    with pytest.raises(ConfigError, match="everything cannot be a tool"):
        resolved(tools.everything, describe=worker)


def test_static_and_class_methods_are_tools(tools: Any) -> None:
    registry = resolved(tools.Store.size, tools.Store.kind, describe=worker)
    assert [spec.parameters["properties"] for spec in registry.specs] == [{}, {}]


def test_what_no_worker_could_call_is_refused_at_once(tools: Any) -> None:
    def inner() -> None:
        pass

    store = tools.Store()
    for entry, why in (
        (inner, "it has no name at the top of a module"),
        (lambda: None, "it has no name at the top of a module"),
        (tools.nameless, "it has no name at the top of a module"),
        (tools.Store, "it is a class"),
        (store.add, "it is a method of Store"),
        (tools.Store.add, "it is a method of Store"),
        (tools.undecorated, "unlike in tools_for_registry is another object"),
    ):
        with pytest.raises(ConfigError, match=why) as caught:
            choices("shell", entry)
        assert (caught.value.field, bool(caught.value.hint)) == ("tools[1]", True)


@pytest.mark.parametrize(
    "entry",
    ["bash", "a.b", "a:b:c", ":f", 7, None, {"shell": {}, "files": {}}, {"shell": {"speed": 1}}],
)
def test_what_is_not_a_tool_is_refused_with_the_hint(entry: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        choices(entry)
    assert caught.value.field in ("tools[0]", "tools[0].speed")
    assert caught.value.hint


def test_a_bad_timeout_is_refused() -> None:
    for make in (lambda: choices({"shell": {"timeout": "soon"}}), lambda: ToolChoice("shell", -1)):
        with pytest.raises(ConfigError, match="is not a duration") as caught:
            make()
        assert str(caught.value.field).startswith("tools")


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
    assert time_for(shell, arguments, limit) == expected


def test_only_the_shells_timeout_argument_is_a_time() -> None:
    registry = resolved("files")
    read = registry.get("read_file")
    assert read is not None
    assert time_for(read, {"timeout": 1}, 120.0) == 120.0


def test_every_built_in_name_is_a_function_of_a_worker_module() -> None:
    assert tuple(BUILT_IN) == BUILT_IN_TOOLS
    assert tuple(one.qualname for one in BUILT_IN["files"]) == FILE_TOOLS
    for references in BUILT_IN.values():
        for reference in references:
            assert reference.module.startswith("sandbox_agent_sandbox.inside.tools.")
