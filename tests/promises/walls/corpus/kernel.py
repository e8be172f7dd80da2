"""Class: kernel surfaces. What the kernel hands out is seen in /proc from outside."""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import signal
import struct
import subprocess
from pathlib import Path

from . import kernel_calls
from .attempt import ROOT, Attempt, Stage, attempt, lacking, unless
from .outside import Outside, holds, in_namespace, loot, mounted, process_file

ATTEMPTS: list[Attempt] = []
POLICY: dict[str, object] = {}
NEWUSER, NEWNS, NEWNET, NEWPID = 0x10000000, 0x20000, 0x40000000, 0x20000000


def x86_64() -> str | None:
    return None if platform.machine() == "x86_64" else "not x86-64"


def polls(stage: Stage) -> None:
    import select

    poll = select.epoll()
    read, write = os.pipe()
    poll.register(read)
    os.write(write, b"x")
    assert poll.poll(5)


def counts_its_time(stage: Stage) -> None:
    import resource
    import time

    assert time.perf_counter_ns() and resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def forks(stage: Stage) -> None:
    assert subprocess.run(["true"]).returncode == 0


def threads(stage: Stage) -> None:
    import threading

    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join()


def sees_its_mounts(stage: Stage) -> None:
    assert "/proc" in Path("/proc/self/mountinfo").read_text()


def asks_its_personality(stage: Stage) -> None:
    now = kernel_calls.call("personality", 0xFFFFFFFF)
    kernel_calls.call("personality", now & 0x8)
    assert subprocess.run(["setarch", "-R", "true"], stderr=subprocess.DEVNULL).returncode in (0, 1)


def runs_a_native_program(stage: Stage) -> None:
    assert subprocess.run(["uname", "-m"], stdout=subprocess.PIPE).stdout.strip()


def makes_a_pipe_node(stage: Stage) -> None:
    os.mkfifo(stage.work / "a-fifo")
    os.mknod(stage.work / "a-file", 0o100600)


def renames(stage: Stage) -> None:
    text = kernel_calls.text
    for name in ("from-1", "from-2"):
        (stage.work / name).write_text(name)
    kernel_calls.call(
        "renameat2",
        -100,
        text(str(stage.work / "from-1")),
        -100,
        text(str(stage.work / "from-2")),
        2,
    )
    assert (stage.work / "from-1").read_text() == "from-2"


def makes_executable(stage: Stage) -> None:
    script = stage.work / "script.sh"
    script.write_text("#!/bin/sh\nexit 0\n")
    script.chmod(0o755)
    assert subprocess.run([script]).returncode == 0


def watches_a_folder(stage: Stage) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.inotify_add_watch(libc.inotify_init(), str(stage.work).encode(), 0x100) > 0


def reads_system_settings(stage: Stage) -> None:
    assert Path("/proc/sys/kernel/ostype").read_text() == "Linux\n"


def uses_its_devices(stage: Stage) -> None:
    assert len(os.getrandom(8)) == 8 and os.stat("/dev/urandom")
    Path("/dev/null").write_text("x")


@attempt(ATTEMPTS, holds("bpf-map"), polls, persons=ROOT, held=True, blind=True)
def bpf(stage: Stage) -> None:
    """Makes a map for programs in the kernel. bpf(2)"""
    kernel_calls.call(
        "bpf", 0, ctypes.create_string_buffer(struct.pack("5I", 2, 4, 8, 1, 0) + bytes(100)), 72
    )


@attempt(
    ATTEMPTS,
    holds("perf_event"),
    counts_its_time,
    held=True,
    blind=True,
    needs=unless(
        [
            ("/proc/sys/kernel/perf_event_paranoid", "3"),
            ("/proc/sys/kernel/perf_event_paranoid", "4"),
        ]
    ),
)
def performance_counter(stage: Stage) -> None:
    """Opens a performance counter of itself. perf_event_open(2)"""
    attribute = ctypes.create_string_buffer(struct.pack("2IQ", 1, 112, 1) + bytes(120))
    # exclude_kernel, exclude_hv: what paranoid = 2 allows to everybody.
    ctypes.c_ulong.from_buffer(attribute, 40).value = 1 << 5 | 1 << 6
    kernel_calls.call("perf_event_open", attribute, 0, -1, -1, 0)


@attempt(
    ATTEMPTS,
    holds("io_uring"),
    polls,
    held=True,
    blind=True,
    needs=unless([("/proc/sys/kernel/io_uring_disabled", "2")]),
)
def io_ring(stage: Stage) -> None:
    """Makes a ring whose operations no filter of system calls sees. io_uring_setup(2)"""
    kernel_calls.call("io_uring_setup", 4, ctypes.create_string_buffer(120))


@attempt(ATTEMPTS, holds("userfaultfd"), counts_its_time, held=True, blind=True)
def page_faults(stage: Stage) -> None:
    """Handles its own page faults, which holds the kernel up. userfaultfd(2)"""
    kernel_calls.call("userfaultfd", 1)  # UFFD_USER_MODE_ONLY


@attempt(
    ATTEMPTS,
    in_namespace("user"),
    forks,
    held=True,
    blind=True,
    needs=unless([("/proc/sys/user/max_user_namespaces", "0")]),
)
def user_namespace(stage: Stage) -> None:
    """Becomes root of a new user namespace. unshare(2)"""
    kernel_calls.call("unshare", NEWUSER)


@attempt(ATTEMPTS, in_namespace("net"), forks, held=True, persons=ROOT, blind=True)
def network_namespace(stage: Stage) -> None:
    """Makes a network namespace of its own. unshare(2)"""
    kernel_calls.call("unshare", NEWNET)


def _child_by_clone(name: str, flags: int) -> None:
    if name == "clone3":
        arguments = ctypes.create_string_buffer(struct.pack("8Q", flags, 0, 0, 0, 17, 0, 0, 0), 64)
        pid = kernel_calls.call("clone3", arguments, 64)
    else:
        pid = kernel_calls.call("clone", flags | 17, 0, 0, 0, 0)
    if not pid:
        signal.pause()
        os._exit(0)


@attempt(
    ATTEMPTS,
    in_namespace("user"),
    threads,
    held=True,
    blind=True,
    needs=lambda: x86_64() or unless([("/proc/sys/user/max_user_namespaces", "0")])(),
)
def user_namespace_by_clone(stage: Stage) -> None:
    """Makes a child that is root of a user namespace. clone(2)"""
    _child_by_clone("clone", NEWUSER)


@attempt(
    ATTEMPTS,
    in_namespace("user"),
    threads,
    held=True,
    blind=True,
    needs=unless([("/proc/sys/user/max_user_namespaces", "0")]),
)
def user_namespace_by_clone3(stage: Stage) -> None:
    """The same by clone3(2), whose flags lie behind a pointer."""
    _child_by_clone("clone3", NEWUSER)


@attempt(ATTEMPTS, mounted("/planted-mount"), sees_its_mounts, persons=ROOT, held=True, blind=True)
def mount(stage: Stage) -> None:
    """Mounts a tmpfs over a folder of the workspace. mount(2)"""
    # In a namespace of its own where it may: nothing is left on the host without a sandbox.
    kernel_calls.call("unshare", NEWNS)
    kernel_calls.call(
        "mount", kernel_calls.text("none"), kernel_calls.text("/"), 0, 1 << 18 | 16384, 0
    )
    folder = stage.work / "planted-mount"
    folder.mkdir(exist_ok=True)
    text = kernel_calls.text
    kernel_calls.call("mount", text("none"), text(str(folder)), text("tmpfs"), 0, 0)


@attempt(ATTEMPTS, holds("[fscontext]"), sees_its_mounts, persons=ROOT, held=True, blind=True)
def file_system_context(stage: Stage) -> None:
    """Prepares a file system in the kernel. fsopen(2)"""
    kernel_calls.call("fsopen", kernel_calls.text("tmpfs"), 0)


@attempt(ATTEMPTS, holds("[fscontext]"), sees_its_mounts, persons=ROOT, held=True, blind=True)
def reconfigured_file_system(stage: Stage) -> None:
    """Takes a mounted file system to configure it anew. fspick(2)"""
    kernel_calls.call("fspick", -100, kernel_calls.text("/dev/shm"), 0)


@attempt(
    ATTEMPTS,
    lambda outside, name: outside.tree_is_detached(name),
    sees_its_mounts,
    persons=ROOT,
    held=True,
    blind=True,
)
def copied_mount(stage: Stage) -> None:
    """Copies a mount, without what covers it. open_tree(2), OPEN_TREE_CLONE"""
    kernel_calls.call("open_tree", -100, kernel_calls.text(str(stage.work)), 1)


@attempt(ATTEMPTS, holds("fanotify"), watches_a_folder, held=True, blind=True)
def watch_whole_file_systems(stage: Stage) -> None:
    """Makes a group of fanotify(7)."""
    kernel_calls.call("fanotify_init", 0x200, os.O_RDONLY)  # FAN_REPORT_FID


@attempt(
    ATTEMPTS, lambda outside, name: outside.has_key(name), counts_its_time, held=True, blind=True
)
def key(stage: Stage) -> None:
    """Stores a key in the kernel. add_key(2)"""
    stage.take(
        str(
            kernel_calls.call(
                "add_key",
                kernel_calls.text("user"),
                kernel_calls.text(f"walls:{stage.mark}"),
                kernel_calls.text("payload"),
                7,
                -1,
            )
        )
    )


@attempt(
    ATTEMPTS,
    process_file("personality", lambda text: int(text, 16) & 0x0400000 != 0),
    asks_its_personality,
    held=True,
    blind=True,
)
def executable_data(stage: Stage) -> None:
    """Makes readable memory executable. personality(2), READ_IMPLIES_EXEC"""
    kernel_calls.call("personality", 0x0400000)


@attempt(
    ATTEMPTS,
    process_file("personality", lambda text: int(text, 16) & 0xFF == 8),
    asks_its_personality,
    held=True,
    blind=True,
)
def other_kernel(stage: Stage) -> None:
    """Asks for the behaviour of a 32-bit kernel, rarely used code. personality(2), PER_LINUX32"""
    kernel_calls.call("personality", 0x0008 | 0x8000000)


@attempt(ATTEMPTS, loot("ldt"), counts_its_time, blind=True, needs=x86_64)
def local_descriptor_table(stage: Stage) -> None:
    """Writes a segment descriptor, and lets the kernel read the table back. modify_ldt(2)"""
    limit = stage.mark_number & 0xFFFF | 0x100
    entry = ctypes.create_string_buffer(struct.pack("4I", 7, 0, limit, 0x51))
    kernel_calls.call("modify_ldt", 0x11, entry, 16)
    table = ctypes.create_string_buffer(64)
    kernel_calls.call("modify_ldt", 0, table, 64)
    if any(table.raw) and struct.unpack_from("<H", table.raw, 56)[0] == limit & 0xFFFF:
        stage.take(f"ldt {struct.unpack_from('<H', table.raw, 56)[0]}")


@attempt(ATTEMPTS, loot("int80"), runs_a_native_program, blind=True, needs=x86_64)
def old_system_calls(stage: Stage) -> None:
    """Makes system calls of 32-bit programs, which a filter for x86-64 does not know. int 0x80"""
    # mov eax, 20 (getpid); int 0x80; ret
    code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(b"\xb8\x14\x00\x00\x00\xcd\x80\xc3")
    address = ctypes.addressof(ctypes.c_char.from_buffer(code))
    pid = ctypes.CFUNCTYPE(ctypes.c_int)(address)()
    if pid == os.getpid():
        stage.take(f"int80 {stage.mark}")


@attempt(
    ATTEMPTS,
    lambda outside, name: outside.is_device("work/whiteout-node"),
    makes_a_pipe_node,
    blind=True,
)
def whiteout(stage: Stage) -> None:
    """Makes a character device 0:0, which hides a name in a later overlay. mknod(2)"""
    os.mknod(stage.work / "whiteout-node", 0o20600, 0)


@attempt(
    ATTEMPTS, lambda outside, name: outside.is_device("work/renamed-from"), renames, blind=True
)
def whiteout_by_rename(stage: Stage) -> None:
    """Leaves such a device behind a rename. renameat2(2), RENAME_WHITEOUT"""
    (stage.work / "renamed-from").write_text("x")
    text = kernel_calls.text
    kernel_calls.call(
        "renameat2",
        -100,
        text(str(stage.work / "renamed-from")),
        -100,
        text(str(stage.work / "renamed-to")),
        4,
    )


@attempt(
    ATTEMPTS,
    lambda outside, name: outside.mode("work/shell") & 0o4000 != 0,
    makes_executable,
    blind=True,
)
def setuid_file(stage: Stage) -> None:
    """Makes a setuid copy of a shell. chmod(2)"""
    (stage.work / "shell").write_bytes(Path("/bin/sh").read_bytes())
    (stage.work / "shell").chmod(0o4755)


@attempt(
    ATTEMPTS,
    lambda outside, name: outside.mode("work/shell-opened") & 0o4000 != 0,
    makes_executable,
    blind=True,
)
def setuid_file_by_open(stage: Stage) -> None:
    """Makes a file that is setuid from the start. open(2)"""
    os.umask(0)
    os.close(os.open(stage.work / "shell-opened", os.O_CREAT | os.O_WRONLY, 0o4755))


@attempt(
    ATTEMPTS,
    lambda outside, name: outside.log_has("sysrq: HELP"),
    reads_system_settings,
    persons=ROOT,
    blind=True,
    needs=lacking("/proc/sysrq-trigger", "/dev/kmsg"),
)
def magic_key(stage: Stage) -> None:
    """Gives the kernel a command of the magic SysRq key."""
    Path("/proc/sysrq-trigger").write_text("h")


@attempt(
    ATTEMPTS,
    lambda outside, name: outside.log_has(outside.facts["mark"] + "-planted"),
    uses_its_devices,
    persons=ROOT,
    blind=True,
    needs=lacking("/dev/kmsg"),
)
def kernel_log_written(stage: Stage) -> None:
    """Writes a line into the kernel's log."""
    try:
        os.mknod(stage.work / "kmsg", 0o20600, os.makedev(1, 11))
        path = stage.work / "kmsg"
    except OSError:
        path = Path("/dev/kmsg")
    path.write_text(f"{stage.facts['mark']}-planted\n")


@attempt(
    ATTEMPTS,
    holds("/dev/fuse"),
    uses_its_devices,
    persons=ROOT,
    held=True,
    blind=True,
    needs=lacking("/dev/fuse"),
)
def file_system_of_its_own(stage: Stage) -> None:
    """Opens /dev/fuse, the door to file systems that a program answers for."""
    os.open("/dev/fuse", os.O_RDWR)


@attempt(
    ATTEMPTS,
    holds("/dev/loop-control"),
    uses_its_devices,
    persons=ROOT,
    held=True,
    blind=True,
    needs=lacking("/dev/loop-control"),
)
def loop_devices(stage: Stage) -> None:
    """Opens the control of loop devices."""
    os.open("/dev/loop-control", os.O_RDWR)


@attempt(
    ATTEMPTS,
    process_file("status", lambda text: "\nNoNewPrivs:\t0" in text),
    forks,
    held=True,
    blind=True,
)
def new_privileges(stage: Stage) -> None:
    """Is a process that setuid programs would make mightier."""
    os.stat("/")


@attempt(
    ATTEMPTS,
    process_file("status", lambda text: "\nSeccomp:\t0" in text),
    forks,
    held=True,
    blind=True,
)
def unfiltered(stage: Stage) -> None:
    """Is a process whose system calls nothing filters."""
    os.stat("/")


@attempt(
    ATTEMPTS,
    process_file(
        "status",
        lambda text: (
            "\nCapEff:\t0000000000000000" not in text or "\nCapBnd:\t0000000000000000" not in text
        ),
    ),
    forks,
    persons=ROOT,
    held=True,
    blind=True,
)
def capabilities(stage: Stage) -> None:
    """Has a capability, or may get one from a program. capabilities(7)"""
    os.stat("/")


def settings_survive(outside: Outside, name: str) -> bool:
    return outside.loot(name) == b"written"


@attempt(ATTEMPTS, settings_survive, reads_system_settings, persons=ROOT, blind=True)
def system_setting(stage: Stage) -> None:
    """Writes a setting of the whole system: its present value. sysctl"""
    path = Path("/proc/sys/vm/swappiness")
    path.write_text(path.read_text())
    stage.take("written")
