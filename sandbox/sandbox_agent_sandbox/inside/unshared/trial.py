"""What this host can do without namespaces, found out by doing it. A program of its own.

Each thing is tried in a child. What fails is not there, whatever the reason: an older kernel, a
container's filter of system calls, a limit, another sandbox around this one.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress

import msgspec

from sandbox_agent_sandbox.inside.kernel import syscalls
from sandbox_agent_sandbox.inside.unshared.kernel import filter_with_listener
from sandbox_agent_sandbox.inside.unshared.view import notify
from sandbox_agent_sandbox.inside.walls.landlock import FIRST_SCOPES, landlock_abi
from sandbox_agent_sandbox.plan import Unshared

_READ_FILE, _SCOPES = 1 << 2, 3
_CONNECT = {"x86_64": 42, "aarch64": 203}
_OTHER_USER = 1_912_602_625
"""An id that no account has."""
_SEEN, _TAKEN = 42, 43
"""An errno that connect(2) never has: it can only have come from whoever answered."""


def main() -> None:
    """Try everything, and write an `Unshared` to standard output, as JSON."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(15)
    abi = landlock_abi()
    if not _works(_files):
        abi = 0
    listener, broker, takes = _notifications()
    found = Unshared(
        abi=abi,
        scopes=abi >= FIRST_SCOPES and _works(_signals),
        listener=listener,
        broker=broker,
        takes=takes,
        other_user=os.geteuid() == 0 and _other_user(),
        owns=os.geteuid() == 0 and _works(_owns),
    )
    sys.stdout.buffer.write(msgspec.json.encode(found))


def _fork() -> int:
    """A child that ends with this process, whatever ends that: a trial may wait for ever."""
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        _end_with_parent()
        if os.getppid() != parent:
            os._exit(1)  # it had ended before
    return child


def _end_with_parent() -> None:
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)


def _works(trial: Callable[[], bool]) -> bool:
    child = _fork()
    if child == 0:
        works = False
        with suppress(BaseException):
            works = trial()
        os._exit(0 if works else 1)
    return _exit_code(child) == 0


def _exit_code(child: int) -> int:
    """Wait for it. If somebody has ended it, that says nothing of this host, and this process ends
    in the same way: see `probe.Trials`."""
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if -code in (signal.SIGKILL, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        os.kill(os.getpid(), signal.SIGKILL)
    return code


def _files() -> bool:
    """Two domains, as many as a call needs, the inner one with rules for files."""
    _restrict(0, _SCOPES if landlock_abi() >= FIRST_SCOPES else 0)
    _restrict(_READ_FILE, 0)
    try:
        os.close(os.open(sys.executable, os.O_RDONLY))
    except PermissionError:
        return True
    return False


def _signals() -> bool:
    os.kill(os.getppid(), 0)
    _restrict(0, _SCOPES)
    try:
        os.kill(os.getppid(), 0)
    except PermissionError:
        return True
    return False


def _restrict(files: int, scopes: int) -> None:
    if files or scopes:
        ruleset = syscalls.landlock_create_ruleset(files, 0, scopes)
        syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
        syscalls.landlock_restrict_self(ruleset, 0)
        os.close(ruleset)


def _other_user() -> bool:
    """Whether a child can become another user, and be ended."""
    ready, told = os.pipe()
    child = _fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setresgid(_OTHER_USER, _OTHER_USER, _OTHER_USER)
            os.setresuid(_OTHER_USER, _OTHER_USER, _OTHER_USER)
            _end_with_parent()  # another user has taken it away. prctl(2)
            os.write(told, b"x")
            signal.pause()
        finally:
            os._exit(1)
    os.close(told)
    if not os.read(ready, 1):
        _exit_code(child)
        return False
    with suppress(PermissionError):
        os.kill(child, signal.SIGTERM)
        return _exit_code(child) == -signal.SIGTERM
    return False


def _owns() -> bool:
    """Whether root can give a file away, change it then, and take it back."""
    file = os.memfd_create("sandbox-agent-trial", os.MFD_CLOEXEC)
    os.fchown(file, _OTHER_USER, _OTHER_USER)
    os.fchmod(file, 0o640)
    os.fchown(file, 0, _OTHER_USER)
    return True


def _notifications() -> tuple[bool, bool, bool]:
    """Whether a filter can have a listener; whether a thread of the listening process can copy an
    address out of the caller, and give it a socket; whether it can take one. A thread, for Yama
    lets only ancestors do that: Documentation/admin-guide/LSM/Yama.rst"""
    number = _CONNECT.get(os.uname().machine)
    if number is None:
        return False, False, False
    ours, theirs = socket.socketpair()
    child = _fork()
    if child == 0:
        ours.close()
        with suppress(BaseException):
            os._exit(_ask(number, theirs))
        os._exit(1)
    theirs.close()
    listeners: list[int] = []
    with suppress(OSError):
        _, listeners, _, _ = socket.recv_fds(ours, 1, 1)
    for listener in listeners:
        thread = threading.Thread(target=_answer, args=(listener,), daemon=True)
        thread.start()
        thread.join(10)
    ours.close()
    said = _exit_code(child)
    return bool(listeners), said in (_SEEN, _TAKEN), said == _TAKEN


def _ask(number: int, supervisor: socket.socket) -> int:
    """Ask once, and return the errno that came as the answer."""
    program = syscalls.Filter(
        b"".join(
            code.to_bytes(2, sys.byteorder) + bytes((yes, no)) + k.to_bytes(4, sys.byteorder)
            for code, yes, no, k in (
                (0x20, 0, 0, 0),
                (0x15, 0, 1, number),
                (0x06, 0, 0, 0x7FC00000),
                (0x06, 0, 0, 0x7FFF0000),
            )
        )
    )
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    listener = filter_with_listener(program.address)
    socket.send_fds(supervisor, [b"x"], [listener])
    os.close(listener)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        try:
            asking.connect("/sandbox-agent-trial")
        except OSError as error:
            return error.errno or 1
    return 1


def _answer(listener: int) -> None:
    error = 1
    with suppress(OSError):
        asked = notify.receive(listener)
        with suppress(OSError):
            address = notify.read_memory(asked.thread, asked.arguments[1], 32)
            os.readlink(f"/proc/{asked.thread}/fd/{asked.arguments[0]}")
            notify.give(listener, asked, listener, cloexec=True)
            if address[2:].startswith(b"/sandbox-agent-trial"):
                error = _SEEN
            pidfd = os.pidfd_open(asked.thread)
            os.close(notify.take(pidfd, asked.arguments[0]))
            os.close(pidfd)
            error = _TAKEN
        notify.answer(listener, asked, error=error)
