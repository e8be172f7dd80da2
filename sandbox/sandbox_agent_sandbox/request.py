"""The request for one tool call."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from sandbox_agent_ipc.messages import FunctionRef

from sandbox_agent_sandbox.outcome import CallResult

OnOutput = Callable[[str, bytes], object]
"""Called with "stdout" or "stderr" and a piece of output. Returning False (and nothing else) closes
that stream. Returning an asyncio.Future pauses it until the future is done: whoever writes to it is
slowed down."""


class CallRequest(msgspec.Struct, frozen=True):
    """One tool call.

    arguments: a JSON object. cwd: absolute. env: added to the plan's environment. timeout:
    seconds; None for no limit. output_limit: bytes kept, of output and of the result each.
    on_started: called when the tool's code begins to run. on_output: called with the output as it
    comes. Without separate_output all of it is "stdout". Both are called in the event loop, and
    must not block. on_cancelled: called with the result where `Cell.call` does not return it,
    because the awaiting task was cancelled. stdin: a descriptor, open for reading, that the worker
    gets as its standard input; None for /dev/null. It stays the caller's. fresh_view: the call
    finds its home folder, /tmp and /dev/shm as they were when the sandbox began, and shares them
    with no other call.
    """

    id: str
    function: FunctionRef
    arguments: bytes
    cwd: str
    env: dict[str, str] = msgspec.field(default_factory=dict)
    timeout: float | None = None
    output_limit: int = 1 << 20
    on_started: Callable[[], None] = lambda: None
    on_output: OnOutput | None = None
    on_cancelled: Callable[[CallResult], object] = lambda result: None
    separate_output: bool = False
    stdin: int | None = None
    fresh_view: bool = False
