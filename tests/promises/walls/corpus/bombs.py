"""Class: bombs. The limits of the policy are small, so the attacks are cheap: they stop by
themselves a little over them.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import mmap
import os
import resource
import signal
import socket
import struct
import tempfile
import threading
import time
from typing import Any

from . import kernel_calls
from .attempt import ROOT, USER, Attempt, Stage, another_user, attempt, lacking
from .outside import Outside, has_capability, host_cannot, lasting, process_file

ATTEMPTS: list[Attempt] = []
MB = 1 << 20
_LIMITS: dict[str, object] = {
    "processes": 64,
    "open_files": 256,
    "file_size": "8MiB",
    "tmp": "16MiB",
    "shm": "16MiB",
    "cpu_time": "1s",
}
POLICY = {"limits": _LIMITS}
ALONE = {"limits": {**_LIMITS, "memory": "96MiB"}}
"""Of attempts that have a sandbox of their own. The others hold a little memory each."""

_FOR_ALL: dict[str, Any] = {"held": True, "persons": USER, "blind": True}
"""Of attempts that take something from all programs of the user."""


def starts_some_processes(stage: Stage) -> None:
    pids = [os.fork() or signal.pause() or os._exit(0) for _ in range(10)]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def starts_some_threads(stage: Stage) -> None:
    some = [threading.Thread(target=time.sleep, args=(0.01,)) for _ in range(10)]
    for one in some:
        one.start()
    for one in some:
        one.join()


def uses_some_memory(stage: Stage) -> None:
    assert len(bytearray(b"x") * (20 * MB)) == 20 * MB


def writes_some_of(folder: str) -> object:
    def write(stage: Stage) -> None:
        with tempfile.TemporaryFile(dir=os.path.expanduser(folder)) as file:
            file.write(bytes(4 * MB))

    return write


def opens_some_files(stage: Stage) -> None:
    for one in [os.dup(1) for _ in range(100)]:
        os.close(one)


def computes(stage: Stage) -> None:
    assert sum(range(100000)) == 4999950000


def talks_through_pipes(stage: Stage) -> None:
    for _ in range(4):
        read, write = os.pipe()
        assert fcntl.fcntl(write, 1032) == 65536  # F_GETPIPE_SZ
        os.close(read)
        os.close(write)


def sends_a_descriptor(stage: Stage) -> None:
    one, other = socket.socketpair()
    socket.send_fds(one, [b"x"], [1])
    assert socket.recv_fds(other, 1, 1)[1]


def sets_a_timer(stage: Stage) -> None:
    signal.setitimer(signal.ITIMER_REAL, 1000)
    signal.setitimer(signal.ITIMER_REAL, 0)


def watches(stage: Stage) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.inotify_init() > 0


def lasts(proof: Any) -> Any:
    """Still so after a second: an ordinary user's memory is looked at ten times a second."""

    def look(outside: Outside, name: str) -> bool:
        deadline = time.monotonic() + 1
        while proof(outside, name):
            if time.monotonic() > deadline:
                return True
            time.sleep(0.02)
        return False

    return look


def resident(least: int) -> object:
    def look(text: str) -> bool:
        lines = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
        return int(lines.get("VmRSS", "0").split()[0]) * 1024 >= least  # a zombie has none

    return lasting(process_file("status", look))


@attempt(
    ATTEMPTS,
    lambda outside, name: len(outside.held(name)) > 150,
    starts_some_processes,
    held=True,
    blind=True,
    alone=True,
)
def processes(stage: Stage) -> None:
    """Starts processes without end."""
    for _ in range(200):
        if not os.fork():
            signal.pause()


@attempt(
    ATTEMPTS,
    process_file("status", lambda text: int(text.split("\nThreads:\t")[1].split()[0]) > 150),
    starts_some_threads,
    held=True,
    blind=True,
    alone=True,
)
def threads(stage: Stage) -> None:
    """Starts threads without end."""
    stop = threading.Event()
    for _ in range(200):
        threading.Thread(target=stop.wait, daemon=True).start()


def _hold(kept: object) -> None:
    globals().setdefault("_kept", []).append(kept)


@attempt(ATTEMPTS, lasts(resident(190 * MB)), uses_some_memory, held=True, blind=True, alone=True)
def memory(stage: Stage) -> None:
    """Uses memory without end."""
    _hold(bytearray(b"x") * (200 * MB))


@attempt(ATTEMPTS, lasts(resident(190 * MB)), uses_some_memory, held=True, blind=True, alone=True)
def shared_memory(stage: Stage) -> None:
    """Uses memory shared with children, which RLIMIT_DATA does not count. MAP_SHARED"""
    kept = mmap.mmap(-1, 200 * MB)
    for at in range(0, 200 * MB, 4096):
        kept[at] = 1
    _hold(kept)


@attempt(ATTEMPTS, lasts(resident(190 * MB)), uses_some_memory, held=True, blind=True, alone=True)
def memory_files(stage: Stage) -> None:
    """Uses memory by files without a name, in many small ones. memfd_create(2)"""
    for _ in range(50):
        file = os.memfd_create("x")
        os.truncate(file, 4 * MB)
        kept = mmap.mmap(file, 4 * MB)
        kept.write(b"x" * (4 * MB))
        os.close(file)
        _hold(kept)


@attempt(ATTEMPTS, lasts(resident(190 * MB)), uses_some_memory, held=True, blind=True, alone=True)
def shared_segments(stage: Stage) -> None:
    """Uses memory by System V segments. shmget(2)"""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.shmat.restype = ctypes.c_void_p
    segment = kernel_calls.call("shmget", 0, 200 * MB, 0o1600)
    address = libc.shmat(segment, None, 0)
    kernel_calls.call("shmctl", segment, 0, 0)
    ctypes.memset(address, 1, 200 * MB)


@attempt(
    ATTEMPTS,
    lasts(lambda outside, name: outside.memory_of_all(name) > 150 * MB),
    uses_some_memory,
    held=True,
    blind=True,
    alone=True,
)
def memory_of_many(stage: Stage) -> None:
    """Uses 24 MB in each of eight processes, which no limit of one process sees."""
    for _ in range(8):
        if not os.fork():
            _hold(bytearray(b"x") * (64 * MB))
            (stage.work / "loot" / f"{stage.name}-{os.getpid()}").write_text("x")
            signal.pause()
    deadline = time.monotonic() + 5
    while (
        len(list((stage.work / "loot").glob(stage.name + "-*"))) < 8 and time.monotonic() < deadline
    ):
        time.sleep(0.01)


def _fill(folder: str, size: int) -> None:
    """Writes files of 4 MB each, below the limit of one file, and keeps them open."""
    for _ in range(size // (4 * MB)):
        with tempfile.TemporaryFile(dir=folder) as file:
            _hold(os.dup(file.fileno()))
            file.write(b"x" * (4 * MB))


def _filled(outside: Outside, name: str) -> bool:
    return outside.held_bytes(name) > 32 * MB


@attempt(ATTEMPTS, _filled, writes_some_of("/tmp"), held=True, blind=True)
def temporary_folder(stage: Stage) -> None:
    """Fills /tmp."""
    _fill("/tmp", 48 * MB)


@attempt(ATTEMPTS, _filled, writes_some_of("/dev/shm"), held=True, blind=True)
def shared_memory_folder(stage: Stage) -> None:
    """Fills /dev/shm."""
    _fill("/dev/shm", 48 * MB)


@attempt(ATTEMPTS, _filled, writes_some_of("~"), held=True, blind=True)
def home(stage: Stage) -> None:
    """Fills the home folder."""
    _fill(os.path.expanduser("~"), 48 * MB)


@attempt(ATTEMPTS, _filled, writes_some_of("."), held=True, blind=True)
def disk(stage: Stage) -> None:
    """Fills the disk below the workspace with many files."""
    _fill(str(stage.work), 48 * MB)


@attempt(
    ATTEMPTS,
    lambda outside, name: outside.size("work/large") >= 16 * MB,
    writes_some_of("."),
    held=True,
    blind=True,
)
def large_file(stage: Stage) -> None:
    """Makes one file that is larger than a file may be."""
    with open(stage.work / "large", "wb") as file:
        for _ in range(16):
            file.write(bytes(MB))
            file.flush()


@attempt(
    ATTEMPTS,
    lambda outside, name: outside.size("work/sparse") >= 1 << 30,
    writes_some_of("."),
    held=True,
    blind=True,
)
def sparse_file(stage: Stage) -> None:
    """Makes a file of 1 GiB that takes no room, which a backup would read. ftruncate(2)"""
    with open(stage.work / "sparse", "wb") as file:
        file.truncate(1 << 30)


@attempt(
    ATTEMPTS,
    lambda outside, name: outside.open_descriptors(name) > 400,
    opens_some_files,
    held=True,
    blind=True,
)
def open_files(stage: Stage) -> None:
    """Opens files without end."""
    for _ in range(450):
        os.dup(1)


@attempt(
    ATTEMPTS,
    process_file("limits", lambda text: "9999" in text.split("Max open files")[1].split("\n")[0]),
    opens_some_files,
    held=True,
    persons=ROOT,
    blind=True,
    needs=lambda: has_capability(24),
)
def raise_a_limit(stage: Stage) -> None:
    """Raises its own limit of open files. setrlimit(2)"""
    resource.setrlimit(resource.RLIMIT_NOFILE, (99990, 99990))


@attempt(
    ATTEMPTS, lambda outside, name: outside.cpu_seconds(name) > 2.4, computes, held=True, blind=True
)
def processor_time(stage: Stage) -> None:
    """Computes without end, and ignores the signal that warns of it. RLIMIT_CPU"""
    signal.signal(signal.SIGXCPU, signal.SIG_IGN)
    while time.process_time() < 2.6:
        pass


@attempt(
    ATTEMPTS,
    process_file("status", lambda text: int(text.split("\nVmLck:")[1].split()[0]) > 32 << 10),
    uses_some_memory,
    held=True,
    persons=ROOT,
    blind=True,
)
def locked_memory(stage: Stage) -> None:
    """Locks memory, which the kernel can then never take back. mlock(2)"""
    kept = mmap.mmap(-1, 48 * MB)
    _hold(kept)
    libc = ctypes.CDLL(None, use_errno=True)
    address = ctypes.addressof(ctypes.c_char.from_buffer(kept))
    if libc.mlock(ctypes.c_void_p(address), ctypes.c_size_t(48 * MB)):
        raise OSError(ctypes.get_errno(), "mlock")


@attempt(ATTEMPTS, host_cannot("pipe"), talks_through_pipes, needs=another_user, **_FOR_ALL)
def memory_of_pipes(stage: Stage) -> None:
    """Uses up the pipe buffers of the user, whose other programs then get tiny ones. pipe(7)"""
    for _ in range(110):
        _, write = os.pipe()
        with contextlib.suppress(OSError):  # no more large ones; small ones take the rest
            fcntl.fcntl(write, 1031, MB)  # F_SETPIPE_SZ


@attempt(ATTEMPTS, host_cannot("send_fds"), sends_a_descriptor, needs=another_user, **_FOR_ALL)
def descriptors_in_flight(stage: Stage) -> None:
    """Leaves so many descriptors in sockets that other programs can send none. unix(7)"""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    for _ in range(limit // 200 + 2):
        pair = socket.socketpair()
        _hold(pair)
        try:
            for _ in range(4):
                socket.send_fds(pair[0], [b"x"], [1] * 250)
        except OSError:
            break


@attempt(
    ATTEMPTS,
    process_file("maps", lambda text: "/[aio]" in text),
    talks_through_pipes,
    held=True,
    blind=True,
    needs=lacking("/proc/sys/fs/aio-nr"),
)
def asynchronous_requests(stage: Stage) -> None:
    """Takes asynchronous requests, of which the whole host has a number. io_setup(2)"""
    context = ctypes.c_ulong(0)
    kernel_calls.call("io_setup", 20000, ctypes.byref(context))


@attempt(ATTEMPTS, host_cannot("sigqueue"), sets_a_timer, needs=another_user, **_FOR_ALL)
def queued_signals(stage: Stage) -> None:
    """Uses up the signals that the user's processes may have queued."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGRTMIN])
    info = ctypes.create_string_buffer(struct.pack("3i", signal.SIGRTMIN, 0, -1) + bytes(116))
    while True:
        try:
            kernel_calls.call(
                "rt_tgsigqueueinfo", os.getpid(), threading.get_native_id(), signal.SIGRTMIN, info
            )
        except OSError:
            return


@attempt(ATTEMPTS, host_cannot("inotify"), watches, needs=another_user, **_FOR_ALL)
def watches_of_folders(stage: Stage) -> None:
    """Uses up the user's instances of inotify(7)."""
    libc = ctypes.CDLL(None, use_errno=True)
    while libc.inotify_init() >= 0:
        pass


@attempt(ATTEMPTS, host_cannot("add_key"), uses_some_memory, needs=another_user, **_FOR_ALL)
def keys(stage: Stage) -> None:
    """Uses up the user's quota of keys. keyrings(7)"""
    for number in range(20000):
        try:
            kernel_calls.call(
                "add_key",
                kernel_calls.text("user"),
                kernel_calls.text(f"w{number}"),
                kernel_calls.text("x"),
                1,
                -2,
            )  # KEY_SPEC_PROCESS_KEYRING
        except OSError:
            return


@attempt(ATTEMPTS, host_cannot("mq_open"), uses_some_memory, needs=another_user, **_FOR_ALL)
def message_queues(stage: Stage) -> None:
    """Uses up the user's bytes of message queues. mq_overview(7)"""
    attributes = ctypes.create_string_buffer(struct.pack("4q", 0, 10, 8192, 0) + bytes(32))
    for number in range(1000):
        name = f"walls-{stage.mark}-{number}"
        try:
            opened = kernel_calls.call(
                "mq_open", kernel_calls.text(name), os.O_CREAT | os.O_RDWR, 0o600, attributes
            )
            _hold(opened)
            stage.later(lambda name=name: kernel_calls.call("mq_unlink", kernel_calls.text(name)))
        except OSError:
            return
