"""The gate: system calls of tools that wait for their supervisor's answer. seccomp_unotify(2)

Every fork passes it. When the call's end has begun, forks are refused, so that a storm of short
lived processes runs dry. When the supervisor is gone, the kernel refuses them: what it has left can
be counted. Where Landlock cannot scope signals (before Linux 6.12), each signal passes it too, and
must be for a process of the call.

To let a call go on after a look is safe here for two reasons. Arguments that are numbers were
copied before the look. And the pids that have to be guarded, those of the keepers, cannot become
free meanwhile. A pid that becomes free and is another's a moment later is what remains.

The supervisor never waits for a tool, and reads no memory of one.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import signal
import socket
import struct
import time
from collections.abc import Collection
from math import inf

from sandbox_agent_sandbox.inside.kernel import syscalls
from sandbox_agent_sandbox.inside.unshared.kernel import filter_with_listener
from sandbox_agent_sandbox.inside.unshared.reach import below, is_below, send_below
from sandbox_agent_sandbox.inside.unshared.view import notify
from sandbox_agent_sandbox.inside.unshared.view.broker import Broker
from sandbox_agent_sandbox.inside.unshared.view.notify import Notification

_X86_64 = {
    "clone": 56, "fork": 57, "vfork": 58, "kill": 62, "ptrace": 101, "rt_sigqueueinfo": 129,
    "tkill": 200, "tgkill": 234, "rt_tgsigqueueinfo": 297, "process_vm_readv": 310,
    "process_vm_writev": 311, "pidfd_send_signal": 424, "pidfd_getfd": 438,
}  # fmt: skip
_AARCH64 = {
    "ptrace": 117, "kill": 129, "tkill": 130, "tgkill": 131, "rt_sigqueueinfo": 138, "clone": 220,
    "rt_tgsigqueueinfo": 240, "process_vm_readv": 270, "process_vm_writev": 271,
    "pidfd_send_signal": 424, "pidfd_getfd": 438,
}  # fmt: skip
_NUMBERS = {"x86_64": _X86_64, "aarch64": _AARCH64}.get(platform.machine(), {})

_FORKS = frozenset(_NUMBERS[name] for name in ("clone", "fork", "vfork") if name in _NUMBERS)
_KILL, _TKILL = _NUMBERS.get("kill", -1), _NUMBERS.get("tkill", -1)
_PTRACE, _BY_PIDFD = _NUMBERS.get("ptrace", -1), _NUMBERS.get("pidfd_send_signal", -1)
_GETFD = _NUMBERS.get("pidfd_getfd", -1)
_SIGNALS = frozenset(_NUMBERS.values()) - _FORKS
_CLONE_THREAD = 0x10000
_ATTACH, _SEIZE = 16, 0x4206
"""PTRACE_ATTACH, PTRACE_SEIZE. All other requests are about tracees."""

_SHARE = 10
"""Looks at a call with as many processes as it may have take one part in so many of the time."""

_LOAD, _JUMP_EQUAL, _JUMP_BITS, _RETURN = 0x20, 0x15, 0x45, 0x06
"""BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_JMP|JSET|K, BPF_RET|K."""
_ALLOW, _NOTIFY = 0x7FFF0000, 0x7FC00000
_NUMBER, _FIRST_ARGUMENT, _SECOND_ARGUMENT = 0, 16, 24
"""Offsets in struct seccomp_data."""


def gate_program(*, signals: bool, others: Collection[int] = ()) -> bytes:
    """The filter that makes calls wait, as `struct sock_filter`s. The plan's own filter comes on
    top, and refuses what it refuses: of two answers the stricter one counts. seccomp(2)

    signals: signals and the like, too. others: further numbers.
    """
    code = [(_LOAD, 0, 0, _NUMBER)]
    for number in sorted({*_FORKS, *(_SIGNALS if signals else ()), *others}):
        if number == _NUMBERS.get("clone"):
            # A thread ends with its process, and needs no look.
            code += [(_JUMP_EQUAL, 0, 4, number), (_LOAD, 0, 0, _FIRST_ARGUMENT)]
            code += [(_JUMP_BITS, 0, 1, _CLONE_THREAD), (_RETURN, 0, 0, _ALLOW)]
        elif number == _KILL:
            # kill(0) is for the caller's own group, and the worker's session is the call's alone.
            code += [(_JUMP_EQUAL, 0, 4, number), (_LOAD, 0, 0, _FIRST_ARGUMENT)]
            code += [(_JUMP_EQUAL, 0, 1, 0), (_RETURN, 0, 0, _ALLOW)]
        elif number == notify.NUMBERS["ioctl"]:
            code += [(_JUMP_EQUAL, 0, 4, number), (_LOAD, 0, 0, _SECOND_ARGUMENT)]
            code += [(_JUMP_EQUAL, 1, 0, notify.TIOCGPTPEER), (_RETURN, 0, 0, _ALLOW)]
        else:
            code.append((_JUMP_EQUAL, 0, 1, number))
        code.append((_RETURN, 0, 0, _NOTIFY))
    code.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("=HBBI", *one) for one in code)


def shut_behind(program: bytes, supervisor: socket.socket) -> bool:
    """Load the filter in this process, and send the supervisor what hears of its calls. Whether
    that can be: a sandbox inside another one of this kind has no gate of its own (EBUSY), nor has
    one on a kernel before Linux 5.0 (ENOSYS).

    Needs no_new_privs. Closes the socket.
    """
    with supervisor:
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
    broker: for the calls that are neither forks nor signals. most: processes that the call may
    have, where no control group counts them: RLIMIT_NPROC counts all of a user's, and none of
    root's. None for no limit. Threads do not pass the gate: `watch` counts them.
    """

    def __init__(
        self, listener: int, kept: Collection[int], broker: Broker | None, most: int | None
    ) -> None:
        self.listener = listener
        self._kept = kept
        self._broker = broker
        self._most = inf if most is None else most + len(kept)
        self._number = len(kept) + 1
        """Processes, at the most: those that have ended since the last look count too."""
        self._next_look = 0.0
        self._is_shut = False

    def shut(self) -> None:
        """Refuse forks from now on."""
        self._is_shut = True

    def serve(self) -> bool:
        """Answer a call that waits; only where poll(2) has said that something is there. False once
        no process is left behind the gate."""
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
        if asked.number in _FORKS:
            return self._judge_fork()
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
        if asked.number == _TKILL:
            first = notify.process_of(first)
        allowed = first not in self._kept and is_below(first, os.getpid())
        return None if allowed else errno.EPERM

    def _judge_fork(self) -> int | None:
        now = time.monotonic()
        if self._number >= self._most and now >= self._next_look:
            self._number = len(below(os.getpid()))
            self._next_look = now + (time.monotonic() - now) * _SHARE
        if self._is_shut or self._number >= self._most:
            return errno.EAGAIN
        self._number += 1
        return None

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
