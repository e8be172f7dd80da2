"""Standard input reaches the command of `exec`, and no more of it than the command reads."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import observer
import pytest
from identity import BIN, Person
from observer import eventually

# Pipes and terminals are the same for every user; `test_exec` passes input on as root.
PERSONS = ["user"]

AGENT = str(BIN / "sandbox-agent")
LIMIT = 30.0


def run(person: Person, argv: list[str], stdin: int) -> subprocess.CompletedProcess[str]:
    return person.run([AGENT, "exec", "--", *argv], stdin=stdin)


Source = Callable[[Path, bytes], int]


def a_file(folder: Path, data: bytes) -> int:
    path = folder / "data"
    path.write_bytes(data)
    return os.open(path, os.O_RDONLY)


def a_pipe(folder: Path, data: bytes) -> int:
    read_end, write_end = os.pipe()
    write_in_background(write_end, data)
    return read_end


def a_non_blocking_pipe(folder: Path, data: bytes) -> int:
    read_end = a_pipe(folder, data)
    os.set_blocking(read_end, False)
    return read_end


def a_socket(folder: Path, data: bytes) -> int:
    here, there = socket.socketpair()
    write_in_background(there.detach(), data)
    return here.detach()


def a_non_blocking_socket(folder: Path, data: bytes) -> int:
    fd = a_socket(folder, data)
    os.set_blocking(fd, False)
    return fd


def write_in_background(fd: int, data: bytes) -> None:
    """A child writes: a thread would hold the descriptor, and with it the end of the data, back."""
    child = os.fork()
    if child == 0:
        with suppress(OSError):
            signal.alarm(60)
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(fd, rest) :]
        os._exit(0)
    os.close(fd)
    threading.Thread(target=os.waitpid, args=(child, 0), daemon=True).start()


SOURCES = [a_file, a_pipe, a_non_blocking_pipe, a_socket, a_non_blocking_socket]


@contextmanager
def started(person: Person, argv: list[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A command that is ended by force where the test fails: it may wait for input for ever."""
    with person.start(argv, **options) as command:
        try:
            yield command
        finally:
            command.kill()


@contextmanager
def opened(source: Source, folder: Path, data: bytes) -> Iterator[int]:
    fd = source(folder, data)
    try:
        yield fd
    finally:
        os.close(fd)


def rest_of(fd: int) -> bytes:
    os.set_blocking(fd, True)
    return b"".join(iter(lambda: os.read(fd, 65536), b""))


@pytest.mark.parametrize("source", SOURCES)
def test_all_of_it_arrives(person: Person, source: Source) -> None:
    data = b"".join(b"%d\n" % number for number in range(50_000))
    with opened(source, person.folder, data) as fd:
        done = run(person, ["cat"], fd)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.encode() == data


@pytest.mark.parametrize("source", SOURCES)
def test_what_the_command_leaves_stays_for_the_next_one(person: Person, source: Source) -> None:
    data = bytes(range(33, 127)) * 1000
    with opened(source, person.folder, data) as fd:
        flags = os.get_blocking(fd)
        assert run(person, ["true"], fd).returncode == 0
        done = run(person, ["dd", "bs=1", "count=7", "status=none"], fd)
        assert done.stdout.encode() == data[:7]
        done = run(person, ["dd", "bs=1000", "count=9", "iflag=fullblock", "status=none"], fd)
        assert done.stdout.encode() == data[7:9007]
        assert os.get_blocking(fd) == flags
        assert rest_of(fd) == data[9007:]


def test_a_loop_that_reads_lines_keeps_them(person: Person) -> None:
    script = f'while read -r line; do echo "$line"; {AGENT} exec -- true; done'
    for text in (f"{script} < list", f"cat list | {script}"):
        person.write(person.work / "list", "one\ntwo\nthree\n")
        assert person.run(["sh", "-c", text]).stdout == "one\ntwo\nthree\n"


def test_the_end_comes_when_the_source_ends_and_the_exit_when_the_command_does(
    person: Person,
) -> None:
    with started(
        person, [AGENT, "exec", "--", "sh", "-c", "cat; read more || exit 9"], stdin=subprocess.PIPE
    ) as agent:
        assert agent.stdin is not None and agent.stdout is not None
        for line in ("first\n", "second\n"):
            agent.stdin.write(line)
            agent.stdin.flush()
            assert agent.stdout.readline() == line
        agent.stdin.close()
        assert agent.wait(LIMIT) == 9
    with started(person, [AGENT, "exec", "--", "true"], stdin=subprocess.PIPE) as agent:
        assert agent.wait(LIMIT) == 0  # our end is open all the while


def test_a_signal_ends_a_command_that_waits_for_input(person: Person) -> None:
    with started(
        person,
        [AGENT, "exec", "--", "sh", "-c", "echo up; cat; echo end of file"],
        stdin=subprocess.PIPE,
    ) as agent:
        assert agent.stdout is not None
        assert agent.stdout.readline() == "up\n"
        agent.send_signal(signal.SIGTERM)
        assert agent.wait(LIMIT) == 143
        assert agent.stdout.read() == ""


@pytest.mark.parametrize("script", ["true", "exec <&-; echo closed >made", "head -c 10 >made"])
def test_a_writer_that_has_more_disturbs_nobody_and_ends_with_the_command(
    person: Person, script: str
) -> None:
    text = f"yes 2>/dev/null | {AGENT} exec -- sh -c '{script}'; echo ${{PIPESTATUS[1]}}"
    done = person.run(["bash", "-c", text])
    assert (done.stdout, done.stderr) == ("0\n", "")


@pytest.mark.parametrize("redirection", ["<&-", "</dev/null", "0>/dev/null"])
def test_without_input_there_is_an_end_of_file(person: Person, redirection: str) -> None:
    done = person.run(["sh", "-c", f"{AGENT} exec -- cat {redirection}"])
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_input_that_cannot_be_read_is_said(person: Person) -> None:
    # A descriptor of /proc/self/mem can be opened, and not read at its first byte: EIO.
    with open("/proc/self/mem", "rb", buffering=0) as memory:
        done = run(person, ["cat"], memory.fileno())
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr == "sandbox-agent: standard input could not be read: Input/output error\n"


def test_the_command_can_open_its_input_for_reading_and_not_the_file_behind_it(
    person: Person,
) -> None:
    kept = person.write(person.work / "kept", "as it was\n")
    script = "cat /dev/stdin; echo changed 1<>/dev/stdin; echo changed >/proc/self/fd/0"
    done = person.run(["sh", "-c", f"{AGENT} exec -- sh -c '{script}' < kept"])
    assert done.stdout == "as it was\n"
    assert kept.read_text() == "as it was\n"


# --- terminals --------------------------------------------------------------------------------


class Terminal:
    """An interactive shell with job control on a terminal."""

    def __init__(self, person: Person) -> None:
        argv = person.command(["bash", "--norc", "--noprofile", "-i"])
        environment = {**person.environment(), "PS1": "ready> ", "TERM": "dumb"}
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            os.chdir(person.work)
            os.execvpe(argv[0], argv, environment)
        self._seen = self.seen = ""
        self.folder = person.work

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def until(self, text: str) -> None:
        """Waits for a text. What comes later is looked for after it."""
        deadline = time.monotonic() + LIMIT
        while text not in self._seen:
            left = deadline - time.monotonic()
            ready = left > 0 and select.select([self._fd], [], [], left)[0]
            assert ready, f"{text!r} did not come: {self._seen!r}"
            self._seen += os.read(self._fd, 65536).decode("utf-8", "replace")
        before, _, self._seen = self._seen.partition(text)
        self.seen = before

    def unread(self) -> int:
        """Bytes of whole lines that nobody has read yet."""
        name = os.readlink(f"/proc/{self.pid}/fd/0")
        fd = os.open(name, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)
        try:
            return int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, b"\0" * 4), sys.byteorder)
        finally:
            os.close(fd)

    def close(self) -> None:
        """End the shell, and wait for what it has started: an agent tidies up."""
        started = observer.descendants(self.pid)
        os.close(self._fd)
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        with observer.watching(started) as handles:
            observer.wait_gone(handles, LIMIT)


@pytest.fixture
def terminal(person: Person) -> Iterator[Terminal]:
    found = Terminal(person)
    try:
        found.until("ready> ")
        yield found
    finally:
        found.close()


def test_lines_that_are_typed_arrive_and_so_does_the_end(terminal: Terminal) -> None:
    script = "echo be''gun; read x; echo got-$x; read y || echo end-of-f''ile"
    terminal.type(f"{AGENT} exec -- sh -c '{script}'\n")
    terminal.until("begun")
    terminal.type("line\n")
    terminal.until("got-line")
    terminal.type("\x04")
    terminal.until("end-of-file")


def test_a_command_in_the_background_leaves_the_terminal_to_the_shell(terminal: Terminal) -> None:
    terminal.type(f"{AGENT} exec -- sh -c 'until [ -e go ]; do sleep 0.05; done; echo e''nded' &\n")
    terminal.until("ready> ")
    for number in range(3):
        terminal.type(f"echo she''ll-{number}\n")
        terminal.until(f"shell-{number}")
    terminal.type("jobs; touch go\n")
    terminal.until("Running")
    terminal.until("ended")


def test_a_command_in_the_background_reads_once_it_is_in_the_foreground(terminal: Terminal) -> None:
    terminal.type(f"{AGENT} exec -- sh -c 'touch begun; read x; echo got-$x' &\n")
    terminal.until("ready> ")
    terminal.type("until [ -e begun ]; do sleep 0.05; done; echo w''aits\n")
    terminal.until("waits")
    terminal.type("fg\n")
    terminal.until("exec")
    terminal.type("line\n")
    terminal.until("got-line")


def test_a_line_that_the_command_does_not_read_is_named(terminal: Terminal) -> None:
    script = "echo be''gun; until [ -e go ]; do sleep 0.05; done; echo o''ver"
    terminal.type(f"{AGENT} exec -- sh -c '{script}'\n")
    terminal.until("begun")
    terminal.type("touch nothing\n")
    terminal.until("touch nothing")
    eventually(lambda: not terminal.unread(), LIMIT)
    (terminal.folder / "go").touch()
    terminal.until("over")
    terminal.until("14 bytes that were typed are lost: the command did not read them")


def test_keys_are_a_pagers_while_it_has_the_terminal(terminal: Terminal) -> None:
    waits = "touch begun; until [ -e go ]; do sleep 0.05; done"
    pager = (
        "stty -icanon -echo min 1 </dev/tty; "
        "until [ -e begun ]; do sleep 0.05; done; echo re''ady; "
        "dd bs=1 count=3 status=none </dev/tty; stty icanon echo </dev/tty; touch go; echo =ke''ys"
    )
    terminal.type(f"{AGENT} exec -- sh -c '{waits}' | sh -c \"{pager}\"\n")
    terminal.until("ready")
    for key in "qzx":
        terminal.type(key)
    terminal.until("qzx")
    terminal.until("=keys")
    terminal.until("ready> ")


def test_background_jobs_that_read_nothing_leave_a_loop_its_list(terminal: Terminal) -> None:
    """With job control, a background job has the list of the loop as its standard input."""
    terminal.type("printf '1\\n2\\n3\\n' > list\n")
    terminal.until("ready> ")
    terminal.type(
        f"while read -r n; do {AGENT} exec -- true & echo rou''nd-$n; sleep 0.3; done < list;"
        " wait; echo fi''nished\n"
    )
    for number in (1, 2, 3):
        terminal.until(f"round-{number}")
    terminal.until("finished")
    assert "round" not in terminal.seen


def test_what_is_typed_after_ctrl_c_is_the_shells(terminal: Terminal) -> None:
    terminal.type(f"{AGENT} exec -- sh -c 'echo be''gun; cat'\n")
    terminal.until("begun")
    terminal.type("\x03")
    terminal.until("^C")
    terminal.until("ready> ")
    terminal.type("echo code-$?\n")
    terminal.until("code-130")
