"""Proofs: what the host sees of an attempt. They read /proc, files and the kernel's objects, and
never believe what the attack says. Standard library only: attempts name their proofs inside, too.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import select
import shlex
import signal
import socket
import stat
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import host_programs, kernel_calls

Proof = Callable[["Outside", str], bool]


@dataclass
class Outside:
    """The host's side of a stage. run: starts a command as the person who starts the sandbox,
    within the sandbox if `sandboxed`. before: the content of files. commands: of the host, run once
    when the first proof asks for what they did."""

    facts: dict[str, Any]
    canaries: dict[str, bytes]
    run: Callable[..., Any]
    before: dict[str, bytes] = field(default_factory=dict)
    commands: list[str] = field(default_factory=list)
    terminal: Any = None
    sandboxed: bool = False
    log: int = -1

    # Files

    def path(self, name: str) -> Path:
        first, _, rest = name.format(mark=self.facts["mark"]).partition("/")
        base = self.facts.get(first)
        return Path(base, rest) if base else Path(self.facts["folder"], first, rest)

    def loot(self, name: str) -> bytes:
        path = Path(self.facts["work"], "loot", name)
        return path.read_bytes() if path.is_file() else b""

    def mode(self, name: str) -> int:
        with contextlib.suppress(FileNotFoundError):
            return self.path(name).lstat().st_mode
        return 0

    def size(self, name: str) -> int:
        with contextlib.suppress(FileNotFoundError):
            return self.path(name).stat().st_size
        return 0

    def is_device(self, name: str) -> bool:
        return stat.S_ISCHR(self.mode(name))

    def is_locked(self, name: str) -> bool:
        if not self.path(name).exists():
            return False
        with open(self.path(name)) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def is_immutable(self, name: str) -> bool:
        with open(self.path(name)) as file:
            flags = ctypes.c_long()
            fcntl.ioctl(file, 0x80086601, flags)
            if flags.value & 0x10:
                fcntl.ioctl(file, 0x40086602, ctypes.c_long(flags.value & ~0x10))
            return bool(flags.value & 0x10)

    @staticmethod
    def disk() -> int | None:
        """The device of a disk of the host that this process can read."""
        for path in Path("/dev").iterdir():
            with contextlib.suppress(OSError):
                # Loop devices (major 7) come and go.
                if path.is_block_device() and os.major(path.stat().st_rdev) != 7:
                    with open(path, "rb") as file:
                        if any(file.read(4096)):
                            return path.stat().st_rdev
        return None

    @staticmethod
    def head_of(device: int, folder: Path) -> bytes:
        """The first bytes of a disk."""
        node = folder / "a-disk"
        os.mknod(node, 0o60600, device)
        try:
            return node.open("rb").read(4096)
        finally:
            node.unlink()

    # Targets: processes of the host

    def proc(self, name: str, file: str) -> bytes:
        return Path(f"/proc/{self.facts['targets'][name]}/{file}").read_bytes()

    def stat(self, name: str) -> list[bytes]:
        """The fields of /proc/PID/stat from the third on."""
        return self.proc(name, "stat").rpartition(b")")[2].split()

    def io_class(self, name: str) -> int:
        return kernel_calls.call("ioprio_get", 1, self.facts["targets"][name]) >> 13

    def open_files(self, name: str) -> int:
        return int(self.proc(name, "limits").split(b"Max open files")[1].split()[0])

    def in_own_cgroup(self, name: str) -> bool:
        return Path(self.facts["cgroup"]).name.encode() in self.proc(name, "cgroup")

    def has_semaphore(self) -> bool:
        lines = Path("/proc/sysvipc/sem").read_text().splitlines()[1:]
        return str(self.facts["semaphore"]) in [line.split()[1] for line in lines]

    # Processes of the attack, which still stand there

    def held(self, name: str) -> list[int]:
        return self._called(f"{self.facts['token']}:{self.facts['names'].index(name):03}")

    def driver(self) -> int:
        return self._called(f"{self.facts['token']}:drv")[0]

    @staticmethod
    def _called(comm: str) -> list[int]:
        found = []
        for one in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                if Path(f"/proc/{one}/comm").read_text().strip() == comm:
                    found.append(int(one))
        return found

    def descriptors(self, pid: int) -> dict[int, str]:
        found = {}
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for one in os.listdir(f"/proc/{pid}/fd"):
                with contextlib.suppress(FileNotFoundError):
                    found[int(one)] = os.readlink(f"/proc/{pid}/fd/{one}")
        return found

    def held_text(self, name: str, file: str) -> list[str]:
        found = []
        for pid in self.held(name):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                found.append(Path(f"/proc/{pid}/{file}").read_text(errors="replace"))
        return found

    def tree_is_detached(self, name: str) -> bool:
        for pid in self.held(name):
            known = {
                line.split()[0] for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
            }
            for number, target in self.descriptors(pid).items():
                if target.startswith("/"):
                    info = Path(f"/proc/{pid}/fdinfo/{number}").read_text()
                    if info.split("mnt_id:")[1].split()[0] not in known:
                        return True
        return False

    def held_bytes(self, name: str) -> int:
        """What the open files of its processes take on their disks."""
        total = {}
        for pid in self.held(name):
            for number in self.descriptors(pid):
                with contextlib.suppress(OSError):
                    info = os.stat(f"/proc/{pid}/fd/{number}")
                    if stat.S_ISREG(info.st_mode):
                        total[info.st_dev, info.st_ino] = info.st_blocks * 512
        return sum(total.values())

    def open_descriptors(self, name: str) -> int:
        return max((len(self.descriptors(pid)) for pid in self.held(name)), default=0)

    def memory_of_all(self, name: str) -> int:
        total = 0
        for text in self.held_text(name, "status"):
            if "VmRSS:" in text:
                total += int(text.split("RssAnon:")[1].split()[0]) * 1024
        return total

    def cpu_seconds(self, name: str) -> float:
        ticks = [
            sum(map(int, text.rpartition(")")[2].split()[11:13]))
            for text in self.held_text(name, "stat")
        ]
        return max(ticks, default=0) / os.sysconf("SC_CLK_TCK")

    # The kernel's objects

    def has_key(self, name: str) -> bool:
        serial = self.loot(name)
        if not serial:
            return False
        try:
            kernel_calls.call("keyctl", 6, int(serial), 0, 0, 0)  # KEYCTL_DESCRIBE
        except OSError as error:
            return error.errno != errno.ENOKEY
        return True

    def key_is_left(self, name: str) -> bool:
        if not self.has_key(name):
            return False
        self.run(host_programs.forget_key(int(self.loot(name))))
        return True

    def log_has(self, text: str) -> bool:
        found = b""
        with contextlib.suppress(BlockingIOError):
            while True:
                with contextlib.suppress(BrokenPipeError):  # lines were overwritten
                    found += os.read(self.log, 8192)
        self.facts["log"] = self.facts.get("log", "") + found.decode(errors="replace")
        return text in self.facts["log"]

    def _sysv(self, kind: str) -> bool:
        lines = Path(f"/proc/sysvipc/{kind}").read_text().splitlines()[1:]
        found = [line.split() for line in lines if int(line.split()[0]) == self.facts["left_key"]]
        for one in found:
            kernel_calls.call("shmctl" if kind == "shm" else "msgctl", int(one[1]), 0, 0)
        return bool(found)

    def segment_is_left(self) -> bool:
        return self._sysv("shm")

    def queue_is_left(self) -> bool:
        return self._sysv("msg")

    def posix_queue_is_left(self) -> bool:
        try:
            kernel_calls.call("mq_unlink", kernel_calls.text(f"walls-left-{self.facts['mark']}"))
        except FileNotFoundError:
            return False
        return True

    def mount_is_left(self) -> bool:
        place = f"{self.facts['work']}/mounted"
        if place not in Path("/proc/self/mountinfo").read_text():
            return False
        kernel_calls.call("umount2", kernel_calls.text(place), 2)
        return True

    def cgroup_is_left(self) -> bool:
        folder = Path(f"/sys/fs/cgroup/freezer/left-{self.facts['mark']}")
        if not folder.exists():
            return False
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline and folder.exists():
            with contextlib.suppress(OSError):
                folder.rmdir()
        return True


def has_capability(number: int) -> str | None:
    """For `needs`: why this process lacks a capability. capabilities(7)"""
    text = Path("/proc/self/status").read_text()
    if int(text.split("CapEff:\t")[1].split()[0], 16) >> number & 1:
        return None
    return f"root has no capability {number} here"


def loot(key: str) -> Proof:
    """The canary of this name lies in the workspace."""
    return lambda outside, name: outside.canaries[key] in outside.loot(name)


def died(number: signal.Signals) -> Proof:
    """The target ended by this signal; its parent tells by a line."""

    def look(outside: Outside, name: str) -> bool:
        pid = outside.facts["targets"][name]
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            try:
                fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
            except FileNotFoundError:
                return True
            if fields[0] not in (b"Z", b"X"):
                # A signal that was sent is on its way only while it is pending.
                if not _pending(pid, number):
                    return False
            else:
                return int(fields[-1]) & 0x7F == number
            time.sleep(0.001)
        return False

    return look


def _pending(pid: int, number: int) -> bool:
    text = Path(f"/proc/{pid}/status").read_text()
    masks = [int(text.split(f"{key}:\t")[1].split()[0], 16) for key in ("SigPnd", "ShdPnd")]
    return any(mask >> (number - 1) & 1 for mask in masks)


def mended_by(data: bytes) -> Proof:
    """This stands in the target's memory."""

    def look(outside: Outside, name: str) -> bool:
        file = os.open(f"/proc/{outside.facts['targets'][name]}/mem", os.O_RDONLY)
        try:
            return os.pread(file, len(data), outside.facts["address"]) == data
        finally:
            os.close(file)

    return look


def status_of(key: str, wanted: Callable[[str], bool]) -> Proof:
    """A line of the target's /proc/PID/status."""

    def look(outside: Outside, name: str) -> bool:
        text = outside.proc(name, "status").decode()
        return wanted(text.split(f"{key}:\t")[1].split("\n")[0])

    return look


def appeared(path: str) -> Proof:
    return lambda outside, name: os.path.lexists(outside.path(path))


def gone(path: str) -> Proof:
    return lambda outside, name: not os.path.lexists(outside.path(path))


def changed(path: str, content: bytes | None = None) -> Proof:
    """The file has not the content of before, or has `content`."""

    def look(outside: Outside, name: str) -> bool:
        now = outside.path(path).read_bytes() if outside.path(path).exists() else b""
        return now == content if content is not None else now != outside.before[path]

    look.path = path  # type: ignore[attr-defined]
    return look


def holds(text: str) -> Proof:
    """One of its processes has a descriptor of this kind, as the link in /proc names it."""

    def look(outside: Outside, name: str) -> bool:
        links = [link for pid in outside.held(name) for link in outside.descriptors(pid).values()]
        return any(text in link for link in links)

    return look


def holds_socket() -> Proof:
    """One of its processes has a socket that the driver does not have."""

    def look(outside: Outside, name: str) -> bool:
        known = set(outside.descriptors(outside.driver()).values())
        links = [link for pid in outside.held(name) for link in outside.descriptors(pid).values()]
        return any(link.startswith("socket:") and link not in known for link in links)

    return look


def in_namespace(kind: str) -> Proof:
    """One of its processes is in another namespace than the driver."""

    def look(outside: Outside, name: str) -> bool:
        first = os.readlink(f"/proc/{outside.driver()}/ns/{kind}")
        return any(os.readlink(f"/proc/{pid}/ns/{kind}") != first for pid in outside.held(name))

    return look


def mounted(end: str) -> Proof:
    """One of its processes has a mount at a place with this end."""

    def look(outside: Outside, name: str) -> bool:
        lines = [
            line for text in outside.held_text(name, "mountinfo") for line in text.splitlines()
        ]
        return any(line.split()[4].endswith(end) for line in lines)

    return look


def process_file(file: str, wanted: Callable[[str], bool]) -> Proof:
    """A file of /proc/PID of one of its processes."""
    return lambda outside, name: any(map(wanted, outside.held_text(name, file)))


def lasting(proof: Proof) -> Proof:
    """The proof holds two seconds later, too: a watch that looks now and then had its time."""

    def look(outside: Outside, name: str) -> bool:
        deadline = outside.facts.setdefault("watched", time.monotonic() + 2)
        while proof(outside, name):
            if time.monotonic() > deadline:
                return True
            select.select([], [], [], 0.02)
        return False

    return look


def listens(key: str) -> Proof:
    """A program of the host reaches the attack under the address that another service has."""

    def look(outside: Outside, name: str) -> bool:
        value = outside.facts[key]
        one = socket.socket() if isinstance(value, int) else socket.socket(socket.AF_UNIX)
        with one, contextlib.suppress(OSError):
            one.connect(("127.0.0.1", value) if isinstance(value, int) else "\0" + value)
            return True
        return False

    return look


def lives() -> Proof:
    """Something holds the lock of the attempt, also a second after the command has ended: some
    sandboxes end before the last process in them has."""

    def look(outside: Outside, name: str) -> bool:
        deadline = outside.facts.setdefault("settled", time.monotonic() + 1)
        while outside.is_locked(f"work/locks/{name}"):
            if time.monotonic() > deadline:
                return True
            select.select([], [], [], 0.01)
        return False

    return look


def host_cannot(what: str) -> Proof:
    """Another program of the same user on the host cannot do this any more."""

    def look(outside: Outside, name: str) -> bool:
        done = outside.run(host_programs.command(what))
        assert done.returncode in (0, 9), done.stderr
        return bool(done.returncode == 9)

    return look


def ran(*words: str, folder: str = "") -> Proof:
    """git, started in the repository of the attempt on the host, runs what was planted there."""
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.invalid"]
    more = ["--allow-empty", "-qm", "message"] if words[0] == "commit" else []

    def command(outside: Outside, name: str) -> str:
        repository = f"{outside.facts['work']}/repos/{name}/{folder}"
        return shlex.join([*git, "-C", repository, *words, *more])

    def look(outside: Outside, name: str) -> bool:
        if outside.commands:  # all in one shell: it takes a while to become another user
            outside.run(["sh", "-c", "; ".join(outside.commands)])
            outside.commands.clear()
        return outside.path(f"other/ran-{name}").exists()

    look.command = command  # type: ignore[attr-defined]
    return look


def loot_of_next(
    key: str,
    argv: Sequence[str],
    *,
    path: str = "",
    read: Sequence[str] = (),
    python_m: bool = False,
) -> Proof:
    """The next command in the sandbox shows the canary, or the host itself runs what was planted.

    Without a sandbox the next command is a plain one.
    """

    def look(outside: Outside, name: str) -> bool:
        if python_m:
            outside.run(host_programs.own_module(outside.sandboxed))
            return outside.path(f"other/ran-{name}").exists()
        words = [one.format(home=outside.facts["home"]) for one in argv]
        done = outside.run(words, sandboxed=outside.sandboxed, path=path, read=list(read))
        return outside.canaries[key] in done.stdout.encode()

    return look


def tty(what: str, text: str = "") -> Proof:
    """A property of the terminal; see `Terminal`."""

    def look(outside: Outside, name: str) -> bool:
        mark = f"{outside.facts['mark']}{outside.facts['names'].index(name):03}"
        words = (text.format(mark=mark),) if text else ()
        return bool(getattr(outside.terminal, what)(*words))

    return look


class Terminal:
    """A terminal of the host: its master, and a descriptor that the command shares."""

    def __init__(self) -> None:
        self.master, self.slave = os.openpty()
        self.name = os.ttyname(self.slave)
        self.apart = os.open(self.name, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        os.set_blocking(self.master, False)
        self.seen = b""
        self.group = 0

    def close(self) -> None:
        for one in (self.master, self.slave, self.apart):
            os.close(one)

    def pump(self) -> None:
        with contextlib.suppress(BlockingIOError, OSError):
            while True:
                self.seen += os.read(self.master, 65536)

    def shows(self, text: str) -> bool:
        self.pump()
        return text.encode() in self.seen

    input = shows  # what is typed for somebody is echoed

    def echo_is_off(self) -> bool:
        import termios

        return not termios.tcgetattr(self.apart)[3] & termios.ECHO

    def is_small(self) -> bool:
        import termios

        size = fcntl.ioctl(self.apart, termios.TIOCGWINSZ, bytes(8))
        return struct.unpack("4H", size)[:2] == (3, 7)

    def foreground_changed(self) -> bool:
        return os.tcgetpgrp(self.master) != self.group

    def is_exclusive(self) -> bool:
        return bool(
            struct.unpack("i", fcntl.ioctl(self.apart, 0x80045440, bytes(4)))[0]
        )  # TIOCGEXCL

    def does_not_block(self) -> bool:
        return bool(fcntl.fcntl(self.slave, fcntl.F_GETFL) & os.O_NONBLOCK)

    def stands_still(self) -> bool:
        try:
            return os.write(self.apart, b".") == 0
        except BlockingIOError:
            return True
