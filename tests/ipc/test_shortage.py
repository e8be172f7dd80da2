"""What has run out, from whatever a shortage looks like; and nothing else is called one."""

from __future__ import annotations

import _thread
import errno
import os
import threading

import pytest
from sandbox_agent_ipc import shortage
from sandbox_agent_ipc.shortage import (
    explained,
    is_shortage,
    shortage_in,
    shortage_of,
    start_thread,
)


def os_error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def raised_after(cause: BaseException, error: BaseException) -> BaseException:
    try:
        raise error from cause
    except type(error) as found:
        return found


SHORT = [
    (os_error(errno.EMFILE), "too many open files", "ulimit -n"),
    (os_error(errno.ENFILE), "too many open files on this machine", "fs.file-max"),
    (os_error(errno.EAGAIN), "no more processes or threads", "ulimit -u"),
    (os_error(errno.ENOMEM), "not enough memory", "ulimit -v"),
    (os_error(errno.ENOSPC), "no space", "free some space"),
    (os_error(errno.EDQUOT), "quota", "free some space"),
    (os_error(errno.ECHILD), "SIGCHLD", "SIG_DFL"),
    (RuntimeError("can't start new thread"), "no more processes or threads", "pids.max"),
    (MemoryError(), "not enough memory", "memory.max"),
    (ImportError("x.so: failed to map segment from shared object"), "not enough memory", "memory"),
    (ImportError("x.so: cannot open shared object file: Too many open files"), "files", "ulimit"),
    (raised_after(os_error(errno.EMFILE), ValueError("no")), "too many open files", "ulimit -n"),
]


@pytest.mark.parametrize(("error", "what", "hint"), SHORT)
def test_a_shortage_has_one_name_and_one_hint(error: OSError, what: str, hint: str) -> None:
    found = shortage_of(error)
    assert found is not None
    assert what in found.what
    assert hint in found.hint
    assert explained(error) == f"{found.what}; hint: {found.hint}"


@pytest.mark.parametrize(
    "error",
    [
        os_error(errno.EPERM),
        os_error(errno.ENOENT),
        RuntimeError("dictionary changed size during iteration"),
        ImportError("cannot import name 'x'"),
        ValueError("no"),
    ],
)
def test_another_error_is_no_shortage(error: OSError) -> None:
    assert shortage_of(error) is None
    assert explained(error) == str(error)


def test_the_file_that_found_no_room_is_named() -> None:
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/var/x")
    assert is_shortage(error)
    assert "/var/x; hint: " in explained(error)


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("OSError: [Errno 24] Too many open files: '/usr/lib/python3.11/os.py'", "open files"),
        ("setpriv: failed to execute /usr/bin/python3: Cannot allocate memory", "memory"),
        ("BlockingIOError: [Errno 11] Resource temporarily unavailable", "processes"),
        ("MemoryError", "memory"),
    ],
)
def test_the_last_line_of_a_program_says_of_what_it_died(line: str, what: str) -> None:
    found = shortage_in(line)
    assert found is not None
    assert what in found.what


@pytest.mark.parametrize("line", ["", "ModuleNotFoundError: No module named 'x'", "[Errno 2] No"])
def test_other_last_lines_say_nothing_of_a_shortage(line: str) -> None:
    assert shortage_in(line) is None


class StillBorn(threading.Thread):
    """It ends before it can say that it runs: as one does that finds memory for its stack alone."""

    def _bootstrap(self) -> None:
        raise MemoryError


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_thread_that_ends_before_it_runs_is_not_waited_for() -> None:
    """Also where there is a thread that Python does not know, such as one of a library."""
    other = _thread.allocate_lock()
    other.acquire()
    _thread.start_new_thread(other.acquire, ())
    with pytest.raises(RuntimeError, match="can't start new thread"):
        start_thread(StillBorn(target=print))
    other.release()


class Late(threading.Thread):
    """It says late that it runs."""

    may_run = threading.Event()

    def _bootstrap(self) -> None:
        self.may_run.wait(20)
        super()._bootstrap()  # type: ignore[misc]


def test_a_thread_that_is_late_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shortage, "_LOOK_SECONDS", 0.001)
    looks = []

    def look() -> set[int | None]:
        looks.append(tasks())
        if len(looks) == 4:
            Late.may_run.set()
        return looks[-1]

    tasks = shortage._tasks
    monkeypatch.setattr(shortage, "_tasks", look)
    done = threading.Event()
    thread = Late(target=done.set)
    start_thread(thread)
    assert done.wait(20)
    thread.join(20)
    assert not thread.is_alive()
    assert len(looks) >= 4
