"""What a call's processes inherit from those that they are forked from: little to copy, and a
process in which a tool finds all that it expects of a new Python."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import observer
import pytest
import sandbox_agent  # noqa: F401
from sandbox_agent_sandbox.host.cell import Cell
from sandbox_agent_sandbox.inside.walls.landlock import OLDEST, landlock_abi
from sandbox_agent_sandbox.outcome import CallResult, Outcome
from sandboxes import command, function, run, sandbox, until

NOT_INHERITED = {
    *("threading", "random", "secrets", "pathlib", "dataclasses", "inspect", "typing_extensions"),
    *("ast", "dis", "queue", "hashlib", "urllib", "ipaddress", "fnmatch", "tempfile"),
    *("asyncio", "logging", "concurrent", "subprocess", "platform", "textwrap", "msgspec.inspect"),
    *("sandbox_agent_ipc.board", "sandbox_agent_ipc.after_fork"),
}

OF_THE_FACADE = {f"sandbox_agent.{name}" for name in ("first_imports", "tools", "tools.decorator")}
"""What users' tools import from us is there: each worker would import it anew."""

TOOLS = """
import sys

MODULES = sorted(sys.modules)


def modules() -> list[str]:
    return MODULES


def python() -> dict:
    import os, random, signal, threading

    forked = []
    os.register_at_fork(after_in_child=lambda: forked.append(threading.main_thread().name))
    child = os.fork()
    if child == 0:
        alive = threading.main_thread() is threading.current_thread()
        os._exit(0 if alive and forked == ["MainThread"] and threading.active_count() == 1 else 1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    seen = []
    thread = threading.Thread(target=lambda: seen.append(threading.current_thread().name))
    thread.start()
    thread.join()
    return {
        "main": threading.main_thread() is threading.current_thread(),
        "ident": threading.main_thread().ident == threading.get_ident(),
        "native": threading.main_thread().native_id == os.getpid(),
        "alone": threading.active_count(),
        "thread": len(seen),
        "child": code,
        "random": random.getrandbits(64),
        "sigint": signal.getsignal(signal.SIGINT) is signal.default_int_handler,
        "path": sys.path,
        "environment": dict(os.environ),
    }


def signals() -> dict[str, str]:
    with open("/proc/self/status") as file:
        lines = [line.rstrip() for line in file if line.startswith(("Sig", "Cap"))]
    return dict(line.split(":\t", 1) for line in lines)


def streams() -> dict:
    found = {}
    for name, stream in (("out", sys.stdout), ("err", sys.stderr)):
        print("first", name, file=stream, end="")
        raw = stream.buffer.raw
        found[name] = [
            stream.fileno(), stream.name, stream.mode, stream.encoding, stream.errors,
            stream.line_buffering, stream.seekable(), stream.isatty(), stream.newlines,
            raw.name, raw.mode, raw.closefd, raw.seekable(),
        ]
    found["same"] = sys.stdout is sys.__stdout__ and sys.stderr is sys.__stderr__
    return found


def spoil() -> str:
    import os, signal
    from sandbox_agent_sandbox.inside.worker import environment, invoke
    from sandbox_agent_sandbox.inside.tools import shell

    os.environ["SPOILT"] = "1"
    environment._taken = {}
    invoke._BOUND.clear()
    shell.shell = None
    sys.path.insert(0, "/tmp")
    sys.modules["json"] = None
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    return "spoilt"


def with_typed_dict(x: "Asked") -> str:
    return f"read {x} {'typing_extensions' in sys.modules}"


def with_path(where: "Path", kind: "Annotated[str, 'what']" = "x") -> str:
    return f"{type(where).__name__} {kind}"


from pathlib import Path
from typing import Annotated

from typing_extensions import NotRequired, Required, TypedDict


class Asked(TypedDict, total=False):
    a: Required[int]
    b: NotRequired[str]
"""


@pytest.fixture(params=["full", "shared_proc", "no_namespaces"])
def plan(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param != "full" and landlock_abi() < OLDEST:
        pytest.skip("needs Landlock")
    yield request.param


def outcomes(work: Path, plan: str, *names: str, **arguments: Any) -> list[Any]:
    """What these tools return, one call after another in one sandbox."""
    work.chmod(0o777)
    (work / "wanted.py").write_text(TOOLS)

    async def main() -> list[Any]:
        async with sandbox(work, plan=plan) as cell:
            return [await value(cell, name) for name in names]

    async def value(cell: Cell, name: str) -> Any:
        result = await cell.call(function(work, "wanted", name, arguments))
        assert result.outcome is Outcome.OK, (result.content, result.output, result.detail)
        return json.loads(result.content) if result.content[:1] in "[{" else result.content

    return run(main)


def test_a_worker_has_no_costly_module_before_its_tool(tmp_path: Path, plan: str) -> None:
    [modules] = outcomes(tmp_path, plan, "modules")
    assert "sandbox_agent_sandbox.inside.tools.writing" in modules  # and so no import of the call's
    assert not NOT_INHERITED & set(modules)
    ours = {name for name in modules if name.partition(".")[0] == "sandbox_agent"}
    assert ours == {"sandbox_agent", *OF_THE_FACADE}


def test_a_tool_finds_python_as_in_a_new_process(tmp_path: Path, plan: str) -> None:
    first, second = outcomes(tmp_path, plan, "python", "python")
    assert first["random"] != second["random"]
    for found in (first, second):
        assert (found["main"], found["ident"], found["alone"]) == (True, True, 1)
        assert found["native"] or plan == "shared_proc"
        assert (found["thread"], found["child"], found["sigint"]) == (1, 0, True)
        assert found["path"][-1] == str(tmp_path)
        assert found["environment"]["HOME"]
    del first["random"], second["random"]
    assert first["path"] == second["path"]


def test_a_tool_begins_with_default_dispositions_and_no_capability(
    tmp_path: Path, plan: str
) -> None:
    [found] = outcomes(tmp_path, plan, "signals")
    assert int(found["SigBlk"], 16) == 0
    assert signals_in(found["SigIgn"]) == set()
    assert signals_in(found["SigCgt"]) == {signal.SIGINT, signal.SIGTERM, signal.SIGURG}
    sets = ["CapInh", "CapPrm", "CapEff", "CapAmb"]
    if may_empty_the_bounding_set(plan):
        sets.append("CapBnd")
    assert {found[name] for name in sets} == {"0" * 16}


def signals_in(mask: str) -> set[int]:
    """Without those of the C library: posix_spawn(3) ignores them, and nobody can change that."""
    of_libc = {32, 33}
    return {number for number in range(1, 65) if int(mask, 16) >> (number - 1) & 1} - of_libc


def may_empty_the_bounding_set(plan: str) -> bool:
    """Only who has CAP_SETPCAP may, and without a user namespace that is root."""
    return plan != "no_namespaces" or os.geteuid() == 0


@pytest.mark.parametrize("plan", ["full", "shared_proc"])
def test_what_keeps_a_call_can_gain_no_capability_and_shows_no_environment(
    tmp_path: Path, plan: str
) -> None:
    tmp_path.chmod(0o777)
    secret = "a-value-of-the-policy"

    async def main() -> tuple[dict[str, dict[str, str]], list[bytes]]:
        async with sandbox(
            tmp_path, spares=0, plan=plan, env={"set": {"CONFIDED": secret}}
        ) as cell:
            call = asyncio.create_task(cell.call(command(tmp_path, "touch up; sleep 300")))
            await until((tmp_path / "up").exists)
            # A call's init drops what it has once it has forked the worker.
            await until(lambda: "CapEff:\t" + "0" * 16 in keepers()["sandbox-call"])
            found = keepers()
            environments = [environment_of(pid) for pid in pids_of_keepers()]
            call.cancel()
            await asyncio.wait({call})
            return {name: masks(text) for name, text in found.items()}, environments

    found, environments = run(main)
    assert found["sandbox-call"] == dict.fromkeys(found["sandbox-call"], 0)
    assert found["sandbox-init"]["CapBnd"] == 0
    assert found["sandbox-init"]["CapEff"] != 0  # it makes the namespaces of calls
    assert len(environments) == 2
    assert secret.encode() not in b"".join(environments)


def pids_of_keepers() -> list[int]:
    names = ("sandbox-init", "sandbox-call")
    return [one.pid for one in observer.descendants(os.getpid()) if one.name in names]


def environment_of(pid: int) -> bytes:
    """What /proc shows of it: to an ordinary user nothing."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except PermissionError:
        return b""


def keepers() -> dict[str, str]:
    """/proc/PID/status of a sandbox's init and of its one call's init."""
    texts = [Path(f"/proc/{pid}/status").read_text() for pid in pids_of_keepers()]
    return {text.split()[1]: text for text in texts}


def masks(status: str) -> dict[str, int]:
    lines = [line.split(":\t") for line in status.splitlines() if line.startswith("Cap")]
    return {name: int(value, 16) for name, value in lines}


def test_what_a_call_changes_in_its_worker_does_not_reach_the_next(
    tmp_path: Path, plan: str
) -> None:
    before, _, after, signals_after = outcomes(
        tmp_path, plan, "python", "spoil", "python", "signals"
    )
    del before["random"], after["random"]
    if plan == "no_namespaces":
        for found in (before, after):  # each call may have folders of its own
            del found["environment"]["TMPDIR"], found["environment"]["HOME"]
    assert before == after
    assert signal.SIGUSR1 not in signals_in(signals_after["SigIgn"])


def test_the_variables_of_a_call_are_its_own(tmp_path: Path, plan: str) -> None:
    tmp_path.chmod(0o777)
    show = "echo $ONCE-$LANG-$KEPT"

    async def main() -> list[str]:
        policy = {"env": {"set": {"LANG": "a", "KEPT": "k"}}}
        async with sandbox(tmp_path, plan=plan, **policy) as cell:
            requests = [
                command(tmp_path, show),
                command(tmp_path, show, env={"ONCE": "1", "LANG": "b"}),
                command(tmp_path, show),
            ]
            return [(await cell.call(request)).output for request in requests]

    assert run(main) == ["-a-k\n", "1-b-k\n", "-a-k\n"]


def test_types_of_typing_extensions_are_read_though_msgspec_was_imported_without(
    tmp_path: Path,
) -> None:
    [found] = outcomes(tmp_path, "full", "with_typed_dict", x={"a": 1})
    assert found == "read {'a': 1} True"
    with pytest.raises(AssertionError, match="missing required field `a`"):
        outcomes(tmp_path, "full", "with_typed_dict", x={"b": "text"})


def test_the_streams_of_a_tool_are_those_of_a_pipe_and_its_own(tmp_path: Path, plan: str) -> None:
    tmp_path.chmod(0o777)
    (tmp_path / "wanted.py").write_text(TOOLS)

    async def main() -> list[CallResult]:
        async with sandbox(tmp_path, plan=plan) as cell:
            request = function(tmp_path, "wanted", "streams", {})
            again = function(tmp_path, "wanted", "streams", {})
            return [await cell.call(request), await cell.call(again)]

    for result in run(main):
        assert result.output == "first outfirst err"
        found = json.loads(result.content)
        for fd, name in ((1, "out"), (2, "err")):
            text = [fd, fd, "w", "utf-8", "backslashreplace", True, False, False, None]
            assert found[name] == [*text, fd, "wb", False, False]
        assert found["same"]


def test_a_path_of_a_tool_is_read_though_pathlib_comes_with_the_tool(tmp_path: Path) -> None:
    [found] = outcomes(tmp_path, "full", "with_path", where="/x")
    assert found == "PosixPath x"
