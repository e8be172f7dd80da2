"""Orders between the host, the spawner and the supervisors: signals, and bytes on a socket.

A signal is an order if the kernel says that the host or the spawner sent it by kill(2) or a pidfd.
Standard signals, for they keep their sender also when no more signals can be queued. sigqueue(3)
"""

from __future__ import annotations

import signal
from collections.abc import Collection
from contextlib import suppress

from sandbox_agent_sandbox.call_status import END_ORDER
from sandbox_agent_sandbox.inside.unshared.kernel import read_signals, signal_descriptor

TERMINATE = signal.SIGTERM
"""To a supervisor: SIGTERM to the whole call, and wait for its end."""

END = END_ORDER

GO, FREEZE, THAW, FROZEN = b"g", b"f", b"t", b"z"
"""From the spawner to a supervisor: start the worker, stop and continue the call's processes. The
last is the answer to the second."""

_BY_KILL = 0
"""SI_USER."""


class Orders:
    """The signals that come from those who may give orders. All signals have to be blocked.

    givers: their pids, as `pid_behind` says.
    """

    def __init__(self, givers: Collection[int]) -> None:
        self._givers = givers
        self.descriptor = signal_descriptor((TERMINATE, END))

    def read(self) -> set[int]:
        """The orders that have come since the last time."""
        return {
            sent.number
            for sent in read_signals(self.descriptor)
            if sent.code == _BY_KILL and sent.sender in self._givers
        }


def send(pidfd: int, order: signal.Signals) -> None:
    """Give an order, also to a process that is stopped. Nothing if it has ended."""
    with suppress(OSError):
        signal.pidfd_send_signal(pidfd, order)
        signal.pidfd_send_signal(pidfd, signal.SIGCONT)


def pid_behind(pidfd: int) -> int:
    """The pid of a pidfd, as a signal names its sender: 0 for one of an outer pid namespace."""
    with open(f"/proc/self/fdinfo/{pidfd}", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Pid:"))
