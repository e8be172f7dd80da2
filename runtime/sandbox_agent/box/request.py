"""From what a program asks of a `Sandbox` to a request for a call. Everything is checked here,
before anything starts."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import msgspec
from sandbox_agent_ipc import memfd
from sandbox_agent_ipc.cancel_shield import CancelShield
from sandbox_agent_ipc.messages import FunctionRef, ToolSpec
from sandbox_agent_ipc.shortage import explained
from sandbox_agent_ipc.token import RunToken
from sandbox_agent_sandbox.errors import SandboxUnavailable
from sandbox_agent_sandbox.plan import Plan
from sandbox_agent_sandbox.policy.fields.explain import suggest
from sandbox_agent_sandbox.policy.fields.units import parse_duration
from sandbox_agent_sandbox.request import OnOutput
from sandbox_agent_sandbox.utf8 import is_utf8

from sandbox_agent.config.functions import FunctionPlace, place_of
from sandbox_agent.embedding.blocking import in_executor
from sandbox_agent.errors import ConfigError
from sandbox_agent.journal.events import ToolEntry
from sandbox_agent.run.call import Request
from sandbox_agent.tools.exec_tool import EXEC
from sandbox_agent.tools.registry import Registry, time_for

if TYPE_CHECKING:
    from sandbox_agent_sandbox.policy.policy import Limits

_LARGE = 1 << 20
"""Bytes of standard input that are written in a thread, because it takes a while."""
_SEALS = memfd.F_SEAL_WRITE | memfd.F_SEAL_GROW | memfd.F_SEAL_SHRINK | memfd.F_SEAL_SEAL


class CallOptions(TypedDict, total=False):
    """How a call is made. Every option may be None, which means that it is not given."""

    stdin: bytes | str | None
    """Its standard input. Without it there is nothing to read."""
    timeout: float | str | None
    """Seconds, or a text such as "2m". Default: `limits.timeout` of the policy, which is also the
    most if the policy sets it."""
    token: RunToken | None
    """When this token is cancelled, the call is stopped."""
    env: Mapping[str, str] | None
    """Variables beside those of the policy."""
    on_started: Callable[[], object] | None
    """Called in the event loop when the function's code, or the command, begins to run. It must not
    block."""
    on_output: OnOutput | None
    """Called in the event loop with "stdout" or "stderr" and each piece of output as it comes.
    Return False to close that stream, or an asyncio.Future to read on when it is done."""
    separate_output: bool | None
    """False to have standard error in `stdout`, in the order in which both were written."""


class RunOptions(CallOptions, total=False):
    """How a program is run."""

    cwd: str | os.PathLike[str] | None
    """The working folder, relative to the workspace. Default: the workspace."""


@dataclass(frozen=True)
class Surroundings:
    """What requests are made from. limits: of the policy."""

    workspace: Path
    limits: Limits
    plan: Plan
    registry: Registry


def of_command(call_id: str, argv: object, options: RunOptions, around: Surroundings) -> Request:
    """The request to run a program. Raises ConfigError, and TypeError for an unknown option."""
    _refuse_unknown(options, RunOptions)
    arguments, limit = {"argv": _argv(argv)}, _limit(options, around.limits)
    request = _request(call_id, "run", EXEC, arguments, limit, options)
    return msgspec.structs.replace(request, cwd=_cwd(options.get("cwd"), around.workspace))


def of_function(
    call_id: str,
    function: object,
    arguments: Mapping[str, Any],
    options: CallOptions,
    around: Surroundings,
) -> Request:
    """The request to call a function. Raises as `of_command`."""
    _refuse_unknown(options, CallOptions)
    tool, reference = find(function, around)
    limit = _limit(options, around.limits)
    if tool is not None:
        limit = time_for(tool, arguments, limit)
    name = tool.spec.name if tool is not None else reference.qualname
    return _request(call_id, name, reference, arguments, limit, options)


def _refuse_unknown(options: CallOptions, known: Any) -> None:
    unknown = options.keys() - (known.__required_keys__ | known.__optional_keys__)
    if unknown:
        raise TypeError(f"an unexpected keyword argument {min(unknown)!r}")


def shown(request: Request, stdin: bytes | None) -> dict[str, Any]:
    """The arguments of a call as its journal has them. Of a command's variables the names only,
    since their values are often secrets, and of its standard input the size."""
    if request.function != EXEC:
        return dict(request.arguments)
    more: dict[str, Any] = {}
    if request.cwd is not None:
        more["cwd"] = request.cwd
    if request.env:
        more["env"] = sorted(request.env)
    if stdin is not None:
        more["stdin_bytes"] = len(stdin)
    return {**request.arguments, **more}


def stdin_of(options: CallOptions) -> bytes | None:
    """The bytes of standard input; None for none. Raises ConfigError."""
    given: object = options.get("stdin")
    if given is None:
        return None
    if isinstance(given, str):
        if not is_utf8(given):
            raise _wrong("stdin", "is not valid Unicode", "give its bytes")
        return given.encode()
    if not isinstance(given, bytes | bytearray | memoryview):
        raise _wrong("stdin", f"must be bytes or text, not {_type(given)}", "read the file first")
    return bytes(given)


@asynccontextmanager
async def file_with(data: bytes | None) -> AsyncIterator[int | None]:
    """A descriptor to read `data` from, closed at the end; None for None.

    In memory, so that nobody has to write while the call reads. Sealed: a tool can open it anew by
    /proc/self/fd/0, and cannot write to it. Raises SandboxUnavailable if there is no room.
    """
    if data is None:
        yield None
        return
    shield = CancelShield()
    try:
        if len(data) < _LARGE:
            fd = _sealed(data)
        else:
            making = in_executor(partial(_sealed, data))
            await shield.wait({making})
            fd = making.result()
    except OSError as error:
        what = f"standard input of {len(data)} bytes cannot be kept: {explained(error)}"
        raise SandboxUnavailable(what) from None
    try:
        shield.raise_cancelled()
        yield fd
    finally:
        os.close(fd)


def _sealed(data: bytes) -> int:
    fd = memfd.create("stdin")
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(data)
        memfd.add_seals(fd, _SEALS)
        os.lseek(fd, 0, os.SEEK_SET)
    except BaseException:
        os.close(fd)
        raise
    return fd


def find(function: object, around: Surroundings) -> tuple[ToolEntry | None, FunctionRef]:
    """The tool that a program names, if it is one of the sandbox's, and its function."""
    tools = around.registry.tools
    if isinstance(function, str):
        tool = around.registry.get(function)
        if tool is not None:
            return tool, tool.spec.function
        module, colon, qualname = function.partition(":")
        if colon and module and qualname:
            return _entry(tools, FunctionRef(module, qualname))
        known = [tool.spec.name for tool in tools]
        hint = suggest(function, known) or "write package.module:function, or give the function"
        raise _wrong("function", f"there is no tool {function!r}", hint)
    if isinstance(function, ToolSpec):
        return _entry(tools, function.function)
    if not callable(function):
        what = f"{function!r} is no function"
        raise _wrong("function", what, "give a function, its name, or the name of a tool")
    try:
        place = place_of(function)
    except ValueError as error:
        raise _wrong("function", str(error), None) from None
    found = _entry(tools, place.function)
    if found[0] is None and not _is_visible(place, around):
        raise _wrong(
            "function",
            f"{place} lies in {place.root}, which this sandbox does not show",
            "name the function in tools= when you make the Sandbox",
        )
    return found


def _entry(
    tools: Sequence[ToolEntry], reference: FunctionRef
) -> tuple[ToolEntry | None, FunctionRef]:
    tool = next((tool for tool in tools if tool.spec.function == reference), None)
    return tool, reference


def _is_visible(place: FunctionPlace, around: Surroundings) -> bool:
    """Whether a worker can find a function's module. If in doubt, the worker says so."""
    if place.root is None:
        return True
    root = Path(os.path.realpath(place.function.file or place.root))
    folders = [os.path.realpath(entry) for entry in around.plan.import_path]
    folders.append(os.path.realpath(around.workspace))
    return any(root == Path(folder) or Path(folder) in root.parents for folder in folders)


def _request(
    call_id: str,
    tool: str,
    function: FunctionRef,
    arguments: Mapping[str, Any],
    timeout: float | None,
    options: CallOptions,
) -> Request:
    token: object = options.get("token")
    if token is not None and not isinstance(token, RunToken):
        raise _wrong("token", f"must be a RunToken, not {_type(token)}", "make one: RunToken()")
    separate: object = options.get("separate_output")
    if separate is not None and not isinstance(separate, bool):
        raise _wrong("separate_output", f"must be True or False, not {separate!r}", "write one")
    listener: Callable[[str, bytes], object] | None = options.get("on_output")
    begun = options.get("on_started")
    for name, callback in (("on_output", listener), ("on_started", begun)):
        if callback is not None and not callable(callback):
            raise _wrong(name, f"{callback!r} cannot be called", "give a function, or None")
    return Request(
        id=call_id,
        tool=tool,
        function=function,
        arguments=arguments,
        timeout=timeout,
        env=_env(options.get("env")),
        on_started=begun,
        on_output=None if listener is None else lambda _, stream, data: listener(stream, data),
        separate_output=True if separate is None else separate,
    )


def _argv(given: object) -> list[str]:
    if isinstance(given, str | bytes) or not isinstance(given, Sequence):
        what = f"must be a list such as ['pytest', '-q'], not {_type(given)}"
        raise _wrong("argv", what, "for a line of shell, run ['bash', '-c', LINE]")
    words = []
    for place, word in enumerate(given):
        with suppress(TypeError, UnicodeError):
            text = os.fspath(word)
            text = text.decode() if isinstance(text, bytes) else text
            if is_utf8(text) and "\0" not in text:
                words.append(text)
                continue
        what = f"{word!r} is no argument: it is no text in UTF-8, or has a NUL byte"
        raise _wrong(f"argv[{place}]", what, "write a str")
    if not words or not words[0]:
        raise _wrong("argv", "names no program", "its first item is the program")
    return words


def _limit(options: CallOptions, limits: Limits) -> float | None:
    given = options.get("timeout")
    if given is None:
        return limits.timeout
    try:
        seconds = parse_duration(given)
    except ValueError as error:
        raise _wrong("timeout", str(error), None) from None
    if seconds <= 0:
        raise _wrong("timeout", "must be more than 0", "leave it out for the policy's limit")
    most = limits.timeout if "timeout" in limits.model_fields_set else None
    if most is not None and seconds > most:
        what = f"{seconds:g} s is more than the policy allows: {most:g} s"
        raise _wrong("timeout", what, "raise limits.timeout of the policy")
    return seconds


def _cwd(given: str | os.PathLike[str] | None, workspace: Path) -> str | None:
    if given is None:
        return None
    folder: object = os.fspath(given)
    if not isinstance(folder, str) or not folder or "\0" in folder or not is_utf8(folder):
        raise _wrong("cwd", f"{folder!r} is no path", "write the path of a folder, in UTF-8")
    return os.path.join(workspace, folder)


def _env(given: Mapping[str, str] | None) -> dict[str, str]:
    env: dict[str, str] = {}
    for name, value in (given or {}).items():
        texts = isinstance(name, str) and isinstance(value, str)
        if not texts or not name or "=" in name or "\0" in name + value:
            raise _wrong("env", f"{name!r} is no variable with a text", "write {'NAME': 'value'}")
        if not is_utf8(name + value):
            raise _wrong("env", f"{name!r} is not UTF-8", "encode it in UTF-8")
        env[name] = value
    return env


def _wrong(field: str, what: str, hint: str | None) -> ConfigError:
    return ConfigError(what, field=field, hint=hint)


def _type(value: object) -> str:
    return type(value).__name__
