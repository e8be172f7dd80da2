"""What is asked of a sandbox: one tool call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from sandbox_agent_ipc.messages import FunctionRef

OnOutput = Callable[[str, bytes], object]
"""Takes a piece of output. Returns False (nothing else) to hear no more of that stream."""


@dataclass(frozen=True)
class CallRequest:
    """One tool call.

    arguments: a JSON object. cwd: absolute. env: added to the plan's environment. timeout:
    seconds; None for no limit. output_limit: bytes kept, of output and of the result each.
    on_started: the worker has acknowledged. on_output: takes the output as it comes, instead of
    the result; called with "stdout" or "stderr" (with "stdout" only unless separate_output).
    Both are called in the event loop, and must not block.
    """

    id: str
    function: FunctionRef
    arguments: bytes
    cwd: str
    env: dict[str, str] = field(default_factory=dict)
    timeout: float | None = None
    output_limit: int = 1 << 20
    on_started: Callable[[], None] = lambda: None
    on_output: OnOutput | None = None
    separate_output: bool = False
