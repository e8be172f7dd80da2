"""What a tool may return or raise when plain text is not enough."""

from __future__ import annotations

import errno

import msgspec
from sandbox_agent_ipc.cancel_reason import CancelReason
from sandbox_agent_ipc.messages import Image as Image
from sandbox_agent_ipc.shortage import shortage_of
from sandbox_agent_ipc.token import Cancelled

from sandbox_agent_sandbox.errors import SandboxError


class ToolResult(msgspec.Struct, frozen=True):
    """A tool's result when text alone is not enough.

    content: what the model reads. is_error: the tool failed, and the model reads that it did.
    exit_status: of the command that the tool ran; negative is the signal, as in `subprocess`.
    images: for models that can see: PNG, JPEG, GIF or WebP, at most 8, of 1 MiB together.
    """

    content: str
    is_error: bool = False
    exit_status: int | None = None
    images: tuple[Image, ...] = ()


class FileResult(ToolResult, frozen=True):
    """The result of one of our tools that wrote files.

    private_files: those in a place of the sandbox's own, which are lost with it.
    """

    private_files: tuple[str, ...] = ()


class ToolError(SandboxError):
    """An expected failure of a tool: the model reads the message, and no traceback."""


class CannotStart(ToolError):
    """A command could not be started, because the host or a limit has no room for it."""

    def __init__(self, program: str, error: OSError) -> None:
        super().__init__(f"{program} cannot be started: {why_short(error) or error}")


def why_short(error: BaseException) -> str | None:
    """What has run out in here, and what to do about it; None if nothing has."""
    short = shortage_of(error)
    if short is None:
        return None
    number = errno.ENOMEM if isinstance(error, MemoryError) else getattr(error, "errno", None)
    limit = _LIMITS.get(number or 0)
    return f"{short}, or sandbox.limits.{limit} of the policy" if limit else str(short)


_LIMITS = {errno.EAGAIN: "processes", errno.ENOMEM: "memory", errno.EMFILE: "open_files"}
"""The policy's limit that may have struck, by errno."""


class CommandCancelled(Cancelled):
    """SIGTERM came while a command ran, and the command has ended since.

    exit_status: of the command, from waitpid(2); negative is the signal.
    """

    def __init__(self, reason: CancelReason, exit_status: int) -> None:
        super().__init__(reason)
        self.exit_status = exit_status


def encode_argument(name: str, text: str) -> bytes:
    """A tool's text argument as UTF-8. Raises ToolError for lone surrogates."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ToolError(f"{name} is not valid Unicode at offset {error.start}") from error
