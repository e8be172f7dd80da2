"""The gate: system calls of tools that wait for their supervisor's answer. seccomp_unotify(2)

What the broker carries out passes it. Where Landlock cannot scope signals (before Linux 6.12), each
signal passes it too, and must be for a process of the call. Where neither is, there is no gate.

Forks do not pass it: while a call waits to be heard, a signal with a handler ends it with EINTR,
which programs do not expect of fork(2). dash said "Cannot fork" at each SIGCHLD. So a storm of
short-lived processes is not refused; without a scope it is ended by the rounds alone.

A number may be another process's a moment after the look. So the supervisor sends a signal itself,
by a pidfd that it has opened before the look; the receiver sees it as the sender. A call goes on
only where the kernel looks again: at what is the caller's own, at a group, whose members are all of
one session, and, by Landlock, at ptrace(2) and its like. sigqueue(3) to others is refused: what it
sends along lies in the memory of the tool.

The supervisor never waits for a tool, and reads no memory of one.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import signal
import socket
import struct
from collections.abc import Collection

from sandbox_agent_sandbox.inside.kernel import syscalls
from sandbox_agent_sandbox.inside.unshared.kernel import filter_with_listener, signal_thread
from sandbox_agent_sandbox.inside.unshared.reach import below, is_below, send_below
from sandbox_agent_sandbox.inside.unshared.view import notify, shared_files
from sandbox_agent_sandbox.inside.unshared.view.broker import Broker
from sandbox_agent_sandbox.inside.unshared.view.notify import Notification

_X86_64 = {
    "kill": 62, "ptrace": 101, "rt_sigqueueinfo": 129, "tkill": 200, "tgkill": 234,
    "rt_tgsigqueueinfo": 297, "process_vm_readv": 310, "process_vm_writev": 311,
    "pidfd_send_signal": 424, "pidfd_getfd": 438,
}  # fmt: skip
_AARCH64 = {
    "ptrace": 117, "kill": 129, "tkill": 130, "tgkill": 131, "rt_sigqueueinfo": 138,
    "rt_tgsigqueueinfo": 240, "process_vm_readv": 270, "process_vm_writev": 271,
    "pidfd_send_signal": 424, "pidfd_getfd": 438,
}  # fmt: skip
_NUMBERS = {"x86_64": _X86_64, "aarch64": _AARCH64}.get(os.uname().machine, {})

_KILL, _TKILL = _NUMBERS.get("kill", -1), _NUMBERS.get("tkill", -1)
_PTRACE, _BY_PIDFD = _NUMBERS.get("ptrace", -1), _NUMBERS.get("pidfd_send_signal", -1)
_GETFD, _TGKILL = _NUMBERS.get("pidfd_getfd", -1), _NUMBERS.get("tgkill", -1)
_QUEUED = (_NUMBERS.get("rt_sigqueueinfo", -1), _NUMBERS.get("rt_tgsigqueueinfo", -1))
_LAST_SIGNAL = 64
_SIGNALS = frozenset(_NUMBERS.values())
_ATTACH, _SEIZE = 16, 0x4206
"""PTRACE_ATTACH, PTRACE_SEIZE. All other requests are about tracees."""

_LOAD, _AND, _JUMP_EQUAL, _RETURN = 0x20, 0x54, 0x15, 0x06
"""BPF_LD|W|ABS, BPF_ALU|AND|K, BPF_JMP|JEQ|K, BPF_RET|K."""
_ALLOW, _NOTIFY = 0x7FFF0000, 0x7FC00000
_NUMBER, _FIRST_ARGUMENT, _SECOND_ARGUMENT = 0, 16, 24
"""Offsets in struct seccomp_data."""


def gate_program(*, signals: bool, others: Collection[int] = ()) -> bytes:
    """The filter that makes calls wait, as `struct sock_filter`s. The plan's own filter comes on
    top, and refuses what it refuses: of two answers the stricter one counts. seccomp(2)

    signals: signals and the like. others: further numbers. b"" where there is nothing to wait for.
    """
    numbers = {*(_SIGNALS if signals else ()), *others}
    if not numbers:
        return b""
    code = [(_LOAD, 0, 0, _NUMBER)]
    for number in sorted(numbers):
        if number == _KILL:
            # kill(0) is for the caller's own group, and the worker's session is the call's alone.
            code += [(_JUMP_EQUAL, 0, 4, number), (_LOAD, 0, 0, _FIRST_ARGUMENT)]
            code += [(_JUMP_EQUAL, 0, 1, 0), (_RETURN, 0, 0, _ALLOW)]
        elif number == notify.NUMBERS.get("ioctl"):
            code += [(_JUMP_EQUAL, 0, 4, number), (_LOAD, 0, 0, _SECOND_ARGUMENT)]
            code += [(_JUMP_EQUAL, 1, 0, notify.TIOCGPTPEER), (_RETURN, 0, 0, _ALLOW)]
        elif number in shared_files.FLAGS_AT:
            code += _openings(number)
        else:
            code.append((_JUMP_EQUAL, 0, 1, number))
        code.append((_RETURN, 0, 0, _NOTIFY))
    code.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("=HBBI", *one) for one in code)


def _openings(number: int) -> list[tuple[int, int, int, int]]:
    """Only with the flags that sem_open(3) and shm_open(3) use: a call that waits takes its time,
    and a signal can end it."""
    at = _FIRST_ARGUMENT + 8 * shared_files.FLAGS_AT[number]
    (mask, value), (other_mask, other_value) = shared_files.FLAGS
    code = [(_JUMP_EQUAL, 0, 8, number)]
    code += [(_LOAD, 0, 0, at), (_AND, 0, 0, mask), (_JUMP_EQUAL, 4, 0, value)]
    code += [(_LOAD, 0, 0, at), (_AND, 0, 0, other_mask), (_JUMP_EQUAL, 1, 0, other_value)]
    return [*code, (_RETURN, 0, 0, _ALLOW)]


def shut_behind(program: bytes, supervisor: socket.socket) -> bool:
    """Load the filter in this process, and send the supervisor what hears of its calls. Whether
    that can be: a sandbox inside another one of this kind has no gate of its own (EBUSY), nor has
    one on a kernel before Linux 5.0 (ENOSYS). Nothing has to be done for an empty program.

    Needs no_new_privs. Closes the socket.
    """
    with supervisor:
        if not program:
            return True
        if not _NUMBERS:
            return False
        kept = syscalls.Filter(program)  # the kernel reads it from the memory of this object
        try:
            listener = filter_with_listener(kept.address)
        except OSError as error:
            if error.errno in (errno.EBUSY, errno.ENOSYS):
                return False
            raise
        socket.send_fds(supervisor, [b"x"], [listener])
        os.close(listener)
    return True


class Gate:
    """The supervisor's side.

    listener: what `shut_behind` has sent. kept: processes of the call that tools must not signal.
    broker: for the calls that are no signals.
    """

    def __init__(self, listener: int, kept: Collection[int], broker: Broker | None) -> None:
        self.listener = listener
        notify.wake_at_once(listener)
        self._kept = kept
        self._broker = broker
        self._poll = select.poll()
        self._poll.register(listener, select.POLLIN)

    def serve(self) -> bool:
        """Answer a call that waits, if there is one. False once no process is left behind the gate.

        Before Linux 6.11 to receive blocks for ever where nobody is left: so poll(2) is asked, of
        which both are known. A caller that ends after this look has been counted.
        """
        events = dict(self._poll.poll(0)).get(self.listener, 0)
        if not events & select.POLLIN:
            return not events
        try:
            asked = notify.receive(self.listener)
        except OSError as error:
            return error.errno == errno.ENOENT  # the caller has ended meanwhile
        if self._broker is not None and self._broker.looks_at(asked):
            self._broker.take(asked)
            return True
        verdict = self._judge(asked)
        if verdict is None:
            notify.let_through(self.listener, asked)
        else:
            notify.answer(self.listener, asked, error=verdict)
        return True

    def _judge(self, asked: Notification) -> int | None:
        """None to let the call go on, 0 if it is done, or the errno."""
        first = ctypes.c_int(asked.arguments[0] & 0xFFFFFFFF).value
        if asked.number == _KILL and first < 0:
            return self._judge_group(asked, first)
        if asked.number == _BY_PIDFD:
            return errno.ENOSYS  # the descriptor may mean another process after the look
        if asked.number == _GETFD:
            return errno.EPERM
        if asked.number == _PTRACE:
            if asked.arguments[0] not in (_ATTACH, _SEIZE):
                return None
            first = ctypes.c_int(asked.arguments[1] & 0xFFFFFFFF).value
        process = notify.process_of(first)
        if process == notify.process_of(asked.thread) and asked.number != _TKILL:
            return None
        if asked.number in (_KILL, _TKILL, _TGKILL):
            return self._send(asked, process)
        allowed = process not in self._kept and is_below(process, os.getpid())
        return errno.EPERM if asked.number in _QUEUED or not allowed else None

    def _send(self, asked: Notification, process: int) -> int:
        """Send a signal in the place of the caller. Returns the errno for it, or 0."""
        thread, number = asked.arguments[0], asked.arguments[1]
        if asked.number == _TGKILL:
            thread, number = asked.arguments[1], asked.arguments[2]
        thread, number = (ctypes.c_int(one & 0xFFFFFFFF).value for one in (thread, number))
        if not 0 <= number <= _LAST_SIGNAL:
            return errno.EINVAL
        try:
            pidfd = os.pidfd_open(process)
        except OSError:  # process_of: -1 for one that has ended
            return errno.ESRCH
        try:
            if process in self._kept or not is_below(process, os.getpid()):
                return errno.EPERM
            if asked.number == _KILL or thread == process:
                signal.pidfd_send_signal(pidfd, number)
            else:
                # Another process with this number would have to have this thread, too.
                signal_thread(process, thread, number)
        except OSError as error:
            return error.errno or errno.ESRCH
        finally:
            os.close(pidfd)
        return 0

    def _judge_group(self, asked: Notification, first: int) -> int | None:
        members = [pid for pid in below(os.getpid()) if pid not in self._kept]
        if first == -1:  # the kernel would reach all processes of the user
            caller = notify.process_of(asked.thread)
            number = ctypes.c_int(asked.arguments[1] & 0xFFFFFFFF).value
            if number not in (0, *signal.valid_signals()):
                return errno.EINVAL
            for pid in members:
                if pid != caller and number:
                    send_below(pid, signal.Signals(number))
            return 0
        if -first == os.getpgrp():
            return errno.EPERM
        return None if any(_group_of(pid) == -first for pid in members) else errno.EPERM


def _group_of(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except OSError:
        return -1
