"""The sandbox of a run of one call. It is built while what else the run needs is imported."""

from __future__ import annotations

from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sandbox_agent_ipc.futures import LoneLoop
from sandbox_agent_ipc.shortage import explained
from sandbox_agent_sandbox.errors import SandboxUnavailable

from sandbox_agent.config.plain import PlainSettings
from sandbox_agent.journal.folder import hidden_from_tools
from sandbox_agent.run.sandbox import ConversationSandbox
from sandbox_agent.run.stop_decision import StopDecision

if TYPE_CHECKING:
    from sandbox_agent_sandbox.host.cell import Cell

    from sandbox_agent.tools.registry import Registry


class Opening:
    """Made, `begin`, `build`, then `finish`; at last `close`.

    settings, task_files: see `ConversationSandbox`. run_dir: the folder of the run. cell: that was
    started before, or None; this closes it.

    host: the sandbox. decision: whether the run is stopped. loop: what the sandbox and its call are
    waited for in.

    Raises ConfigError for a folder that cannot hold a run with this workspace, SandboxUnavailable
    if there are no descriptors left.
    """

    def __init__(
        self, settings: PlainSettings, run_dir: Path, task_files: tuple[str, ...], cell: Cell | None
    ) -> None:
        hidden = hidden_from_tools(run_dir, settings.workspace.path)
        try:
            self.loop = LoneLoop()
        except OSError as error:
            raise SandboxUnavailable(f"the run cannot begin: {explained(error)}") from error
        self.decision = StopDecision(None)
        self.host = ConversationSandbox(settings, tuple(hidden), tuple(map(Path, task_files)))
        if cell is not None:
            self.host.take(cell)
        # A folder that is to be hidden is made if it is not there, and that one the journal makes.
        self._waits_for_journal = run_dir in hidden
        self._work: Coroutine[Any, Any, Registry] | None = None

    def begin(self) -> None:
        """Look through the folders that tools can write, in a thread. The plan is made by it."""
        self.host.begin()

    def build(self) -> None:
        """Make the plan, and have the sandbox built by it: as far as that needs no waiting, which
        `finish` does. What fails, `finish` says, too."""
        # Here, while the folders are looked through.
        from sandbox_agent_sandbox.policy import make_plan, probe  # noqa: F401
        from sandbox_agent_sandbox.policy.kinds import build  # noqa: F401

        self._work = self.host.open(self.decision.token)
        if not self._waits_for_journal:
            self.loop.begin(self._work)
        # Here, while it is built.
        from sandbox_agent_sandbox.protection import guard  # noqa: F401

    def finish(self) -> Registry:
        """Wait until the sandbox is open. Raises what `ConversationSandbox.open` does, and
        LoneCancelled if the run was stopped meanwhile."""
        assert self._work is not None
        return self.loop.run(self._work, lambda: self.decision.token.is_cancelled)

    def close(self) -> None:
        """Take the sandbox down, and wait until nothing is left of it. Idempotent."""
        if self._work is not None:
            self._work.close()
        self.host.close()
        self.loop.close()
