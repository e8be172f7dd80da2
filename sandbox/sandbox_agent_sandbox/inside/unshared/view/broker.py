"""What a tool may have of the host's sockets and shared memory, and somebody has to look at first.

Where there is no network namespace, an address decides what a socket reaches, and it lies in the
memory of the tool, which can change it after any look. So it is copied once, and what the tool
asked for is done for it with the copy, on the tool's own socket (pidfd_getfd(2)).

That may wait for the tool: for its memory, or for a server of its own that takes no connection. So
threads do it, and the supervisor itself never waits. Threads and not processes: where Yama is on,
only an ancestor may take a descriptor out of a process. Documentation/admin-guide/LSM/Yama.rst
"""

from __future__ import annotations

import _thread
import errno
import fcntl
import os
import sys
from _queue import SimpleQueue  # not from `queue`, which imports `threading`
from contextlib import suppress

from sandbox_agent_sandbox.inside.unshared.view import notify
from sandbox_agent_sandbox.inside.unshared.view.made import Made
from sandbox_agent_sandbox.inside.unshared.view.notify import Notification
from sandbox_agent_sandbox.inside.unshared.view.shared_files import SharedFiles
from sandbox_agent_sandbox.inside.unshared.view.shared_memory import SharedMemory
from sandbox_agent_sandbox.inside.unshared.view.sockets import Sockets
from sandbox_agent_sandbox.inside.unshared.view.threads import become
from sandbox_agent_sandbox.plan import Plan

MOST_THREADS = 16
"""Each call that waits takes one. Beyond that number, callers get EAGAIN."""

_SWITCH = 0.0005
"""Seconds for which a thread may keep the interpreter from another one. The supervisor's own must
not wait long for its orders, however many calls there are to look at. sys.setswitchinterval()"""


class Broker:
    """Of one call. Belongs to the supervisor's thread.

    listener: of the call's gate. own: the folder of the call's TMPDIR and HOME. ruleset: of
    Landlock, the view of the call's tools; it stays open.
    """

    def __init__(self, listener: int, plan: Plan, own: str, ruleset: int) -> None:
        assert plan.unshared is not None
        self._listener = listener
        self._identity = plan.identity
        self._numbers = frozenset(plan.unshared.looked_at)
        self._sockets = Sockets(listener, plan, own, ruleset)
        self._made = None if plan.unshared.takes else Made(listener)
        self._memory = SharedMemory(listener, plan.private.shared_memory)
        self._files = SharedFiles(listener, plan.identity, own)
        self._waiting: SimpleQueue[Notification] = SimpleQueue()
        self._threads = 0
        self._lock = _thread.allocate_lock()
        self._busy = 0

    def looks_at(self, asked: Notification) -> bool:
        """Whether a call that waits is for the broker to answer."""
        return asked.number in self._numbers

    def take(self, asked: Notification) -> None:
        """Have a thread carry a call out and answer it. Returns at once."""
        if self._files.looks_at(asked):
            self._files.take(asked)
            return
        with self._lock:
            self._busy += 1
            enough = self._busy <= self._threads
        if not enough and not self._start():
            with self._lock:
                self._busy -= 1
            notify.answer(self._listener, asked, error=errno.EAGAIN)
            return
        self._waiting.put(asked)

    def _start(self) -> bool:
        if self._threads >= MOST_THREADS:
            return False
        sys.setswitchinterval(_SWITCH)
        try:
            _thread.start_new_thread(self._main, ())
        except RuntimeError:  # the tools have used up all processes
            return False
        self._threads += 1
        return True

    def _main(self) -> None:
        # As the tools' user, so that what it opens is what they could open.
        failed = False
        try:
            become(self._identity.outside_uid, self._identity.outside_gid)
        except OSError:
            failed = True
        while True:
            asked = self._waiting.get()
            try:
                if failed:
                    notify.answer(self._listener, asked, error=errno.EPERM)
                elif not self._memory.serve(asked):
                    self._serve_descriptor(asked)
            except OSError as error:
                notify.answer(self._listener, asked, error=error.errno or errno.EIO)
            except BaseException:
                notify.answer(self._listener, asked, error=errno.EIO)
            finally:
                with self._lock:
                    self._busy -= 1

    def _serve_descriptor(self, asked: Notification) -> None:
        process = notify.process_of(asked.thread)
        if self._made is not None and asked.number == notify.NUMBERS.get("socket"):
            self._made.make(asked)
            return
        listens = asked.number == notify.NUMBERS.get("listen")
        if self._made is not None and listens and self._made.listens(asked):
            notify.answer(self._listener, asked)
            return
        taken = self._take(asked, process)
        try:
            if asked.number == notify.NUMBERS.get("ioctl"):
                self._open_other_side(asked, taken)
                return
            error = self._sockets.serve(asked, process, taken)
            if self._made is not None and asked.number != notify.NUMBERS.get("bind"):
                self._made.used(taken, listens=listens)
        finally:
            with suppress(OSError):
                os.close(taken)
        notify.answer(self._listener, asked, error=error)

    def _take(self, asked: Notification, process: int) -> int:
        """A copy of the descriptor that a caller has named."""
        if self._made is not None:
            taken = self._made.take(asked)
            if not notify.still_waits(self._listener, asked):
                os.close(taken)
                raise OSError(errno.ESRCH, "the caller has ended")
            return taken
        pidfd = os.pidfd_open(process)
        try:
            # Until here another process could have come by that number.
            if not notify.still_waits(self._listener, asked):
                raise OSError(errno.ESRCH, "the caller has ended")
            return notify.take(pidfd, asked.arguments[0] & 0x7FFFFFFF)
        finally:
            os.close(pidfd)

    def _open_other_side(self, asked: Notification, terminal: int) -> None:
        """Open the other side of a terminal that the caller has made. ioctl_tty(2)"""
        flags = asked.arguments[2] & (os.O_RDWR | os.O_CLOEXEC)
        side = fcntl.ioctl(terminal, notify.TIOCGPTPEER, flags | os.O_NOCTTY)
        try:
            cloexec = bool(flags & os.O_CLOEXEC)
            number = notify.give(self._listener, asked, side, cloexec=cloexec)
        finally:
            os.close(side)
        notify.answer(self._listener, asked, number)
