"""The lines about what a run changed in the workspace. No signal waits for them."""

from __future__ import annotations

import signal
import threading
from concurrent.futures import Future, wait
from pathlib import Path

from sandbox_agent_ipc.shortage import start_thread

from sandbox_agent.cli.signals import Signals
from sandbox_agent.reports.workspace_changes import Snapshot, summary

_LOOK_SECONDS = 0.05


class Changes:
    """What changes in `workspace` from now on. leave_out: files and folders that are not looked at,
    as absolute paths.

    Making it reads the workspace, and the disk may hang. Before a run a signal ends the command
    even so.
    """

    def __init__(self, workspace: Path, *leave_out: Path) -> None:
        self._workspace = workspace.absolute()
        self._leave_out = frozenset(leave_out)
        self._before = self._look()

    def lines(self, signals: Signals, *, hangs: bool = False) -> list[str]:
        """Reads the workspace again, in a thread of its own, which a signal leaves behind. Then the
        only line says so. hangs: the workspace has just not answered, or a signal has ended that.
        """
        if hangs:
            return [_left_out(signals.late or signals.first)]
        after: Future[Snapshot] = Future()

        def look() -> None:
            try:
                after.set_result(self._look())
            except BaseException as error:
                after.set_exception(error)

        try:
            start_thread(threading.Thread(target=look, name="sandbox-agent changes", daemon=True))
        except RuntimeError:  # no thread is left
            look()
        while not wait([after], _LOOK_SECONDS).done:
            if signals.late is not None:
                return [_left_out(signals.late)]
        return summary(self._before, after.result())

    def _look(self) -> Snapshot:
        return Snapshot.take(self._workspace, self._leave_out)


def _left_out(signum: int | None) -> str:
    if signum is None:
        return "the workspace does not answer; changes in it are not listed"
    name = signal.Signals(signum).name
    return f"{name} ended the search for changes in the workspace; none are listed"
