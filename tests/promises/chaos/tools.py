"""The tools that get away elsewhere. They run inside the walls: standard library only, light.

Each first of all writes `.chaos/MARK.began`, which is how the truth of `started` is checked, then
prints `out-MARK`, and writes `MARK.ready` once it has everything going. Whatever a tool executes
has MARK in its arguments. brief: return when ready, instead of staying until stopped. Everything
is bounded: by a number of processes and by time.

Copied into workspaces under another name as well: imports nothing of its own package.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import signal
import subprocess
import threading
import time
from typing import Any

from sandbox_agent import CancelToken

LIFE = 20.0
"""Seconds after which a tool that nobody stopped ends by itself."""


def _note(mark: str, what: str, text: str = "") -> None:
    handle = os.open(f".chaos/{mark}.{what}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    os.write(handle, text.encode())
    os.close(handle)


def _began(mark: str, token: CancelToken) -> None:
    now = time.monotonic()
    index, word = getattr(token, "_index", None), getattr(token, "_word", None)
    _note(mark, "began", json.dumps({"t": now, "slot": index, "word": word, "board": _board()}))
    if any("KEY" in name for name in os.environ):
        _note(mark, "key")
    os.write(1, f"out-{mark}\n".encode())


def _board() -> int | None:
    """The inode of the cancel board, of which there is one in each sandbox."""
    for name in os.listdir("/proc/self/fd"):
        try:
            if "memfd:sandbox-agent-board" in os.readlink(f"/proc/self/fd/{name}"):
                return os.fstat(int(name)).st_ino
        except OSError:
            continue
    return None


def _returned(mark: str) -> str:
    return f"returned-{mark}"


def _sleeper(mark: str, number: int = 300) -> list[str]:
    return ["sleep", f"{number}.{mark}"]


def _look_late(mark: str, token: CancelToken) -> None:
    """A thread and a child that look for the first time after the flag must see it, and so must
    whoever looks again and again."""
    seen: list[bool] = []
    thread = threading.Thread(target=lambda: seen.append(token.is_cancelled))
    thread.start()
    child = os.fork()
    if child == 0:
        os._exit(0 if token.is_cancelled else 9)
    _, status = os.waitpid(child, 0)
    thread.join()
    again = all(token.is_cancelled for _ in range(1000)) and token.wait(0)
    if not (seen == [True] and status == 0 and again and token.reason is not None):
        _note(mark, "bad", f"late lookers: {seen} {status} {again} {token.reason}")
    _note(mark, "saw", str(token.reason))


def polling(mark: str, brief: bool, token: CancelToken) -> str:
    """Looks at the flag every few milliseconds."""
    _began(mark, token)
    _note(mark, "ready")
    end = time.monotonic() + (0 if brief else LIFE)
    while not token.is_cancelled:
        if time.monotonic() > end:
            return _returned(mark)
        time.sleep(0.003)  # a tool that polls, as tools do
    _look_late(mark, token)
    return _returned(mark)


def waiting(mark: str, brief: bool, token: CancelToken) -> str:
    """Sleeps on the token."""
    _began(mark, token)
    _note(mark, "ready")
    if token.wait(0 if brief else LIFE):
        _look_late(mark, token)
    return _returned(mark)


def sleeping(mark: str, brief: bool, token: CancelToken) -> str:
    """Hears nothing until SIGTERM; cleans up then."""
    _began(mark, token)
    _note(mark, "ready")
    try:
        time.sleep(0.005 if brief else LIFE)
    finally:
        _note(mark, "finally")
    return _returned(mark)


def busy_python(mark: str, brief: bool, token: CancelToken) -> str:
    """A loop that never looks."""
    _began(mark, token)
    _note(mark, "ready")
    end = time.monotonic() + (0.005 if brief else LIFE)
    try:
        while time.monotonic() < end:
            pass
    finally:
        _note(mark, "finally")
    return _returned(mark)


def busy_c(mark: str, brief: bool, token: CancelToken) -> str:
    """One call into C that looks at no signal."""
    _began(mark, token)
    _note(mark, "ready")
    hashlib.pbkdf2_hmac("sha256", b"x", b"y", 5_000 if brief else 40_000_000)
    return _returned(mark)


def tree(mark: str, brief: bool, token: CancelToken) -> str:
    """Shells below shells, one of which is waited for."""
    _began(mark, token)
    inner = f"sleep 301.{mark} & sleep 302.{mark} & wait"
    outer = f"sh -c '{inner}' & sh -c '{inner}' & echo up; wait"
    child = subprocess.Popen(["sh", "-c", outer], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    _note(mark, "ready")
    if not brief:
        child.wait(LIFE)
    return _returned(mark)


def _daemon(argv: list[str]) -> None:
    """The classic double fork, deaf to what terminals and supervisors send."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            os.execvp(argv[0], argv)
        os._exit(0)
    os.wait()


def daemoniser(mark: str, brief: bool, token: CancelToken) -> str:
    """Leaves daemons behind, which hold its output pipe open."""
    _began(mark, token)
    _daemon(_sleeper(mark, 303))
    _daemon(["setsid", *_sleeper(mark, 304)])
    subprocess.Popen(["nohup", *_sleeper(mark, 305)], stderr=subprocess.DEVNULL)
    _note(mark, "ready")
    if not brief:
        time.sleep(LIFE)
    return _returned(mark)


def term_ignorer(mark: str, brief: bool, token: CancelToken) -> str:
    """Ignores what may be ignored, with a child that does too."""
    _began(mark, token)
    deaf = f"trap '' TERM INT HUP; echo up; sleep 306.{mark}; sleep 307.{mark}"
    child = subprocess.Popen(["sh", "-c", deaf], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    _note(mark, "ready")
    end = time.monotonic() + (0 if brief else LIFE)
    while time.monotonic() < end:
        time.sleep(0.5)
    return _returned(mark)


def self_stopper(mark: str, brief: bool, token: CancelToken) -> str:
    """Stops a child, a process group and itself."""
    _began(mark, token)
    for number in (308, 309):
        child = os.fork()
        if child == 0:
            os.setsid()
            # Stopped after the exec, so that the observer finds the mark.
            os.execvp("sh", ["sh", "-c", f"sleep {number}.{mark} & kill -STOP 0; wait"])
        os.waitpid(child, os.WUNTRACED)
    _note(mark, "ready")
    try:
        if not brief:
            os.kill(os.getpid(), signal.SIGSTOP)
            time.sleep(LIFE)
    finally:
        _note(mark, "finally")
    return _returned(mark)


def fork_loop(mark: str, brief: bool, token: CancelToken) -> str:
    """Forks on and on, 40 times in all and 12 at once; every child is another daemon."""
    _began(mark, token)
    alive: list[int] = []
    for number in range(6 if brief else 40):
        child = os.fork()
        if child == 0:
            os.setsid()
            if number % 2:
                argv = _sleeper(mark, 310)
                os.execvp(argv[0], argv)
            # As if it had never executed anything: no mark, only its place in the tree.
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            end = time.monotonic() + LIFE
            while time.monotonic() < end:
                time.sleep(0.1)
            os._exit(0)
        alive.append(child)
        if number == 5:
            _note(mark, "ready")
        if len(alive) == 12:
            oldest = alive.pop(0)
            os.kill(oldest, signal.SIGKILL)
            os.waitpid(oldest, 0)
    if not brief:
        time.sleep(LIFE)
    return _returned(mark)


def flood(mark: str, brief: bool, token: CancelToken) -> str:
    """Writes more than anybody wants to read, at most 64 MiB."""
    _began(mark, token)
    _note(mark, "ready")
    block = (b"x" * 127 + b"\n") * 512
    end = time.monotonic() + LIFE
    for _ in range(8 if brief else 1024):
        os.write(1, block)
    while not brief and time.monotonic() < end:
        time.sleep(0.5)
    return _returned(mark)


def attacker(mark: str, brief: bool, token: CancelToken) -> str:
    """Tries to clear the cancel board in every way, then to forge it; says what worked."""
    _began(mark, token)
    _note(mark, "ready")
    worked = _attack()
    if worked:
        _note(mark, "bad", f"the board was written to by {worked}")
    if not brief:
        token.wait(LIFE)
    return _returned(mark)


def _attack() -> list[str]:
    worked = []
    for name in os.listdir("/proc/self/fd"):
        try:
            if "memfd:" not in os.readlink(f"/proc/self/fd/{name}"):
                continue
        except OSError:
            continue
        for attack in (_by_write, _by_mapping, _by_truncating, _by_reopening):
            try:
                attack(int(name))
            except (OSError, ValueError):
                continue
            worked.append(attack.__name__.removeprefix("_by_"))
    return worked


def _by_write(fd: int) -> None:
    os.pwrite(fd, os.pread(fd, 8, 4088), 4088)


def _by_mapping(fd: int) -> None:
    with mmap.mmap(fd, 4096) as page:
        page[4088:4096] = bytes(page[4088:4096])


def _by_truncating(fd: int) -> None:
    os.ftruncate(fd, 4097)


def _by_reopening(fd: int) -> None:
    again = os.open(f"/proc/self/fd/{fd}", os.O_RDWR)
    try:
        _by_write(again)
    finally:
        os.close(again)


FUNCTIONS: dict[str, Any] = {
    function.__name__: function
    for function in (
        polling, waiting, sleeping, busy_python, busy_c, tree, daemoniser, term_ignorer,
        self_stopper, fork_loop, flood, attacker,
    )
}  # fmt: skip

SHELL = """\
: > .chaos/{mark}.began; echo out-{mark}
nohup sleep 311.{mark} >/dev/null 2>&1 &
setsid sleep 312.{mark} &
( ( sleep 313.{mark} & ) & wait )
sh -c 'trap "" INT TERM; sleep 314.{mark}; sleep 315.{mark}' &
: > .chaos/{mark}.ready
{stay}echo returned-{mark}
"""
"""What the built-in shell is given."""


def shell_text(mark: str, brief: bool) -> str:
    return SHELL.format(mark=mark, stay="" if brief else f"sleep 300.{mark}\n")
