"""Class: leftovers. The proof looks when the command has ended: what is still there has succeeded.

Processes are known by a lock that they hold, which they can neither rename nor hide.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

from . import kernel_calls
from .attempt import ROOT, Attempt, Stage, attempt, lacking, unless
from .outside import Outside, appeared, lives

ATTEMPTS: list[Attempt] = []
POLICY: dict[str, object] = {}


def hold_lock(stage: Stage) -> int:
    """A lock that lasts as long as the last process that has inherited it. flock(2)"""
    file = os.open(stage.work / "locks" / stage.name, os.O_CREAT | os.O_RDWR)
    fcntl.flock(file, fcntl.LOCK_EX)
    os.set_inheritable(file, True)
    return file


def stay(stage: Stage) -> None:
    """Waits until the host's proof has looked, and at most a minute."""
    deadline = time.monotonic() + 60
    while not (stage.work / "stop").exists() and time.monotonic() < deadline:
        with contextlib.suppress(InterruptedError):
            time.sleep(0.02)
    os._exit(0)


def waits_for_a_child(stage: Stage) -> None:
    assert subprocess.run(["true"]).returncode == 0


def works_in_the_background(stage: Stage) -> None:
    child = subprocess.Popen(
        ["sh", "-c", "sleep 0.01; echo done > background.txt"],
        cwd=stage.work,
        start_new_session=True,
    )
    child.wait(10)
    assert (stage.work / "background.txt").read_text() == "done\n"


def uses_shared_memory(stage: Stage) -> None:
    segment = kernel_calls.call("shmget", 0, 4096, 0o1600)
    kernel_calls.call("shmctl", segment, 0, 0)


def has_temporary_files(stage: Stage) -> None:
    for folder in ("/tmp", "/dev/shm"):
        path = Path(folder, f"own-{stage.mark}")
        path.write_text("x")
        path.unlink()


@attempt(ATTEMPTS, lives(), works_in_the_background, after=True, blind=True)
def daemon(stage: Stage) -> None:
    """Forks twice in a session of its own. daemon(7)"""
    hold_lock(stage)
    if not os.fork():
        os.setsid()
        if not os.fork():
            stay(stage)
        os._exit(0)


@attempt(ATTEMPTS, lives(), works_in_the_background, after=True, blind=True)
def no_hang_up(stage: Stage) -> None:
    """Starts a program in the background with nohup(1)."""
    lock = hold_lock(stage)
    subprocess.Popen(
        ["nohup", "sleep", f"60.{stage.mark}"],
        pass_fds=[lock],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


@attempt(ATTEMPTS, lives(), works_in_the_background, after=True, blind=True)
def deaf(stage: Stage) -> None:
    """Ignores every signal that can be ignored."""
    hold_lock(stage)
    if not os.fork():
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            with contextlib.suppress(OSError):
                signal.signal(number, signal.SIG_IGN)
        stay(stage)


@attempt(ATTEMPTS, lives(), waits_for_a_child, after=True, blind=True)
def stopped(stage: Stage) -> None:
    """Is stopped, so that it can answer no signal."""
    hold_lock(stage)
    pid = os.fork()
    if not pid:
        stay(stage)
    os.kill(pid, signal.SIGSTOP)
    os.waitpid(pid, os.WUNTRACED)


@attempt(ATTEMPTS, lives(), waits_for_a_child, after=True, blind=True)
def traced(stage: Stage) -> None:
    """Is held by a debugger, which itself is stopped."""
    hold_lock(stage)
    tracer = os.fork()
    if not tracer:
        pid = os.fork()
        if not pid:
            stay(stage)
        kernel_calls.call("ptrace", 16, pid, 0, 0)
        os.waitpid(pid, 0)
        (stage.work / "locks/traced-ready").write_text("x")
        os.kill(os.getpid(), signal.SIGSTOP)
        os._exit(0)
    os.waitpid(tracer, os.WUNTRACED)


@attempt(ATTEMPTS, lives(), waits_for_a_child, after=True, blind=True)
def adopter(stage: Stage) -> None:
    """Adopts its orphans, so that they do not rise to the first process. PR_SET_CHILD_SUBREAPER"""
    hold_lock(stage)
    if not os.fork():
        kernel_calls.call("prctl", 36, 1, 0, 0, 0)
        os.setsid()
        if not os.fork():
            os.setsid()
            if not os.fork():
                stay(stage)
            os._exit(0)
        stay(stage)


@attempt(ATTEMPTS, lives(), waits_for_a_child, after=True, blind=True)
def thread_without_leader(stage: Stage) -> None:
    """Ends its first thread, so that it looks like a zombie, and goes on in a second one."""
    hold_lock(stage)
    if not os.fork():
        threading.Thread(target=stay, args=(stage,)).start()
        ctypes.CDLL(None).syscall(ctypes.c_long(60 if os.uname().machine == "x86_64" else 93), 0)


@attempt(ATTEMPTS, lives(), waits_for_a_child, after=True, blind=True)
def sibling(stage: Stage) -> None:
    """Makes a child that counts as a child of its own parent. clone(2), CLONE_PARENT"""
    hold_lock(stage)
    if os.uname().machine == "x86_64" and not kernel_calls.call("clone", 0x8000 | 17, 0, 0, 0, 0):
        stay(stage)


@attempt(ATTEMPTS, lives(), waits_for_a_child, after=True, blind=True)
def moving_target(stage: Stage) -> None:
    """Forks and ends without a pause, so that no list of processes is ever true."""
    hold_lock(stage)
    if not os.fork():
        os.setsid()
        deadline = time.monotonic() + 20
        while not (stage.work / "stop").exists() and time.monotonic() < deadline:
            if os.fork():
                os._exit(0)
        os._exit(0)


@attempt(ATTEMPTS, lives(), waits_for_a_child, after=True, blind=True)
def under_another_name(stage: Stage) -> None:
    """Calls itself a thread of the kernel, and drops its arguments and environment."""
    lock = hold_lock(stage)
    if not os.fork():
        os.execve(
            "/bin/sh", ["[kworker/0:1]", "-c", f"exec sleep 60.{stage.mark} {lock}>&{lock}"], {}
        )


@attempt(
    ATTEMPTS,
    lives(),
    waits_for_a_child,
    after=True,
    blind=True,
    needs=unless([("/proc/sys/user/max_user_namespaces", "0")]),
)
def in_a_namespace_of_its_own(stage: Stage) -> None:
    """Lives in a pid namespace of its own, out of the first one's sight."""
    hold_lock(stage)
    if not os.fork():
        kernel_calls.call("unshare", 0x10000000 | 0x20000000)
        if not os.fork():
            stay(stage)
        os._exit(0)
    os.wait()


@attempt(ATTEMPTS, lives(), waits_for_a_child, after=True, blind=True)
def in_flight(stage: Stage) -> None:
    """Keeps its lock in a socket that nobody has open, and a process that could take it out."""
    lock = hold_lock(stage)
    one, other = socket.socketpair()
    socket.send_fds(one, [b"x"], [lock])
    os.close(lock)
    if not os.fork():
        os.closerange(0, 3)
        os.setsid()
        assert other
        stay(stage)


@attempt(
    ATTEMPTS,
    lambda outside, name: outside.segment_is_left(),
    uses_shared_memory,
    after=True,
    blind=True,
)
def segment(stage: Stage) -> None:
    """Leaves a shared memory segment, which lasts until the next boot. shmget(2)"""
    kernel_calls.call("shmget", stage.left_key, 4096, 0o1600)


@attempt(
    ATTEMPTS,
    lambda outside, name: outside.queue_is_left(),
    uses_shared_memory,
    after=True,
    blind=True,
)
def queue(stage: Stage) -> None:
    """Leaves a message queue. msgget(2)"""
    kernel_calls.call("msgget", stage.left_key, 0o1600)


@attempt(
    ATTEMPTS,
    lambda outside, name: outside.posix_queue_is_left(),
    uses_shared_memory,
    after=True,
    blind=True,
)
def posix_queue(stage: Stage) -> None:
    """Leaves a POSIX message queue. mq_open(3)"""
    kernel_calls.call(
        "mq_open",
        kernel_calls.text(f"walls-left-{stage.facts['mark']}"),
        os.O_CREAT | os.O_RDWR,
        0o600,
        0,
    )


@attempt(
    ATTEMPTS, appeared("temporary/../left-{mark}"), has_temporary_files, after=True, blind=True
)
def file_in_tmp(stage: Stage) -> None:
    """Leaves a file in /tmp, where programs of others look."""
    (stage.temporary.parent / f"left-{stage.facts['mark']}").write_text("planted")


@attempt(
    ATTEMPTS,
    lambda outside, name: Path(f"/dev/shm/left-{outside.facts['mark']}").exists(),
    has_temporary_files,
    after=True,
    blind=True,
)
def file_in_shared_memory(stage: Stage) -> None:
    """Leaves a file in /dev/shm."""
    Path(f"/dev/shm/left-{stage.facts['mark']}").write_text("planted")


@attempt(
    ATTEMPTS,
    lambda outside, name: outside.key_is_left(name),
    has_temporary_files,
    after=True,
    blind=True,
)
def key(stage: Stage) -> None:
    """Leaves a key in the keyring of the user. keyrings(7)"""
    serial = kernel_calls.call(
        "add_key",
        kernel_calls.text("user"),
        kernel_calls.text(f"left-{stage.facts['mark']}"),
        kernel_calls.text("payload"),
        7,
        -4,
    )
    stage.take(str(serial))


@attempt(
    ATTEMPTS,
    lambda outside, name: outside.mount_is_left(),
    has_temporary_files,
    after=True,
    persons=ROOT,
    blind=True,
)
def mount(stage: Stage) -> None:
    """Leaves a mount over a folder of the workspace."""
    (stage.work / "mounted").mkdir()
    text = kernel_calls.text
    kernel_calls.call("mount", text("none"), text(str(stage.work / "mounted")), text("tmpfs"), 0, 0)


@attempt(
    ATTEMPTS,
    lambda outside, name: outside.cgroup_is_left(),
    waits_for_a_child,
    after=True,
    persons=ROOT,
    blind=True,
    needs=lacking("/sys/fs/cgroup/freezer/cgroup.procs"),
)
def cgroup(stage: Stage) -> None:
    """Goes into a cgroup of its own making, where no list of the sandbox's would find it."""
    folder = Path(f"/sys/fs/cgroup/freezer/left-{stage.facts['mark']}")
    folder.mkdir()
    (folder / "cgroup.procs").write_text(str(os.getpid()))


assert Outside
