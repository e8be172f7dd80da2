"""Class: terminal. The command is started at a terminal, as people do."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import signal
import struct
import termios

from .attempt import Attempt, Stage, attempt, unless
from .outside import loot, tty

ATTEMPTS: list[Attempt] = []
POLICY: dict[str, object] = {}
AT_A_TERMINAL = True


def prints(stage: Stage) -> None:
    with contextlib.suppress(OSError):
        print("plain words", flush=True)


def has_a_terminal_of_its_own(stage: Stage) -> None:
    master, slave = os.openpty()
    os.write(slave, b"x")
    assert os.read(master, 1) == b"x"
    termios.tcsetattr(slave, termios.TCSANOW, termios.tcgetattr(slave))
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 10, 20, 0, 0))


def starts_a_group(stage: Stage) -> None:
    pid = os.fork()
    if not pid:
        os.setpgid(0, 0)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0


def doors(stage: Stage) -> list[int]:
    """Every way to the terminal that a process may have."""
    found = []
    paths = ["/dev/tty", stage.tty, "/dev/console", "/dev/stdin", "/dev/stdout", "/dev/stderr"]
    paths += [f"/proc/self/fd/{number}" for number in range(10)]
    paths += glob.glob("/proc/[0-9]*/fd/[012]")
    for path in paths:
        with contextlib.suppress(OSError):
            file = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
            if os.isatty(file):
                found.append(file)
            else:
                os.close(file)
    return found


@attempt(ATTEMPTS, tty("shows", "tty-{mark}"), prints, blind=True)
def write_to_the_controlling_terminal(stage: Stage) -> None:
    """Writes to /dev/tty past the output that the host reads."""
    with open("/dev/tty", "w") as file:
        file.write(f"tty-{stage.mark}\n")


@attempt(ATTEMPTS, tty("shows", "named-{mark}"), prints, blind=True)
def write_by_name(stage: Stage) -> None:
    """Writes to the terminal by its name, as write(1) does."""
    file = os.open(stage.tty, os.O_WRONLY | os.O_NOCTTY)
    os.write(file, f"named-{stage.mark}\n".encode())


@attempt(ATTEMPTS, tty("shows", "proc-{mark}"), prints, blind=True)
def write_by_proc(stage: Stage) -> None:
    """Writes to the terminal by a descriptor of any process in /proc."""
    for path in glob.glob("/proc/[0-9]*/fd/[012]"):
        with contextlib.suppress(OSError):
            if os.readlink(path) == stage.tty:
                file = os.open(path, os.O_WRONLY | os.O_NOCTTY)
                os.write(file, f"proc-{stage.mark}\n".encode())


@attempt(ATTEMPTS, loot("typed"), prints, blind=True)
def read_what_is_typed(stage: Stage) -> None:
    """Reads what somebody types at the terminal."""
    file = os.open("/dev/tty", os.O_RDONLY | os.O_NONBLOCK)
    stage.take(os.read(file, 4096))


@attempt(
    ATTEMPTS,
    tty("input", "pushed-{mark}"),
    has_a_terminal_of_its_own,
    blind=True,
    needs=lambda: (
        "only root may, dev.tty.legacy_tiocsti is 0"
        if os.geteuid() and unless([("/proc/sys/dev/tty/legacy_tiocsti", "0")])()
        else None
    ),
)
def push_input(stage: Stage) -> None:
    """Types a command into the terminal, which the user's shell runs later. TIOCSTI"""
    for byte in f"pushed-{stage.mark}\n":
        fcntl.ioctl(doors(stage)[0], termios.TIOCSTI, byte.encode())


@attempt(ATTEMPTS, tty("echo_is_off"), has_a_terminal_of_its_own, held=True, blind=True)
def turn_off_echo(stage: Stage) -> None:
    """Turns off that the terminal shows what is typed. tcsetattr(3)"""
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    for door in doors(stage):
        settings = termios.tcgetattr(door)
        settings[3] &= ~termios.ECHO
        termios.tcsetattr(door, termios.TCSANOW, settings)


@attempt(ATTEMPTS, tty("is_small"), has_a_terminal_of_its_own, held=True, blind=True)
def change_the_size(stage: Stage) -> None:
    """Changes the size of the window, and sends SIGWINCH to the foreground. TIOCSWINSZ"""
    for door in doors(stage):
        fcntl.ioctl(door, termios.TIOCSWINSZ, struct.pack("4H", 3, 7, 0, 0))


@attempt(ATTEMPTS, tty("foreground_changed"), starts_a_group, held=True, blind=True)
def take_the_foreground(stage: Stage) -> None:
    """Makes itself the foreground, which gets Ctrl-C in place of the command. tcsetpgrp(3)"""
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    os.setpgid(0, 0)
    for door in doors(stage):
        with contextlib.suppress(OSError):
            os.tcsetpgrp(door, os.getpid())
    stage.later(lambda: [os.tcsetpgrp(door, os.getppid()) for door in doors(stage)[:1]])


@attempt(ATTEMPTS, tty("does_not_block"), prints, held=True, blind=True)
def make_non_blocking(stage: Stage) -> None:
    """Makes the terminal's own descriptor non-blocking, which breaks the user's shell."""
    for number in (0, 1, 2):
        fcntl.fcntl(number, fcntl.F_SETFL, fcntl.fcntl(number, fcntl.F_GETFL) | os.O_NONBLOCK)


@attempt(ATTEMPTS, tty("stands_still"), has_a_terminal_of_its_own, held=True, blind=True)
def hold_the_output(stage: Stage) -> None:
    """Holds all output to the terminal up, as Ctrl-S does. tcflow(3)"""
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    for door in doors(stage):
        termios.tcflow(door, termios.TCOOFF)
    stage.later(lambda: [termios.tcflow(door, termios.TCOON) for door in doors(stage)])


@attempt(ATTEMPTS, tty("is_exclusive"), has_a_terminal_of_its_own, held=True, blind=True)
def shut_the_terminal(stage: Stage) -> None:
    """Forbids everybody else to open the terminal. TIOCEXCL"""
    for door in doors(stage):
        fcntl.ioctl(door, termios.TIOCEXCL)
    stage.later(lambda: [fcntl.ioctl(door, termios.TIOCNXCL) for door in doors(stage)])
