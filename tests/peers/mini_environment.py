"""mini-swe-agent's environment on a `Sandbox`: evidence that its blocking form is enough for it.

Its configuration, template variables and rule for the end of a task are its own local
environment's. Only how a command runs differs.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from typing import Any

from minisweagent.environments.local import LocalEnvironment
from sandbox_agent import Outcome, Sandbox


class SandboxAgentEnvironment(LocalEnvironment):  # type: ignore[misc]
    """Runs each command in a sandbox over its working folder. Close it, or use it in `with`.

    inherit: names of variables of this process that commands get. The others are not passed on:
    some hold keys.
    """

    def __init__(self, *, inherit: Sequence[str] = (), **options: Any) -> None:
        super().__init__(**options)
        self._inherit = tuple(inherit)
        self._boxes: dict[str, Any] = {}

    def execute(
        self, action: dict[str, Any], cwd: str = "", *, timeout: int | None = None
    ) -> dict[str, Any]:
        command = action.get("command", "")
        try:
            output = self._run(command, cwd or self.config.cwd or os.getcwd(), timeout)
        except Exception as error:
            printed = getattr(error, "output", None) or b""
            output = {
                "output": printed.decode("utf-8", "replace"),
                "returncode": -1,
                "exception_info": f"An error occurred while executing the command: {error}",
                "extra": {"exception_type": type(error).__name__, "exception": str(error)},
            }
        self._check_finished(output)
        return output

    def _run(self, command: str, cwd: str, timeout: int | None) -> dict[str, Any]:
        limit = timeout or self.config.timeout
        passed = {name: os.environ[name] for name in self._inherit if name in os.environ}
        result = self._box(cwd).run(
            ["bash", "-c", command],
            env={**passed, **self.config.env},
            timeout=limit,
            separate_output=False,
        )
        if result.outcome is Outcome.TIMEOUT:
            raise subprocess.TimeoutExpired(command, limit, output=result.stdout)
        if result.exit_status is None:
            raise RuntimeError(f"no exit status: {result.outcome} {result.detail}")
        return {
            "output": result.stdout_text,
            "returncode": result.exit_status,
            "exception_info": "",
        }

    def _box(self, folder: str) -> Any:
        """The sandbox over this folder, opened when it is first needed."""
        if folder not in self._boxes:
            box = Sandbox({"limits": {"timeout": None}}, folder, interrupt=(0.5, 0.5))
            self._boxes[folder] = box.open_blocking()
        return self._boxes[folder]

    def close(self) -> None:
        """Takes the sandboxes down."""
        while self._boxes:
            self._boxes.popitem()[1].close()

    def __enter__(self) -> SandboxAgentEnvironment:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
