"""What `doctor` tries inside: for each wall, something that it stops and something that it lets
through.

A trial is named after a field of the policy or a layer of the walls (`policy/levels.py`). It gives
"" if the wall holds and the neighbour works, else what happened instead.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress

import msgspec
from sandbox_agent_ipc.token import CancelToken

from sandbox_agent_sandbox.inside.kernel.syscalls import PR_SET_DUMPABLE, landlock_abi, prctl
from sandbox_agent_sandbox.inside.walls.landlock import FIRST_SCOPES


class Ground(msgspec.Struct, frozen=True):
    """What the trials are made on: paths that the host has made, and its values.

    port: of a server of the host's on 127.0.0.1. namespaces: the host's links in /proc/self/ns.
    unshared: there are no mounts and no namespaces; the rest is as the plan says then. undone: what
    is protected can be changed, and the host puts it back after the call.
    process: a process of the host's that is there all the time, by what it has in
    /proc/PID/cmdline.
    """

    readable: str
    writable: str
    unnamed: str
    plain: str
    hidden: str
    protected: str
    guarded: str
    workspace: str
    port: int
    namespaces: dict[str, str]
    process: str
    passed: str
    dropped: str
    assigned: str
    processes: int
    open_files: int
    file_size: int
    unshared: bool = False
    undone: bool = False


def try_walls(ground: Ground) -> dict[str, str]:
    """Every trial that needs no call of its own."""
    _be_seen()
    found = {}
    for name, attempt in _TRIALS.items():
        try:
            found[name] = attempt(ground)
        except Exception as error:
            found[name] = f"the trial failed: {type(error).__name__}: {error}"
    return found


def _be_seen() -> None:
    """Let init look at the memory of this process, as at that of a tool. A worker of our own tools
    is closed to all others, and what it shares with its children is counted for each of them."""
    prctl(PR_SET_DUMPABLE, 1)


def sleep_on(seconds: float) -> str:
    """For `limits.timeout`: the sandbox must stop it."""
    time.sleep(seconds)
    return f"it ran for {seconds:g} s"


def burn(seconds: float) -> str:
    """For `limits.cpu_time`: the kernel must end it."""
    while time.process_time() < seconds:
        pass
    return f"it used {seconds:g} s of CPU time"


def print_much(size: int) -> str:
    """For `limits.output`."""
    os.write(1, b"x" * size)
    return ""


def take_memory(size: int, patience: float) -> str:
    """For `limits.process_memory`: it must fail at once."""
    try:
        kept = bytearray(b"x") * size
    except MemoryError:
        return ""
    return f"{len(kept)} bytes could be had"


def share_memory(size: int, patience: float, *, token: CancelToken) -> str:
    """For `limits.memory` and `limits.call_memory`: it must be ended. It takes memory that
    processes could share, which RLIMIT_DATA does not count."""
    import mmap

    _be_seen()
    with mmap.mmap(-1, size) as kept:
        for at in range(0, size, mmap.PAGESIZE):
            kept[at] = 1
        token.wait(patience)
    return f"{size} bytes could be had"


def fill(
    folder: str, size: int, patience: float, closed: bool = False, *, token: CancelToken
) -> str:
    """For `limits.tmp`, `limits.shm` and `limits.disk`: it must fail or be ended. It writes `size`
    bytes at once and goes on slowly, because others may free as much on the same disk. closed:
    nothing may be written there at all."""
    folder = os.path.expandvars(folder)
    block = bytes(1 << 20)
    at_once, slowly = size // len(block), int(patience / _PACE)
    for number in range(at_once + slowly):
        try:
            with open(f"{folder}/trial-{number}", "wb", buffering=0) as file:
                if file.write(block) < len(block):
                    return ""
        except OSError as error:
            return _unless(error, *((errno.EACCES,) if closed else (errno.ENOSPC, errno.EDQUOT)))
        if number >= at_once:
            token.wait(_PACE)
    return f"{size} bytes fitted into {folder}"


_ENDED_WITHIN = 10.0
"""Seconds in which what looks at processes now and then must have ended one."""
_PACE = 0.05
"""Seconds between two files of `fill` when it goes on slowly."""


# --- the trials ------------------------------------------------------------------------------

_NO_SOCKET = (errno.EAFNOSUPPORT, errno.EACCES, errno.EPERM)
_DENIED = (errno.EROFS, errno.EACCES, errno.EXDEV)
"""By the mount, or by Landlock."""


def _read(ground: Ground) -> str:
    with open(ground.readable, "rb") as file:
        file.read(1)
    if ground.unshared:
        return _refused(lambda: os.open(ground.unnamed, os.O_RDONLY), errno.EACCES)
    return f"{ground.unnamed} is there" if os.path.lexists(ground.unnamed) else ""


def _write(ground: Ground) -> str:
    with open(ground.writable, "ab"):
        pass
    return _refused(lambda: os.open(ground.readable, os.O_WRONLY), *_DENIED)


def _hide(ground: Ground) -> str:
    with open(ground.plain, "rb") as file:
        if not file.read(1):
            return f"{ground.plain} is empty"
    with suppress(OSError), open(ground.hidden, "rb") as file:
        if file.read(1):
            return f"{ground.hidden} can be read"
    return ""


def _protect(ground: Ground) -> str:
    with open(ground.plain, "ab"), open(ground.protected, "rb"):
        pass
    if ground.undone:
        return _change(ground.protected)
    folder = os.path.dirname(ground.protected)
    return (
        _refused(lambda: os.open(ground.protected, os.O_WRONLY), *_DENIED)
        or _refused(lambda: os.rename(ground.protected, f"{folder}/other"), *_DENIED)
        or _refused(lambda: os.rename(folder, f"{folder}-other"), errno.EBUSY, *_DENIED)
    )


def _change(path: str) -> str:
    """The host looks after the call whether it is back (`diagnosis/trials.py`)."""
    with open(path, "w") as file:
        file.write("changed by a tool")
    return ""


def _protect_defaults(ground: Ground) -> str:
    with open(ground.plain, "ab"), open(ground.guarded, "rb"):
        pass
    if ground.undone:
        return _change(ground.guarded)
    return _refused(lambda: os.open(ground.guarded, os.O_WRONLY), *_DENIED) or _refused(
        lambda: os.rename(ground.guarded, f"{ground.guarded}-other"), errno.EBUSY, *_DENIED
    )


def _network(ground: Ground) -> str:
    if ground.unshared:
        for one in socket.socketpair():
            one.close()
        families = (socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK)
        allowed = [
            family.name
            for family in families
            if _refused(lambda family=family: socket.socket(family), *_NO_SOCKET)  # type: ignore[misc]
        ]
        return f"sockets can be made: {', '.join(allowed)}" if allowed else ""
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname(), timeout=5).close()
    with suppress(OSError):
        socket.create_connection(("127.0.0.1", ground.port), timeout=5).close()
        return "a server on the host's loopback answers"
    return ""


def _env_pass(ground: Ground) -> str:
    if not os.environ.get(ground.passed):
        return f"{ground.passed} is not set"
    return f"{ground.dropped} is set" if ground.dropped in os.environ else ""


def _env_set(ground: Ground) -> str:
    return "" if os.environ.get(ground.assigned) else f"{ground.assigned} is not set"


def _processes(ground: Ground) -> str:
    reading, writing = os.pipe()
    children: list[int] = []
    try:
        for _ in range(ground.processes + 8):
            pid = os.fork()
            if pid == 0:
                os.close(writing)
                os.read(reading, 1)  # until the parent closes its end
                os._exit(0)
            children.append(pid)
        if _one_is_ended(children):
            return ""
    except OSError as error:
        return _unless(error, errno.EAGAIN) if children else "no process can be started"
    finally:
        os.close(writing)
        os.close(reading)
        for pid in children:
            os.waitpid(pid, 0)
    return f"{len(children)} more processes could be started"


def _one_is_ended(children: list[int]) -> bool:
    """Whether something ends one of these processes in time, as it is where the limit is looked at
    now and then."""
    ends: list[int] = []
    try:
        for pid in children:
            ends.append(os.pidfd_open(pid))
        return bool(select.select(ends, [], [], _ENDED_WITHIN)[0])
    finally:
        for end in ends:
            os.close(end)


def _open_files(ground: Ground) -> str:
    opened: list[int] = []
    try:
        for _ in range(ground.open_files):
            opened.append(os.dup(2))
    except OSError as error:
        return _unless(error, errno.EMFILE)
    finally:
        for number in opened:
            os.close(number)
    return f"{len(opened)} more descriptors could be opened"


def _file_size(ground: Ground) -> str:
    path = f"{ground.workspace}/large"
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with open(path, "wb") as file:
            os.ftruncate(file.fileno(), ground.file_size)
            return _refused(lambda: os.ftruncate(file.fileno(), ground.file_size + 1), errno.EFBIG)
    finally:
        signal.signal(signal.SIGXFSZ, before)
        os.unlink(path)


def _namespaces(ground: Ground) -> str:
    shared = [
        name
        for name, link in ground.namespaces.items()
        if os.readlink(f"/proc/self/ns/{name}") == link
    ]
    return f"shared with the host: {', '.join(shared)}" if shared else ""


def _other_processes(ground: Ground) -> str:
    own = _command_of("self")
    if not own:
        return "the own command line cannot be read"
    shown = {_command_of(name) for name in os.listdir("/proc") if name.isdigit()}
    return "the command line of the agent can be read" if ground.process in shown - {own} else ""


def _command_of(pid: str) -> str:
    with suppress(OSError), open(f"/proc/{pid}/cmdline", errors="surrogateescape") as file:
        return file.read()
    return ""


def _capabilities(ground: Ground) -> str:
    status = _status()
    names = ["CapInh", "CapPrm", "CapEff", "CapAmb"]
    if not ground.unshared:
        # Only who has CAP_SETPCAP can empty it. With no_new_privs nobody gains by it at an exec.
        names.append("CapBnd")
    held = [name for name in names if int(status[name], 16)]
    if held:
        return f"not empty: {', '.join(held)}"
    return "" if status["NoNewPrivs"] == "1" else "no_new_privs is not set"


def _system_calls(ground: Ground) -> str:
    path = f"{ground.workspace}/program"
    with open(path, "wb"):
        pass
    try:
        os.chmod(path, 0o755)
        if wrong := _refused(lambda: os.chmod(path, 0o4755), errno.EPERM):
            return f"chmod with the setuid bit: {wrong}"
    finally:
        os.unlink(path)
    cryptography = _refused(
        lambda: socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET), errno.EAFNOSUPPORT
    )
    if cryptography:
        return f"a socket of the kernel's cryptography: {cryptography}"
    return "" if _status()["Seccomp"] == "2" else "there is no filter"


def _landlock(ground: Ground) -> str:
    """What the mounts and the filter deny too says nothing. A signal to the call's init, which is
    of the same user, is denied by Landlock's scope alone; an older Landlock is not tried."""
    if landlock_abi() < FIRST_SCOPES:
        return ""
    os.kill(os.getpid(), 0)
    wrong = _refused(lambda: os.kill(1, 0), errno.EPERM)
    return f"a signal to a process outside Landlock's domain: {wrong}" if wrong else ""


_TRIALS: dict[str, Callable[[Ground], str]] = {
    "read": _read,
    "write": _write,
    "hide": _hide,
    "protect": _protect,
    "protect_defaults": _protect_defaults,
    "network": _network,
    "env.pass": _env_pass,
    "env.set": _env_set,
    "limits.processes": _processes,
    "limits.open_files": _open_files,
    "limits.file_size": _file_size,
    "namespaces": _namespaces,
    "other processes": _other_processes,
    "capabilities": _capabilities,
    "system calls": _system_calls,
    "Landlock": _landlock,
}


def _status() -> dict[str, str]:
    with open("/proc/self/status", encoding="utf-8", errors="replace") as file:
        lines = [line.partition(":") for line in file]
    return {name: value.strip() for name, _, value in lines}


def _refused(attempt: Callable[[], object], *expected: int) -> str:
    """ "" if an attempt is refused with one of these errors."""
    try:
        attempt()
    except OSError as error:
        return _unless(error, *expected)
    return "it is allowed"


def _unless(error: OSError, *expected: int) -> str:
    return "" if error.errno in expected else f"refused in another way: {error}"
