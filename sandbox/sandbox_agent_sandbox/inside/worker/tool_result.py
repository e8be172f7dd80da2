"""What a tool may return or raise when plain text is not enough."""

from __future__ import annotations

import msgspec
from sandbox_agent_ipc.cancel_reason import CancelReason
from sandbox_agent_ipc.messages import Image as Image
from sandbox_agent_ipc.token import Cancelled

from sandbox_agent_sandbox.errors import SandboxError


class ToolResult(msgspec.Struct, frozen=True):
    """A tool's answer with more than text.

    content: what the model reads. is_error: the tool reports failure; the model is told so.
    exit_status: of the command that the tool ran; negative is the signal, as in `subprocess`.
    images: for the model to look at, where it can: PNG, JPEG, GIF or WebP, 8 and 1 MiB at most.
    """

    content: str
    is_error: bool = False
    exit_status: int | None = None
    images: tuple[Image, ...] = ()


class ToolError(SandboxError):
    """A tool's own, expected failure: the model is given the message alone, no traceback."""


class CommandCancelled(Cancelled):
    """SIGTERM came while a command ran, and the command has ended since.

    exit_status: what waitpid(2) said of it; negative is the signal.
    """

    def __init__(self, reason: CancelReason, exit_status: int) -> None:
        super().__init__(reason)
        self.exit_status = exit_status
