"""What a sandbox has left is found by its mark, whoever it belongs to and however it looks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import observer
import pytest

HEADLESS = """
import ctypes, os, threading, time
threading.Thread(target=time.sleep, args=(300,)).start()
ctypes.CDLL(None).syscall(60 if os.uname().machine == "x86_64" else 93, 0)
"""
"""A process whose first thread has ended looks like a zombie."""

KEEPER = """
import os, subprocess, sys
from sandbox_agent_sandbox.inside.unshared.tag import Marks, take_mark
mark, user = Marks().new(), int(sys.argv[1])
left = subprocess.Popen(
    sys.argv[2:], preexec_fn=lambda: take_mark(mark), start_new_session=True,
    **({} if user == os.geteuid() else {"user": user, "group": user, "extra_groups": []}),
)
print(left.pid, flush=True)
sys.stdin.read()
"""

REAP = """
from sandbox_agent_sandbox.inside.unshared.tag import reap_orphans
reap_orphans(10)
"""


def program(text: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", text, *arguments]


@pytest.mark.parametrize("user", ["same", "another"])
@pytest.mark.parametrize("kind", ["sleeping", "headless"])
def test_a_start_ends_what_nobody_keeps_and_nothing_else(user: str, kind: str) -> None:
    if user == "another" and os.geteuid() != 0:
        pytest.skip("needs root")
    uid = os.geteuid() if user == "same" else 54_322
    left = ["sleep", "300"] if kind == "sleeping" else ["/usr/bin/python3", "-S", "-c", HEADLESS]
    argv = program(KEEPER, str(uid), *left)
    with subprocess.Popen(argv, stdin=-1, stdout=-1, text=True) as keeper:
        assert keeper.stdin is not None and keeper.stdout is not None
        pid = int(keeper.stdout.readline())
        try:
            if kind == "headless":
                state = Path(f"/proc/{pid}/stat")
                observer.eventually(lambda: ") Z " in state.read_text(), 20)
            reap()
            assert observer.look(pid), "its keeper is there"
            keeper.kill()
            keeper.wait()
            reap()  # another test's sandbox may come first, whose start does the same
            assert observer.eventually(lambda: observer.look(pid) is None, 10)
        finally:
            keeper.kill()
            os.waitpid(pid, 0) if parent_is_this(pid) else None


def reap() -> None:
    subprocess.run(program(REAP), capture_output=True, check=True)


def parent_is_this(pid: int) -> bool:
    """The tests' process is a subreaper."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    return f"PPid:\t{os.getpid()}\n" in status
