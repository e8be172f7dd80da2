"""One model process for all conversations of a host process, while any of them needs it."""

from __future__ import annotations

import os
import threading
from types import TracebackType
from typing import Self

from sandbox_agent_sandbox.outcome import Survivor

from sandbox_agent.models.process.host import ModelProcess

_lock = threading.Lock()
_process: ModelProcess | None = None
_leases = 0


class Lease:
    """A share in the model process. Close it, or use it in `with`: while one is held, the process
    stays warm between conversations."""

    def __init__(self) -> None:
        global _process, _leases
        with _lock:
            if _process is None:
                _process = ModelProcess()
            _leases += 1
            self.process = _process
        self._closed = False

    def __enter__(self) -> Self:
        self.process.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> tuple[Survivor, ...]:
        """Give it back; with the last one the process ends. Blocks; idempotent."""
        global _process, _leases
        with _lock:
            if self._closed or self.process is not _process:
                return ()
            self._closed = True
            _leases -= 1
            if _leases:
                return ()
            process, _process = _process, None
        return process.close()


def _forget_in_child() -> None:
    """A forked child has none of the threads: its conversations start a process of their own."""
    global _lock, _process, _leases
    _lock = threading.Lock()
    _process, _leases = None, 0


os.register_at_fork(after_in_child=_forget_in_child)
