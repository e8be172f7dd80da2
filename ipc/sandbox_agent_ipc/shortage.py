"""What the host has run out of, and what to do about it. One table for every process of ours."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import threading


class Shortage:
    """what: has run out, as a sentence. hint: what to do about it."""

    def __init__(self, what: str, hint: str) -> None:
        self.what = what
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.what}; hint: {self.hint}"


_TASKS = Shortage(
    "no more processes or threads can be started here",
    "raise the limit of processes (ulimit -u; pids.max of the cgroup; TasksMax of a systemd unit)",
)
MEMORY = Shortage(
    "there is not enough memory",
    "free some, or raise its limit (ulimit -v, ulimit -d; memory.max of the cgroup)",
)
_DISK = "free some space there, or choose another place"

SHORTAGES = {
    errno.EMFILE: Shortage(
        "too many open files", "raise the limit of this process (ulimit -n), or close some"
    ),
    errno.ENFILE: Shortage(
        "too many open files on this machine", "raise its limit (sysctl fs.file-max)"
    ),
    errno.ETOOMANYREFS: Shortage(
        "this user's processes have left too many descriptors in sockets",
        "end those that do, or raise the limit of this process (ulimit -n)",
    ),
    errno.EAGAIN: _TASKS,
    errno.ENOMEM: MEMORY,
    errno.ENOSPC: Shortage("no space is left on the device", _DISK),
    errno.EDQUOT: Shortage("the disk quota is used up", _DISK),
    errno.ECHILD: Shortage(
        "SIGCHLD is ignored, so the ends of child processes are lost",
        "restore it before (signal.signal(SIGCHLD, SIG_DFL); in a shell: trap - CHLD)",
    ),
}
"""By errno, for system calls that start, open or store something. Elsewhere EAGAIN means that a
call would block, and ENOSPC of unshare(2) that there are too many namespaces."""

_DEFAULT_STACK = 8 << 20
"""Bytes that a thread's stack takes where RLIMIT_STACK is unlimited, or more than enough."""

_LOOK_SECONDS = 0.5
"""How long a thread that was started may be silent before it is looked whether it is there."""

_NO_THREAD = "can't start new thread"
"""CPython's text for EAGAIN of pthread_create(3): it passes no errno on."""

_ERRNO = r"\[Errno (\d+)\]"
_WORDS = (
    *((os.strerror(number), number) for number in SHORTAGES if number != errno.ECHILD),
    (_NO_THREAD, errno.EAGAIN),
    ("MemoryError", errno.ENOMEM),
    ("failed to map segment", errno.ENOMEM),  # ld.so(8), of a module in C
    *((short.what, number) for number, short in SHORTAGES.items()),
)


def is_shortage(error: OSError) -> bool:
    """Whether the host has run out of something, and not refused something else."""
    return error.errno in SHORTAGES


def explained(error: Exception) -> str:
    """The error as text; or, where something has run out, what that is and the hint."""
    short = shortage_of(error)
    if short is None:
        return str(error)
    file = getattr(error, "filename", None)
    return str(Shortage(f"{short.what}: {file}", short.hint) if isinstance(file, str) else short)


def shortage_of(error: BaseException) -> Shortage | None:
    """What had run out when this error was raised, or an error that it follows from; or None."""
    return next(filter(None, map(shortage_at, _chain(error))), None)


def shortage_at(error: BaseException) -> Shortage | None:
    """As `shortage_of`, by this error alone."""
    if isinstance(error, MemoryError):
        return MEMORY
    if isinstance(error, OSError):
        return SHORTAGES.get(error.errno or 0)
    if isinstance(error, RuntimeError) and str(error) == _NO_THREAD:
        return MEMORY if _has_no_room_for_a_stack() else _TASKS
    if isinstance(error, SystemError) and _has_no_room_for_a_stack():
        return MEMORY  # CPython does not check every allocation while it imports
    return shortage_in(str(error)) if isinstance(error, ImportError) else None


def shortage_in(text: str) -> Shortage | None:
    """What had run out, by a message of ours or the last line of a program that died of it."""
    if match := re.search(_ERRNO, text):
        return SHORTAGES.get(int(match[1]))
    return next((SHORTAGES[number] for words, number in _WORDS if words in text), None)


def start_thread(thread: threading.Thread) -> None:
    """`thread.start()`. Raises RuntimeError where no thread can be started.

    CPython's own waits for ever where there is memory for the thread's stack and for nothing else:
    the thread ends then before it could say that it runs.
    """
    import threading  # whoever has a thread has imported it

    started = threading.Event()
    wait = started.wait
    before = _tasks()

    def wait_until_it_runs() -> None:
        while not wait(_LOOK_SECONDS):
            known = {thread.native_id for thread in threading.enumerate()}
            if before and not _tasks() - before - known:
                raise RuntimeError(_NO_THREAD)

    vars(started)["wait"], vars(thread)["_started"] = wait_until_it_runs, started
    try:
        thread.start()
    except RuntimeError:
        vars(threading)["_limbo"].pop(thread, None)  # it counts as one that is about to run
        raise
    finally:
        vars(started).pop("wait", None)


def _tasks() -> set[int | None]:
    """The native ids of all threads of this process, of those that Python does not know, too.
    proc_pid_task(5). Empty where there is no room to look."""
    try:
        return {int(task) for task in os.listdir("/proc/self/task")}
    except (MemoryError, OSError):
        return set()


def _has_no_room_for_a_stack() -> bool:
    """Whether RLIMIT_AS or RLIMIT_DATA is too low for another thread: pthread_create(3) calls that
    EAGAIN too."""
    import resource  # only where a thread could not be started

    stack = resource.getrlimit(resource.RLIMIT_STACK)[0]
    with open("/proc/self/statm", encoding="ascii") as statm:
        pages = statm.read().split()
    for kind, used in ((resource.RLIMIT_AS, pages[0]), (resource.RLIMIT_DATA, pages[5])):
        limit = resource.getrlimit(kind)[0]
        size = int(used) * resource.getpagesize() + (stack if stack > 0 else _DEFAULT_STACK)
        if limit != resource.RLIM_INFINITY and size > limit:
            return True
    return False


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen = 0
    while error is not None and seen < 20:
        yield error
        error, seen = error.__cause__ or error.__context__, seen + 1
