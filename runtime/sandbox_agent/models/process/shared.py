"""One model process for all conversations of a program, while any of them needs it."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

from sandbox_agent_ipc.after_fork import call_after_fork
from sandbox_agent_sandbox.outcome import Survivor

from sandbox_agent.models.process.host import ModelProcess


class _Shared:
    """The model process, and the number of its leases."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.process: ModelProcess | None = None
        self.leases = 0
        call_after_fork(self)

    def after_fork_in_child(self) -> None:
        """Forgets the process: the child has none of its threads, and starts its own."""
        self.lock = threading.Lock()
        self.process, self.leases = None, 0


_shared = _Shared()


class Lease:
    """A share in the model process, which runs while any lease is open. Close it, or use it in a
    `with` block to keep the process warm between conversations."""

    def __init__(self) -> None:
        with _shared.lock:
            if _shared.process is None:
                _shared.process = ModelProcess()
            _shared.leases += 1
            self.process = _shared.process
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
        """Ends the lease; the last one ends the process. Blocks; idempotent."""
        with _shared.lock:
            if self._closed or self.process is not _shared.process:
                return ()
            self._closed = True
            _shared.leases -= 1
            if _shared.leases:
                return ()
            process, _shared.process = self.process, None
        return process.close()
