"""One call in its worker: find the function, check the arguments, run it, make the Result.

The worker only reports. The host decides the call's outcome.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from types import CoroutineType
from typing import Any

import msgspec
from sandbox_agent_ipc.messages import (
    Call,
    FunctionRef,
    Result,
    ResultKind,
    ToolProblem,
    ToolSpec,
)
from sandbox_agent_ipc.token import CallToken, Cancelled

from sandbox_agent_sandbox.inside.worker.load import LoadError, load
from sandbox_agent_sandbox.inside.worker.result_text import (
    check_size,
    format_error,
    to_tool_result,
    truncate,
)
from sandbox_agent_sandbox.inside.worker.signature import (
    ArgumentsType,
    SignatureError,
    describe,
    read_signature,
)
from sandbox_agent_sandbox.inside.worker.tool_result import (
    CannotStart,
    CommandCancelled,
    FileResult,
    ToolError,
)


class NotStarted(Exception):
    """Raised by the `started` argument of `invoke`: the flag is up, so the tool must not run."""


class _BadArguments(Exception):
    """The model's arguments do not fit. The model reads the message."""


_BOUND: dict[FunctionRef, tuple[Callable[..., Any], ArgumentsType]] = {}
"""Our own tools that were bound before the first call."""


def bind(function: Callable[..., Any]) -> FunctionRef:
    """Read the signature of one of our own tools, once for all workers that come from this process.

    Returns how a call names it.
    """
    reference = FunctionRef(function.__module__, function.__qualname__)
    _BOUND[reference] = function, read_signature(function)
    return reference


def _bound(reference: FunctionRef) -> tuple[Callable[..., Any], ArgumentsType]:
    function = load(reference)
    return function, read_signature(function)


def invoke(call: Call, arguments: bytes, token: CallToken, started: Callable[[], object]) -> Result:
    """Run a call's tool in this thread. Everything that the tool does becomes a Result.

    arguments: a JSON object. started: called when the arguments fit, just before the tool's code.

    SIGTERM's handler may raise Cancelled once, anywhere in here. A second one could escape.
    """
    begun = False
    try:
        function, signature = _BOUND.get(call.function) or _bound(call.function)
        positional, by_name = _read(signature, arguments, token)
        begun = True  # before `started`: a Cancelled in between must not become "skipped"
        started()
        returned = _run(function, positional, by_name, token)
        result = to_tool_result(returned)
        kind = ResultKind.ERROR if result.is_error else ResultKind.OK
        check_size(result.content, call.output_limit)
        text = truncate(result.content, call.output_limit)
        private = returned.private_files if isinstance(returned, FileResult) else ()
        status, used = _status(result.exit_status), os.times()
        return Result(
            kind,
            text,
            status,
            result.images,
            private_files=private,
            cpu_seconds=used.children_user + used.children_system,
        )
    except NotStarted:
        return Result(ResultKind.SKIPPED, "")
    except BaseException as error:
        kind, text, status = _failed(error, begun, token)
        return Result(kind, truncate(text, call.output_limit), status)


def describe_all(functions: Sequence[FunctionRef]) -> list[ToolSpec | ToolProblem]:
    """Each function's description for a model, or why it has none, in the given order."""
    return [_describe(reference) for reference in functions]


def _describe(reference: FunctionRef) -> ToolSpec | ToolProblem:
    try:
        return describe(load(reference), reference)
    except (LoadError, SignatureError) as error:
        return ToolProblem(reference, truncate(str(error), 4096))
    except Exception as error:  # annotations are users' code too
        return ToolProblem(reference, truncate(format_error(error), 4096))


def _read(
    signature: ArgumentsType, arguments: bytes, token: CallToken
) -> tuple[list[Any], dict[str, Any]]:
    try:
        return signature.decode(arguments, token)
    except msgspec.ValidationError as error:
        takes = signature.summary()
        what = f"it takes {takes}" if takes else "it takes none: pass {}"
        raise _BadArguments(f"arguments of {signature.name}: {error}; {what}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _BadArguments(
            f"arguments of {signature.name} are not valid JSON: {error}; pass one JSON object"
        ) from error
    except RecursionError as error:
        raise _BadArguments(f"arguments of {signature.name} are nested too deeply") from error


def _run(
    function: Callable[..., Any], positional: list[Any], by_name: dict[str, Any], token: CallToken
) -> Any:
    value = function(*positional, **by_name)
    if isinstance(value, CoroutineType):
        # Here, since few tools are async: asyncio is the slowest import of a worker.
        from sandbox_agent_sandbox.inside.worker.run_async import run_async

        return run_async(value, token)
    return value


def _failed(
    error: BaseException, begun: bool, token: CallToken
) -> tuple[ResultKind, str, int | None]:
    if isinstance(error, Cancelled):
        if not begun:
            return ResultKind.SKIPPED, "", None
        status = error.exit_status if isinstance(error, CommandCancelled) else None
        return ResultKind.CANCELLED, _text(error), status
    if isinstance(error, LoadError | SignatureError | CannotStart):
        return ResultKind.UNMADE, _text(error), None
    if isinstance(error, ToolError | _BadArguments):
        return ResultKind.ERROR, _text(error), None
    if isinstance(error, SystemExit):
        return _exited(error.code)
    if token.is_cancelled and type(error).__name__ == "CancelledError":
        # asyncio's, recognised by name: importing asyncio would cost more than the call.
        return ResultKind.CANCELLED, f"cancelled ({token.reason})", None
    return ResultKind.ERROR, format_error(error), None


def _exited(code: object) -> tuple[ResultKind, str, int | None]:
    """As the interpreter does for sys.exit(): None is 0, and what is not a number is a message."""
    if code is None or code == 0:
        return ResultKind.OK, "", 0
    if isinstance(code, int):
        return ResultKind.ERROR, f"the tool called sys.exit({code})", _status(code)
    return ResultKind.ERROR, str(code), 1


def _status(status: object) -> int | None:
    """An exit status that the message can carry, or None: a tool may have put anything there."""
    fits = isinstance(status, int) and -(2**31) <= status < 2**32
    return int(status) if fits else None  # type: ignore[call-overload]


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # a tool's own subclass, or a Cancelled with a strange reason
        return type(error).__name__
