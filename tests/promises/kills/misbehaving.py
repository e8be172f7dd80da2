"""Tools that go wrong at one moment (the function) in one way (the variable HOW).

Copied into a workspace: it runs in a worker, inside the walls, on the worker's real pipes.
"""

import fcntl
import os
import signal
import stat
import time

from sandbox_agent import CancelToken

REALLY_EXIT = os._exit

HALF_A_FRAME = b"\x00\x00\xff\xffhalf"
"""A header that announces 65535 bytes, and four of them."""


def say(text: str) -> None:
    os.write(1, text.encode())


def wait_outside() -> None:
    """Until the test writes to the named pipe, or a signal's handler raises."""
    say("now")
    with open("go", "rb", buffering=0) as go:
        go.read(1)


def go_wrong() -> None:
    how = os.environ["HOW"]
    if how == "exit":
        REALLY_EXIT(3)
    elif how == "exception":
        raise RuntimeError("gone wrong")
    elif how == "SIGKILL":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "SIGSTOP":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif how == "hang":
        time.sleep(300)
    elif how == "out of memory":
        eaten = []
        while True:
            eaten.append(bytearray(16 << 20))  # until RLIMIT_DATA says no
    elif how == "from outside":
        wait_outside()


def outbox() -> int:
    """The pipe to the host: the one that this process may write to and that is no standard one."""
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        try:
            is_pipe = stat.S_ISFIFO(os.fstat(fd).st_mode)
            writable = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY
        except OSError:
            continue  # of the listing itself
        if fd > 2 and is_pipe and writable:
            return fd
    raise LookupError("no outbox")


def mid_frame() -> str:
    say("half ")
    os.write(outbox(), HALF_A_FRAME)
    go_wrong()
    return "whole"


def mid_output() -> str:
    say("half ")
    go_wrong()
    return "whole"


def after_flag(token: CancelToken) -> str:
    say("half ")
    token.wait()
    go_wrong()
    return "whole"


def after_term(token: CancelToken) -> str:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCONT})
    try:
        say("half ")
        token.wait()
        time.sleep(300)
    finally:
        signal.sigwait({signal.SIGCONT})  # it follows SIGTERM, and would undo a SIGSTOP
        go_wrong()
    return "whole"


def at_exit() -> str:
    say("half ")
    if os.environ["HOW"] == "from outside":
        wait_outside()  # from here on the test keeps the host from reading the result
    os._exit = _exit
    return "whole"


def _exit(code: int) -> None:
    """In the place of os._exit, which the worker calls when its result is sent."""
    try:
        if os.environ["HOW"] == "from outside":
            open("exiting", "x").close()
            with open("go", "rb", buffering=0) as go:
                go.read(1)
        else:
            go_wrong()
    finally:
        REALLY_EXIT(code)
