"""One process, held by its pidfd. The only code that signals processes.

The pidfd is the identity of a process. psutil is imported when a call has to be signalled, or when
a tree has to be listed: a command that ends by itself needs none of it, and it takes 10 ms.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from sandbox_agent_sandbox.call_status import END_ORDER
from sandbox_agent_sandbox.host.descriptors import Descriptor
from sandbox_agent_sandbox.host.sandbox_state import ORDER_AGAIN
from sandbox_agent_sandbox.outcome import Survivor

if TYPE_CHECKING:
    import psutil

_EXIT = 0.5
"""Seconds in which a process exits that has nothing else to do, also on a machine that is busy."""

_EXITS = 0.01
"""Seconds in which it exits if nothing stops it, as a rule."""


class Process:
    """A process, held by its pidfd: a reused pid is noticed.

    The pidfd becomes readable when the process has ended. For the init of a pid namespace that is
    when the namespace is empty. pidfd_open(2).
    """

    def __init__(self, pidfd: int) -> None:
        self.pidfd = self._handle = pidfd
        self.pid = _pid_of(pidfd)
        self._process: psutil.Process | None = None

    @classmethod
    def of(cls, descriptors: Sequence[int], mark: int) -> Process:
        """From what came with the message of its birth."""
        return cls(descriptors[0])

    def terminate(self) -> None:
        """SIGTERM, and SIGCONT so that a stopped process can act on it."""
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL."""
        self._signal(signal.SIGKILL)

    def insist(self) -> None:
        """SIGKILL, where `kill` is an order that was not followed in time."""

    def dismiss(self) -> None:
        """Its worker has given its result, so it is about to end by itself: end it now, where that
        is sooner. From any thread."""

    def discard(self) -> None:
        """End what no call has had: it runs nothing of a tool."""
        self.kill()

    def prepare(self) -> None:
        """Import what signals need. A call that is flagged may have to be signalled soon; most end
        by themselves, so the process is looked at when it is signalled."""
        with suppress(ImportError, OSError, MemoryError):
            import psutil  # noqa: F401

    def _signal(self, number: signal.Signals) -> None:
        """By the pidfd: the sandbox's own process is no tool's, and ends with each sandbox."""
        with suppress(OSError):  # it has ended
            signal.pidfd_send_signal(self._handle, number)

    def _signal_known(self, number: signal.Signals) -> None:
        # psutil compares creation times before it signals. Where it cannot look, the pidfd is the
        # only reference that stays right.
        process = self._known()
        if process is not None:
            with suppress(_errors(), OSError):
                process.send_signal(number)
                return
        Process._signal(self, number)

    def _known(self) -> psutil.Process | None:
        """The process as psutil knows it. None if it has ended, if /proc is mounted with hidepid,
        or if the host has no descriptor or memory left to look or to import psutil. Then the pidfd
        alone is used."""
        if self._process is None and self.pid > 0:
            with suppress(ImportError, OSError, MemoryError):
                import psutil

                with suppress(psutil.Error):
                    process = psutil.Process(self.pid)
                    # The pid was this process's at that moment only if it has not ended since:
                    # until then its number is no other's. pidfd_open(2)
                    if not _wait_for(self._handle, 0):
                        self._process = process
        return self._process

    @property
    def has_ended(self) -> bool:
        """Whether its end is proven."""
        return _wait_for(self.pidfd, 0)

    def close(self) -> None:
        """Let go of it."""
        os.close(self.pidfd)

    def kill_and_wait(self, limit: float) -> bool:
        """SIGKILL, and wait at most `limit` seconds. True when the end is proven."""
        self.kill()
        return _wait_for(self.pidfd, limit)

    def kill_tree(self, limit: float) -> None:
        """SIGKILL to the process and all its descendants that /proc shows, and wait for their ends,
        at most `limit` seconds. This is no proof: a process that starts meanwhile is missed."""
        tree: list[psutil.Process] = []
        known = self._known()
        if known is not None:
            with suppress(_errors(), OSError):
                tree = known.children(recursive=True)
        ends = []
        for process in tree:
            with suppress(_errors(), OSError):
                ends.append(os.pidfd_open(process.pid))
        self.kill()
        for process in tree:
            with suppress(_errors(), OSError):
                process.kill()
        deadline = time.monotonic() + limit
        poll = select.poll()
        for end in ends:
            poll.register(end, select.POLLIN)
            poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
            poll.unregister(end)
            os.close(end)

    def survivors(self) -> tuple[Survivor, ...]:
        """Processes of the tree that still exist, after a wait for the proof of its end. Zombies
        are left out: they run and hold nothing. Empty only where `_is_over` is sure of the end."""
        found = self._running()
        if not found and not self._is_over():
            found = (Survivor(self.pid, "(its end is not proven)"),)
        return found

    def _is_over(self) -> bool:
        """Whether an empty list of survivors can be believed."""
        return self.has_ended

    def _running(self) -> tuple[Survivor, ...]:
        found = []
        known = self._known()
        try:
            tree = [known, *known.children(recursive=True)] if known is not None else []
        except OSError:  # no descriptor is left
            return (Survivor(self.pid, "(its processes cannot be listed)"),)
        except _errors():
            tree = []
        for process in tree:
            try:
                if process.status() == _ZOMBIE:
                    continue
                command = " ".join(process.cmdline()) or process.name()
                found.append(Survivor(process.pid, command))
            except (_errors(), OSError):
                continue
        return tuple(found)


class CallInit(Process):
    """The init of a call's pid namespace.

    SIGKILL would end it and then all others, and it could be long before it comes to that: it has
    to give its memory back first, with locks that a storm of forks holds most of the time. So
    `kill` gives it the order to kill the others before. pid_namespaces(7)
    """

    def __init__(self, pidfd: int) -> None:
        super().__init__(pidfd)
        self._held = Descriptor(pidfd)

    def dismiss(self) -> None:
        """SIGKILL: then init gives its memory back while the worker gives back its own, and not
        after it."""
        held = self._held  # held while it is used, see Descriptor
        with suppress(OSError):  # it has ended
            signal.pidfd_send_signal(held.number, signal.SIGKILL)

    def discard(self) -> None:
        """SIGKILL: there is no storm of forks. The pidfd is enough, so psutil is not imported."""
        self.dismiss()

    def close(self) -> None:
        """Let go of it."""
        self._held = Descriptor(-1)

    def kill(self) -> None:
        """The order to end the namespace, and SIGCONT so that a stopped init can follow it."""
        self._signal(END_ORDER)
        self._signal(signal.SIGCONT)

    def insist(self) -> None:
        """SIGKILL: nothing keeps it from that."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        self._signal_known(number)


class Keeper(Process):
    """A call's supervisor, or the spawner, of a sandbox without namespaces.

    Its end proves nothing, and SIGKILL would only make orphans of what it keeps. So `kill` gives it
    the order to end that. `pidfd` becomes readable when nothing of the call is left: it is an
    eventfd, which the supervisor writes to, or the spawner for a supervisor that was killed.

    handle: a pidfd of the keeper. proof: this eventfd; of the spawner, which exits after the
    last call, the same pidfd. mark: of the call's processes, see `tag`.
    """

    def __init__(self, handle: int, proof: int, mark: int) -> None:
        super().__init__(handle)
        self.pidfd = proof
        self._mark = mark

    @classmethod
    def of(cls, descriptors: Sequence[int], mark: int) -> Process:
        """From what came with the message of its birth."""
        proof, handle = descriptors[0], descriptors[-1]
        return cls(handle, proof, mark)

    def kill(self) -> None:
        """The order to end, and SIGCONT so that a stopped keeper can follow it. Of one that was
        killed the marked processes are ended, in case that its spawner was killed with it."""
        self._signal(END_ORDER)
        self._signal(signal.SIGCONT)
        if self._mark and not self.has_ended and _wait_for(self._handle, 0):
            # Imported here: no other sandbox needs it.
            from sandbox_agent_sandbox.inside.unshared.tag import kill_marked, marked

            for pid in marked(self._mark):
                kill_marked(pid, (self._mark,))

    def insist(self) -> None:
        """The order again."""
        self.kill()

    def kill_and_wait(self, limit: float) -> bool:
        """The order to end, now and then, until the end is proven, for at most `limit` seconds.
        Once is not enough: a keeper that is stopped just after it does not follow it."""
        deadline = time.monotonic() + limit
        while True:
            self.kill()
            left = deadline - time.monotonic()
            if _wait_for(self.pidfd, max(0.0, min(left, ORDER_AGAIN))):
                return True
            if left <= ORDER_AGAIN:
                return False

    def _signal(self, number: signal.Signals) -> None:
        if self._mark:
            self._signal_known(number)
        else:  # the spawner
            super()._signal(number)

    def close(self) -> None:
        """Let go of it. A supervisor exits just after it has given the proof: wait for that, so
        that no process is there any more. One that was stopped in between is continued."""
        if self.has_ended and not _wait_for(self._handle, _EXITS):
            Process._signal(self, signal.SIGCONT)
            _wait_for(self._handle, _EXIT)
        for fd in {self.pidfd, self._handle}:
            os.close(fd)

    def _is_over(self) -> bool:
        # Where the spawner was killed as well, nobody is left to give the proof. An empty list is
        # believed then, because every process of the call has the mark, and no tool can remove it.
        return self.has_ended or (bool(self._mark) and _wait_for(self._handle, 0))

    def _running(self) -> tuple[Survivor, ...]:
        """As of any process; if it was killed, what has its mark."""
        from sandbox_agent_sandbox.inside.unshared.tag import marked

        found = super()._running()
        if not found and self._mark:
            found = tuple(Survivor(pid, _command(pid)) for pid in marked(self._mark))
        return found


def _command(pid: int) -> str:
    with suppress(ImportError, OSError):
        import psutil

        with suppress(psutil.Error):
            process = psutil.Process(pid)
            return " ".join(process.cmdline()) or process.name()
    return "(ended meanwhile)"


_ZOMBIE = "zombie"
"""`psutil.STATUS_ZOMBIE`."""


def _errors() -> type[Exception]:
    """The root of psutil's errors, where a process is known to it already."""
    import psutil

    return psutil.Error


def _wait_for(fd: int, limit: float) -> bool:
    """Whether a descriptor is readable within `limit` seconds."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(limit * 1000))


def _pid_of(pidfd: int) -> int:
    """The pid of a pidfd, in this process's pid namespace; -1 when it was reaped, or when no
    descriptor is left."""
    try:
        fd = os.open(f"/proc/self/fdinfo/{pidfd}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1
    try:
        return int(os.read(fd, 4096).partition(b"\nPid:")[2].split(None, 1)[0])
    except (OSError, IndexError):
        return -1
    finally:
        os.close(fd)
