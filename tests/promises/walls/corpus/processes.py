"""Class: other processes. Each attempt has a process of the host as its target.

The targets are forks of one program of the same person, so the same secret lies at the same address
in each.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
from pathlib import Path

from . import kernel_calls
from .attempt import ROOT, Attempt, Stage, attempt, lacking
from .outside import Outside, died, loot, mended_by, status_of

ATTEMPTS: list[Attempt] = []
POLICY: dict[str, object] = {}
TARGETS = True


def child() -> int:
    """A child that waits for a signal."""
    pid = os.fork()
    if not pid:
        signal.pause()
        os._exit(0)
    return pid


def ends_its_child(stage: Stage) -> None:
    pid = child()
    os.kill(pid, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def ends_its_child_by_pidfd(stage: Stage) -> None:
    pid = child()
    signal.pidfd_send_signal(os.pidfd_open(pid), signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def traces_its_child(stage: Stage) -> None:
    pid = child()
    kernel_calls.call("ptrace", 16, pid, 0, 0)
    os.waitpid(pid, 0)
    kernel_calls.call("ptrace", 17, pid, 0, 0)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def reads_its_childs_memory(stage: Stage) -> None:
    buffer = ctypes.create_string_buffer(b"own secret")
    pid = child()
    try:
        assert _read(pid, ctypes.addressof(buffer), 10) == b"own secret"
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def changes_its_childs_place(stage: Stage) -> None:
    pid = child()
    try:
        slower = min(19, os.getpriority(os.PRIO_PROCESS, pid) + 1)
        os.setpriority(os.PRIO_PROCESS, pid, slower)
        os.sched_setaffinity(pid, {min(os.sched_getaffinity(0))})
        assert os.getpriority(os.PRIO_PROCESS, pid) == slower
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def limits_its_child(stage: Stage) -> None:
    pid = child()
    try:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (20, 20))
        assert resource.prlimit(pid, resource.RLIMIT_NOFILE) == (20, 20)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def shares_memory_with_a_child(stage: Stage) -> None:
    segment = kernel_calls.call("shmget", 0, 4096, 0o1600)
    kernel_calls.call("shmctl", segment, 0, 0)


def _read(pid: int, address: int, size: int) -> bytes:
    buffer = ctypes.create_string_buffer(size)
    here = kernel_calls.Vector(ctypes.cast(buffer, ctypes.c_void_p), size)
    there = kernel_calls.Vector(address, size)
    got = kernel_calls.call(
        "process_vm_readv", pid, ctypes.byref(here), 1, ctypes.byref(there), 1, 0
    )
    return buffer.raw[:got]


@attempt(ATTEMPTS, died(signal.SIGKILL), ends_its_child, blind=True)
def kill_by_number(stage: Stage) -> None:
    """Sends SIGKILL to the number that a process has on the host. kill(2)"""
    os.kill(stage.target, signal.SIGKILL)


@attempt(ATTEMPTS, died(signal.SIGKILL), ends_its_child_by_pidfd, blind=True)
def kill_by_pidfd(stage: Stage) -> None:
    """Opens a pidfd of a process outside and signals that. pidfd_send_signal(2)"""
    signal.pidfd_send_signal(os.pidfd_open(stage.target), signal.SIGKILL)


@attempt(ATTEMPTS, died(signal.SIGKILL), ends_its_child_by_pidfd, blind=True)
def kill_by_proc_folder(stage: Stage) -> None:
    """Uses the descriptor of /proc/PID as a pidfd, for each process that it sees to be outside."""
    wanted = f"{stage.target}".encode()
    for name in os.listdir("/proc"):
        if name.isdigit() and name.encode() == wanted:
            signal.pidfd_send_signal(os.open(f"/proc/{name}", os.O_RDONLY), signal.SIGKILL)


@attempt(ATTEMPTS, died(signal.SIGKILL), ends_its_child, blind=True)
def kill_the_group(stage: Stage) -> None:
    """Signals the process group of a process outside. killpg(3)"""
    os.killpg(stage.target, signal.SIGKILL)


@attempt(ATTEMPTS, died(signal.SIGIO), ends_its_child, blind=True)
def signal_by_a_pipe(stage: Stage) -> None:
    """Makes a process outside the owner of a pipe, whose input then sends it SIGIO. F_SETOWN"""
    import fcntl

    read, write = os.pipe()
    fcntl.fcntl(read, fcntl.F_SETOWN, stage.target)
    fcntl.fcntl(read, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    os.write(write, b"x")


@attempt(ATTEMPTS, died(signal.SIGUSR1), ends_its_child, blind=True)
def queue_a_signal(stage: Stage) -> None:
    """Queues a signal with a forged sender. rt_tgsigqueueinfo(2)"""
    info = ctypes.create_string_buffer(128)
    ctypes.c_int.from_buffer(info, 0).value = signal.SIGUSR1
    ctypes.c_int.from_buffer(info, 8).value = -1  # SI_QUEUE
    kernel_calls.call("rt_tgsigqueueinfo", stage.target, stage.target, signal.SIGUSR1, info)


@attempt(
    ATTEMPTS,
    status_of("TracerPid", lambda value: value != "0"),
    traces_its_child,
    held=True,
    blind=True,
)
def trace(stage: Stage) -> None:
    """Attaches a debugger to a process outside. ptrace(2)"""
    kernel_calls.call("ptrace", 0x4206, stage.target, 0, 0)  # PTRACE_SEIZE


@attempt(ATTEMPTS, loot("memory"), reads_its_childs_memory, blind=True)
def read_memory(stage: Stage) -> None:
    """Reads the memory of a process outside. process_vm_readv(2)"""
    stage.take(_read(stage.target, stage.address, 64))


@attempt(ATTEMPTS, mended_by(b"overwritten"), reads_its_childs_memory, blind=True)
def write_memory(stage: Stage) -> None:
    """Writes into the memory of a process outside. process_vm_writev(2)"""
    buffer = ctypes.create_string_buffer(b"overwritten")
    here = kernel_calls.Vector(ctypes.cast(buffer, ctypes.c_void_p), 11)
    there = kernel_calls.Vector(stage.address, 11)
    kernel_calls.call(
        "process_vm_writev", stage.target, ctypes.byref(here), 1, ctypes.byref(there), 1, 0
    )


@attempt(ATTEMPTS, mended_by(b"through proc"), reads_its_childs_memory, blind=True)
def write_memory_in_proc(stage: Stage) -> None:
    """Writes into /proc/PID/mem."""
    file = os.open(f"/proc/{stage.target}/mem", os.O_WRONLY)
    os.pwrite(file, b"through proc", stage.address)


@attempt(ATTEMPTS, loot("open_file"), reads_its_childs_memory, blind=True)
def take_a_descriptor(stage: Stage) -> None:
    """Copies an open file of a process outside. pidfd_getfd(2)"""
    taken = kernel_calls.call("pidfd_getfd", os.pidfd_open(stage.target), stage.secret_fd, 0)
    stage.take(os.pread(taken, 4096, 0))


@attempt(ATTEMPTS, loot("open_file"), reads_its_childs_memory, blind=True)
def open_a_descriptor(stage: Stage) -> None:
    """Opens a file that is deleted, and open in a process outside, by /proc/PID/fd."""
    stage.take(Path(f"/proc/{stage.target}/fd/{stage.secret_fd}").read_bytes())


@attempt(ATTEMPTS, loot("other"), reads_its_childs_memory, blind=True)
def enter_a_working_folder(stage: Stage) -> None:
    """Goes into another process's working folder by /proc/PID/cwd."""
    os.chdir(f"/proc/{stage.target}/cwd")
    stage.take(Path("notes.txt").read_bytes())


def _nice(outside: Outside, name: str) -> bool:
    return outside.stat(name)[16] == b"19"


def _is_slow() -> str | None:
    """For `needs`: the tests were started with nice(1), and so is what they would make slow."""
    return "the tests have a low priority" if os.nice(0) >= 18 else None


@attempt(ATTEMPTS, _nice, changes_its_childs_place, blind=True, needs=_is_slow)
def make_slow(stage: Stage) -> None:
    """Gives a process outside the lowest priority. setpriority(2)"""
    os.setpriority(os.PRIO_PROCESS, stage.target, 19)


@attempt(
    ATTEMPTS,
    lambda outside, name: outside.stat(name)[16] == b"18",
    changes_its_childs_place,
    blind=True,
    needs=_is_slow,
)
def make_slow_by_group(stage: Stage) -> None:
    """Gives the process group of a process outside a low priority. setpriority(2), PRIO_PGRP"""
    os.setpriority(os.PRIO_PGRP, stage.target, 18)


@attempt(
    ATTEMPTS,
    status_of("Cpus_allowed_list", lambda value: value == "0"),
    changes_its_childs_place,
    blind=True,
)
def move_to_a_cpu(stage: Stage) -> None:
    """Confines a process outside to one processor. sched_setaffinity(2)"""
    os.sched_setaffinity(stage.target, {0})


@attempt(
    ATTEMPTS,
    lambda outside, name: outside.stat(name)[38] == b"5",
    changes_its_childs_place,
    blind=True,
)
def make_idle(stage: Stage) -> None:
    """Gives a process outside the scheduling class for idle time. sched_setscheduler(2)"""
    os.sched_setscheduler(stage.target, os.SCHED_IDLE, os.sched_param(0))


@attempt(
    ATTEMPTS,
    lambda outside, name: outside.io_class(name) == 3,
    changes_its_childs_place,
    blind=True,
)
def starve_of_disk(stage: Stage) -> None:
    """Gives a process outside the idle class for the disk. ioprio_set(2)"""
    kernel_calls.call("ioprio_set", 1, stage.target, 3 << 13)


@attempt(
    ATTEMPTS, lambda outside, name: outside.open_files(name) == 3, limits_its_child, blind=True
)
def limit(stage: Stage) -> None:
    """Sets the limit of open files of a process outside. prlimit(2)"""
    resource.prlimit(stage.target, resource.RLIMIT_NOFILE, (3, 3))


def _oom(outside: Outside, name: str) -> bool:
    return outside.proc(name, "oom_score_adj") == b"999\n"


@attempt(ATTEMPTS, _oom, changes_its_childs_place, blind=True)
def offer_to_the_oom_killer(stage: Stage) -> None:
    """Makes a process outside the first to die of a shortage of memory."""
    Path(f"/proc/{stage.target}/oom_score_adj").write_text("999")


@attempt(
    ATTEMPTS,
    lambda outside, name: outside.proc(name, "coredump_filter") == b"0000017f\n",
    changes_its_childs_place,
    blind=True,
)
def change_its_core_dumps(stage: Stage) -> None:
    """Changes what a core dump of a process outside would hold."""
    Path(f"/proc/{stage.target}/coredump_filter").write_text("0x17f")


@attempt(ATTEMPTS, loot("sysv"), shares_memory_with_a_child, blind=True)
def shared_memory_of_the_host(stage: Stage) -> None:
    """Attaches a shared memory segment of the host. shmat(2)"""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.shmat.restype = ctypes.c_void_p
    address = libc.shmat(stage.shm, None, 0o10000)
    if address == ctypes.c_void_p(-1).value:
        raise OSError(ctypes.get_errno(), "shmat")
    stage.take(ctypes.string_at(address, 64))


@attempt(ATTEMPTS, loot("message"), shares_memory_with_a_child, blind=True)
def message_of_the_host(stage: Stage) -> None:
    """Takes a message out of a queue of the host. msgrcv(2)"""
    buffer = ctypes.create_string_buffer(8 + 256)
    size = kernel_calls.call("msgrcv", stage.queue, buffer, 256, 0, 0o4000)
    stage.take(buffer.raw[8 : 8 + size])


@attempt(
    ATTEMPTS,
    lambda outside, name: not outside.has_semaphore(),
    shares_memory_with_a_child,
    blind=True,
)
def semaphore_of_the_host(stage: Stage) -> None:
    """Removes a semaphore of the host. semctl(2)"""
    kernel_calls.call("semctl", stage.semaphore, 0, 0, 0)


@attempt(
    ATTEMPTS,
    lambda outside, name: outside.in_own_cgroup(name),
    changes_its_childs_place,
    persons=ROOT,
    blind=True,
    needs=lacking("/sys/fs/cgroup/freezer/cgroup.procs"),
)
def move_to_a_cgroup(stage: Stage) -> None:
    """Moves a process outside to another cgroup, where it could be frozen."""
    Path(stage.cgroup, "cgroup.procs").write_text(str(stage.target))
