"""Inspect's sandbox interface on a `Sandbox`: evidence that its few methods are enough for it.

`sandbox="sandbox-agent"` in an Inspect task uses it, once this module is imported.
"""

from __future__ import annotations

import errno
import os
import pwd
import tempfile
from collections.abc import Callable
from typing import Any

import file_access
from inspect_ai.util import (
    ExecResult,
    OutputLimitExceededError,
    SandboxEnvironment,
    SandboxEnvironmentLimits,
    SandboxUserUnsupportedError,
    sandboxenv,
)
from sandbox_agent import Outcome, Sandbox

NAME = "sandbox-agent"


@sandboxenv(name=NAME)
class SandboxAgentEnvironment(SandboxEnvironment):
    """One sandbox for each sample, over a folder that is removed with it."""

    @classmethod
    async def sample_init(
        cls, task_name: str, config: Any, metadata: dict[str, str]
    ) -> dict[str, SandboxEnvironment]:
        environment = cls()
        await environment.box.open()
        return {"default": environment}

    @classmethod
    async def sample_cleanup(
        cls,
        task_name: str,
        config: Any,
        environments: dict[str, SandboxEnvironment],
        interrupted: bool,
    ) -> None:
        for environment in environments.values():
            assert isinstance(environment, cls)
            try:
                await environment.box.aclose()
            finally:
                environment.folder.cleanup()

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="inspect-")
        # Inspect has its own limits of time, for a command and for a sample.
        self.box = Sandbox(
            {"limits": {"timeout": None}},
            self.folder.name,
            tools=["shell", file_access.read_file, file_access.write_file],
            interrupt=(0.5, 0.5),
        )

    async def exec(
        self,
        cmd: list[str],
        input: str | bytes | None = None,
        cwd: str | None = None,
        env: dict[str, str] | None = None,
        user: str | None = None,
        timeout: int | None = None,
        timeout_retry: bool = True,
        concurrency: bool = True,
    ) -> ExecResult[str]:
        if user is not None and not _is_the_tools_own(user):
            raise SandboxUserUnsupportedError(f"{user}: commands run as the sandbox's own user")
        output = _Output(SandboxEnvironmentLimits.MAX_EXEC_OUTPUT_SIZE)
        result = await self.box.run(
            cmd, stdin=input, cwd=cwd, env=env, timeout=timeout, on_output=output.take
        )
        stdout, stderr = output.text("stdout"), output.text("stderr")
        if output.is_full:
            raise OutputLimitExceededError(
                SandboxEnvironmentLimits.MAX_EXEC_OUTPUT_SIZE_STR, stdout
            )
        if result.outcome is Outcome.TIMEOUT:
            raise TimeoutError(f"after {timeout} s: {cmd[0]}")
        status = result.exit_status
        if status == 126 and os.strerror(errno.EACCES) in stderr:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), cmd[0])
        if status is None:
            raise RuntimeError(f"{cmd[0]} has no exit status: {result.outcome} {result.detail}")
        code = 128 - status if status < 0 else status  # as a shell tells it
        return ExecResult(code == 0, code, stdout, stderr)

    async def write_file(self, file: str, contents: str | bytes) -> None:
        data = contents.encode() if isinstance(contents, str) else contents
        await self._access(file_access.write_file, file, {"path": file}, stdin=data)

    async def read_file(self, file: str, text: bool = True) -> Any:
        most = SandboxEnvironmentLimits.MAX_READ_FILE_SIZE
        output = _Output(most)
        arguments = {"path": file, "most": most}
        await self._access(file_access.read_file, file, arguments, on_output=output.take)
        data = output.data("stdout")
        return data.decode() if text else data

    async def _access(
        self, function: Callable[..., str], file: str, arguments: dict[str, Any], **options: Any
    ) -> None:
        result = await self.box.call(function, arguments, **options)
        if result.outcome is not Outcome.OK:
            raise RuntimeError(f"{file}: {result.outcome} {result.content or result.detail}")
        if result.content:
            number = int(result.content)
            if number == errno.EFBIG and function is file_access.read_file:
                limit = SandboxEnvironmentLimits.MAX_READ_FILE_SIZE_STR
                raise OutputLimitExceededError(limit, None)
            raise OSError(number, os.strerror(number), file)


class _Output:
    """What a call prints, up to a limit for each stream. Beyond it the streams are closed."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: dict[str, bytearray] = {}
        self.is_full = False

    def take(self, stream: str, data: bytes) -> bool:
        kept = self._kept.setdefault(stream, bytearray())
        room = self._most - len(kept)
        kept += data[:room]
        self.is_full = self.is_full or len(data) > room
        return not self.is_full

    def data(self, stream: str) -> bytes:
        return bytes(self._kept.get(stream, b""))

    def text(self, stream: str) -> str:
        return self.data(stream).decode("utf-8", "replace")


def _is_the_tools_own(user: str) -> bool:
    """Whether this is the account that tools run as: `agent` inside, whose id is this process's,
    or that of the workspace's owner."""
    if user == "agent":
        return True
    try:
        uid = int(user) if user.isdecimal() else pwd.getpwnam(user).pw_uid
    except KeyError:
        return False
    return uid == os.geteuid() != 0
