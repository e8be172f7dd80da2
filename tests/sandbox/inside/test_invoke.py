"""One call in its worker: whatever a tool is or does, it yields one truthful Result."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import msgspec
import pytest
from sandbox_agent_ipc.messages import (
    Call,
    FunctionRef,
    Result,
    ResultKind,
    ToolProblem,
    ToolSpec,
)
from sandbox_agent_ipc.token import CallToken
from sandbox_agent_sandbox.inside.worker.invoke import NotStarted, describe_all, invoke
from sandbox_agent_sandbox.inside.worker.load import load
from sandbox_agent_sandbox.inside.worker.result_text import truncate
from worker_child import WorkerChild

TOOLS = '''
from __future__ import annotations
import asyncio, os, pathlib, sys, time
from dataclasses import dataclass
from sandbox_agent.tools.decorator import tool
from sandbox_agent_ipc.token import Cancelled, CancelToken
from sandbox_agent_sandbox.inside.worker.tool_result import ToolError, ToolResult

def say(text): os.write(1, text.encode())

@dataclass
class Point:
    x: int

@dataclass
class Half:
    y: float

def greet(name: str, times: int = 1) -> str:
    """Greet somebody."""
    return f"hello {name}" * times

def nothing(): say("printed")
def raw(): return b"a\\xff"
def point() -> Point: return Point(1)
def mixed(): return {"path": pathlib.Path("a/b"), "set": {1}, "other": object}
def numbers(default: float = float("nan")):
    return [default, {"a": float("inf"), "b": -float("inf")}, Half(float("nan")), None, "null", "é"]
def one_number() -> float: return float("nan")
def circle():
    items = []
    items.append(items)
    return items
def surrogate(): return "a\\udc80"
def long(): return "é" * 5_000_000
def result(): return ToolResult("text", is_error=True, exit_status=4)
def odd_result(): return ToolResult(3, exit_status="x")
def refuses(): raise ToolError("no such thing; try another")
def fails():
    def inner(): raise ValueError("inside")
    inner()
def deep(): return deep()
def strange():
    class Strange(Exception):
        def __str__(self): raise SystemExit
    raise Strange
def exits(code: object = None): sys.exit(code)
def interrupted(): raise KeyboardInterrupt
def group(): raise ExceptionGroup("several", [ValueError("one"), OSError("two")])

def waits(token: CancelToken):
    say("ready")
    token.wait()
    token.raise_if_cancelled()

def waits_and_tells(token: CancelToken) -> str:
    say("ready")
    token.wait()
    return f"stopped early: {token.reason}"

def sleeps():
    try:
        say("ready")
        time.sleep(1000)
    except Exception:
        return "swallowed"
    finally:
        say(" finally")

async def async_ok(name: str) -> str:
    await asyncio.sleep(0)
    return f"async {name}"

async def async_sleeps():
    try:
        say("ready")
        await asyncio.sleep(1000)
    finally:
        say(" finally")

async def async_tells():
    try:
        say("ready")
        await asyncio.sleep(1000)
    except asyncio.CancelledError:
        return "tidied up"

async def async_busy():
    try:
        say("ready")
        while True: pass
    finally:
        say(" finally")

async def async_cancels_itself():
    asyncio.current_task().cancel()
    await asyncio.sleep(1)

class Tools:
    @staticmethod
    def static(a: int) -> int: return a + 1

@tool(name="other-name")
def named(a: int) -> int: return a
def generator():
    yield 1
not_callable = 3
'''


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "usertools.py").write_text(TOOLS)
    (tmp_path / "badtools.py").write_text("x = 1\nimport no_such_package\n")
    (tmp_path / "exits.py").write_text("import sys\nsys.exit(3)\n")
    (tmp_path / "broken.py").write_text("def f(:\n")
    return tmp_path


def begin(
    name: str, arguments: str = "{}", *, limit: int = 10_000, started: Callable[[], object] = int
) -> WorkerChild:
    module, _, qualname = name.rpartition(":")
    reference = FunctionRef(module or "usertools", qualname)
    if module.endswith(".py"):
        reference = FunctionRef("__main__", qualname, os.path.abspath(module))
    call = Call("id", 0, 0, reference, None, os.getcwd(), {}, limit)

    data = arguments.encode(errors="surrogateescape")

    def function(token: CallToken) -> Result:
        return invoke(call, data, token, started)

    return WorkerChild(function)


def end(child: WorkerChild) -> Result:
    ended = child.ended()
    assert not ended.raised, f"{ended.raised} escaped: {ended.message}"
    return msgspec.convert(ended.value, Result)


def run(name: str, arguments: str = "{}", **more: Any) -> Result:
    with begin(name, arguments, **more) as child:
        return end(child)


@pytest.mark.parametrize(
    ("name", "arguments", "content"),
    [
        ("greet", '{"name": "you", "times": 2}', "hello youhello you"),
        ("nothing", "{}", ""),
        ("raw", "{}", "a�"),
        ("point", "{}", '{"x":1}'),
        ("mixed", "{}", '{"path":"a/b","set":[1],"other":"<class \'object\'>"}'),
        ("numbers", "{}", '[NaN,{"a":Infinity,"b":-Infinity},{"y":NaN},null,"null","é"]'),
        ("one_number", "{}", "NaN"),
        ("circle", "{}", "[[...]]"),
        ("surrogate", "{}", "a\\udc80"),
        ("async_ok", '{"name": "x"}', "async x"),
        ("Tools.static", '{"a": 1}', "2"),
        ("exits", "{}", ""),
        ("sandbox_agent_sandbox.inside.tools.files:list_files", '{"path": "/proc/self/ns"}', None),
    ],
)
def test_what_a_tool_returns_becomes_text(name: str, arguments: str, content: str | None) -> None:
    result = run(name, arguments)
    assert result.kind is ResultKind.OK, result.content
    assert content is None or result.content == content


def test_a_tool_result_is_passed_field_by_field() -> None:
    assert run("result") == Result(ResultKind.ERROR, "text", 4)
    assert run("odd_result") == Result(ResultKind.OK, "3", None)


def test_started_is_said_when_the_arguments_fit_and_before_the_tool_runs() -> None:
    def started() -> None:
        os.write(1, b"started ")

    with begin("nothing", started=started) as child:
        end(child)
        assert child.output == b"started printed"
    not_begun = [
        ("nothing", '{"x": 1}', ResultKind.ERROR),
        ("missing", "{}", ResultKind.UNMADE),
        ("broken:f", "{}", ResultKind.UNMADE),
    ]
    for name, arguments, kind in not_begun:
        with begin(name, arguments, started=started) as child:
            assert end(child).kind is kind
            assert child.output == b""


def test_a_call_whose_flag_is_up_at_the_last_look_is_skipped() -> None:
    def refuse() -> None:
        raise NotStarted

    with begin("nothing", started=refuse) as child:
        assert end(child) == Result(ResultKind.SKIPPED, "")
        assert child.output == b""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            '{"name": 1}',
            "arguments of greet: Expected `str`, got `int` - at `$.name`; "
            "it takes name (required), times",
        ),
        ("{}", "Object missing required field `name`; it takes name (required), times"),
        ('{"name": "", "nmae": ""}', "Object contains unknown field `nmae`; it takes"),
        ('{"name": "x"', "arguments of greet are not valid JSON: Input data was truncated; pass"),
        ('{"name": "\udcff"}', "arguments of greet are not valid JSON: "),
        ('{"name": ' + "[" * 100_000, "arguments of greet"),
        ("null", "Expected `object`, got `null`; it takes name (required), times"),
    ],
)
def test_arguments_that_do_not_fit_are_answered_with_what_would(
    arguments: str, message: str
) -> None:
    result = run("greet", arguments)
    assert result.kind is ResultKind.ERROR
    assert message in result.content


def test_a_tool_without_parameters_says_so() -> None:
    assert run("nothing", '{"a": 1}').content.endswith("it takes none: pass {}")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("refuses", "no such thing; try another"),
        ("exits", None),
        ("missing", "tool usertools:missing cannot be found: module 'usertools' has no attribute"),
        ("grete", "has no attribute 'grete'; did you mean greet?"),
        ("not_callable", "tool usertools:not_callable is a int, not a function"),
        ("no.such:f", "tool no.such:f cannot be imported: there is no module 'no'"),
        ("badtools:f", "there is no module 'no_such_package' ("),
        ("exits:f", "tool exits:f cannot be imported: SystemExit: 3 ("),
        ("broken:f", "tool broken:f cannot be imported: SyntaxError: "),
        ("generator", "generator is a generator"),
        ("f.<locals>.g", "is defined inside a function"),
    ],
)
def test_a_tool_that_cannot_run_says_why_without_a_traceback(
    name: str, content: str | None
) -> None:
    result = run(name)
    assert content is None or content in result.content
    assert (result.kind is ResultKind.OK) == (content is None)
    assert "Traceback" not in result.content


def test_an_exception_is_told_with_the_tools_own_frames_alone() -> None:
    content = run("fails").content
    assert content.startswith("Traceback (most recent call last):")
    assert content.endswith("ValueError: inside")
    assert "usertools.py" in content and "in inner" in content
    assert "sandbox_agent_sandbox" not in content and "worker_child" not in content
    content = run("deep").content
    assert "RecursionError" in content and content.count("\n") < 40
    content = run("async_cancels_itself").content
    assert content.endswith("CancelledError") and "run_async.py" not in content


@pytest.mark.parametrize(
    ("name", "arguments", "content", "status"),
    [
        ("exits", '{"code": 7}', "the tool called sys.exit(7)", 7),
        ("exits", '{"code": "bad luck"}', "bad luck", 1),
        ("exits", '{"code": 99999999999999}', "the tool called sys.exit(99999999999999)", None),
        ("interrupted", "{}", "KeyboardInterrupt", None),
        ("group", "{}", "ValueError: one", None),
        ("strange", "{}", "Strange", None),
    ],
)
def test_no_exception_escapes(name: str, arguments: str, content: str, status: int | None) -> None:
    result = run(name, arguments)
    assert result.kind is ResultKind.ERROR
    assert content in result.content
    assert result.exit_status == status


@pytest.mark.parametrize("limit", [0, 10, 1000, 10**7 - 1])
def test_long_text_keeps_its_head_and_tail_within_the_limit(limit: int) -> None:
    content = run("long", limit=limit).content
    assert len(content.encode()) <= max(limit, 60)
    assert "bytes left out" in content
    if limit == 1000:
        assert content.startswith("éé") and content.endswith("éé")
        count = int(content.split("[... ")[1].split()[0])
        assert (
            count + len(content.replace(f"\n[... {count} bytes left out ...]\n", "")) * 2 == 10**7
        )
    assert truncate("short", 5) == "short"


@pytest.mark.parametrize("terminated", [False, True])
@pytest.mark.parametrize(
    ("name", "kind", "content"),
    [
        ("waits", ResultKind.CANCELLED, "cancelled (interrupt)"),
        ("waits_and_tells", ResultKind.OK, "stopped early: interrupt"),
        ("async_sleeps", ResultKind.CANCELLED, "cancelled (interrupt)"),
        ("async_tells", ResultKind.OK, "tidied up"),
    ],
)
def test_at_the_flag_a_listening_tool_ends(
    name: str, kind: ResultKind, content: str, terminated: bool
) -> None:
    with begin(name) as child:
        child.until(b"ready")
        child.cancel()
        result = end(child)
        if terminated:
            child.terminate()  # too late to change anything
        assert (result.kind, result.content) == (kind, content)
        if name == "async_sleeps":
            assert child.output == b"ready finally"


@pytest.mark.parametrize("name", ["sleeps", "async_sleeps", "async_busy"])
def test_at_sigterm_a_deaf_tool_is_ended_and_its_finally_runs(name: str) -> None:
    with begin(name) as child:
        child.until(b"ready")
        child.cancel()
        child.terminate()
        result = end(child)
        assert result == Result(ResultKind.CANCELLED, "cancelled (interrupt)")
        assert child.output == b"ready finally"


def test_a_wake_up_for_nothing_does_not_cost_an_async_tool_the_flag() -> None:
    with begin("async_sleeps") as child:
        child.until(b"ready")
        child.wake_for_nothing()
        child.cancel()
        assert end(child) == Result(ResultKind.CANCELLED, "cancelled (interrupt)")


def test_a_hung_up_wake_pipe_does_not_cancel_an_async_tool() -> None:
    with begin("async_sleeps") as child:
        child.until(b"ready")
        child.hang_up()
        child.terminate()
        assert end(child).kind is ResultKind.CANCELLED


SCRIPT = """
    import sys
    from dataclasses import dataclass
    import beside
    @dataclass
    class Point:
        x: "int"
    def move(point: Point) -> Point:
        return Point(point.x + beside.STEP)
    if __name__ == "__main__":
        raise AssertionError("the script ran again")
"""


def test_a_function_of_the_running_script_is_found_without_running_it(workspace: Path) -> None:
    folder = workspace / "scripts"
    folder.mkdir()
    (folder / "beside.py").write_text("STEP = 2")
    script = folder / "main.py"
    script.write_text(dedent(SCRIPT))
    result = run("scripts/main.py:move", '{"point": {"x": 1}}')
    assert (result.kind, result.content) == (ResultKind.OK, '{"x":3}')
    script.write_text("import sys\nsys.exit(4)")
    content = run("scripts/main.py:move").content
    assert "SystemExit: 4" in content and "if __name__ == '__main__':" in content


def test_the_working_folder_hides_no_module_of_the_standard_library(workspace: Path) -> None:
    (workspace / "this.py").write_text("raise AssertionError")
    (workspace / "usertools.py").write_text("import this\ndef f(): return 'fine'")
    assert run("f").content == "fine"


@pytest.mark.parametrize("how", ["module", "script"])
@pytest.mark.parametrize("name", ["queue", "json", "msgspec", "sandbox_agent", "sandbox_agent_ipc"])
def test_no_file_of_a_workspace_comes_before_the_standard_library_or_installed_packages(
    workspace: Path, name: str, how: str
) -> None:
    """`json` is a package, `queue` is rarely loaded, and the others are not standard."""
    for file in (f"{name}.py", f"scripts/{name}.py"):
        (workspace / file).parent.mkdir(exist_ok=True)
        (workspace / file).write_text("raise ImportError('planted')")
    code = f"def f():\n    import {name}, own\n    return [{name}.__file__, own.WHERE]\n"
    (workspace / "scripts/own.py").write_text("WHERE = 'beside the script'")
    if how == "module":
        (workspace / "own.py").write_text("WHERE = 'in the workspace'")
        (workspace / "theirs.py").write_text(code)
        result = run("theirs:f")
    else:
        (workspace / "scripts/agent.py").write_text(code)
        result = run("scripts/agent.py:f")
    assert result.kind is ResultKind.OK, result.content
    origin, own = msgspec.json.decode(result.content)
    assert not origin.startswith(str(workspace))
    assert own == ("in the workspace" if how == "module" else "beside the script")


def test_a_tool_whose_module_another_one_hides_is_refused_with_the_reason(workspace: Path) -> None:
    (workspace / "queue.py").write_text("def f(): pass")
    (workspace / "json").mkdir()
    (workspace / "json/tools.py").write_text("def f(): pass")
    for name in ("queue:f", "json.tools:f"):
        result = run(name)
        assert result.kind is ResultKind.UNMADE
        module = name.partition(":")[0].partition(".")[0]
        assert f"{workspace}/{module}" in result.content
        assert f"because {module} of " in result.content
        assert result.content.endswith("give it another name")


def test_a_default_that_json_cannot_say_is_not_shown_as_null() -> None:
    before = list(sys.path)
    try:
        [spec] = describe_all([FunctionRef("usertools", "numbers")])
    finally:
        sys.path[:] = before
        sys.modules.pop("usertools", None)
    assert isinstance(spec, ToolSpec)
    assert "default" not in spec.parameters["properties"]["default"]


def test_describe_all_answers_for_each_in_order() -> None:
    before = list(sys.path)
    try:
        names = ["greet", "generator", "named", "missing"]
        found = describe_all([FunctionRef("usertools", name) for name in names])
    finally:
        sys.path[:] = before
        sys.modules.pop("usertools", None)
    good, generator, named, missing = found
    assert isinstance(good, ToolSpec) and good.description == "Greet somebody."
    assert isinstance(named, ToolSpec) and named.name == "other-name"
    assert isinstance(generator, ToolProblem) and "is a generator" in generator.reason
    assert isinstance(missing, ToolProblem) and missing.function.qualname == "missing"


def test_built_in_functions_are_found_by_reference() -> None:
    from sandbox_agent_sandbox.inside.tools.shell import shell

    assert load(FunctionRef("sandbox_agent_sandbox.inside.tools.shell", "shell")) is shell
