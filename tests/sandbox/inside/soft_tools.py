"""Tools for the tests of the flag and of SIGTERM. Copied into a workspace; run in a worker."""

import asyncio
import os
import signal
import socket
import subprocess
import threading
import time
from contextlib import contextmanager

from sandbox_agent import CancelToken


def say(text: str) -> None:
    os.write(1, text.encode())


def note(name: str, text: str = "") -> None:
    with open(name, "w") as file:
        file.write(text)


@contextmanager
def noted():
    """`with`, `finally`, and an `except Exception` between: each writes to a file that it ran."""
    with guard():
        try:
            yield
        except Exception as error:
            note("swallowed", repr(error))
        finally:
            note("finally")


@contextmanager
def guard():
    try:
        yield
    finally:
        note("with")


def waits(token: CancelToken) -> str:
    say("up")
    cpu = time.process_time()
    seen = token.wait()
    return f"{seen} {token.reason} {time.process_time() - cpu:.3f}"


def waits_with_timeouts(token: CancelToken) -> str:
    say("up")
    while not token.wait(0.05):
        pass
    return "seen"


def polls(token: CancelToken) -> str:
    say("up")
    while not token.is_cancelled:
        time.sleep(0.001)
    return "seen"


def raises(token: CancelToken) -> str:
    say("up")
    with noted():
        while True:
            time.sleep(0.001)
            token.raise_if_cancelled()


async def awaits() -> str:
    with noted():
        say("up")
        await asyncio.sleep(30)
    return "never"


async def swallows_its_cancellation() -> str:
    with noted():
        say("up")
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            note("cancelled once")
        await asyncio.sleep(30)
    return "never"


def sleeps() -> str:
    with noted():
        say("up")
        time.sleep(30)
    return "never"


def sleeps_while_another_thread_hears() -> str:
    """SIGTERM interrupts a thread that cannot run handlers, and not the main thread, which can."""
    threading.Thread(target=time.sleep, args=(300,), daemon=True).start()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    with noted():
        say("up")
        time.sleep(30)
    return "never"


def spins() -> str:
    with noted():
        say("up")
        while True:
            pass


def waits_for_a_socket() -> str:
    ours, theirs = socket.socketpair()
    with noted(), ours, theirs:
        say("up")
        ours.recv(1)
    return "never"


def waits_for_a_lock() -> str:
    lock = threading.Lock()
    lock.acquire()
    with noted():
        say("up")
        lock.acquire()
    return "never"


def runs_a_command() -> str:
    with noted():
        say("up")
        subprocess.run(["sleep", "300"])
    return "never"


def joins_a_thread() -> str:
    thread = threading.Thread(target=time.sleep, args=(300,), daemon=True)
    thread.start()
    with noted():
        say("up")
        thread.join()
    return "never"


def swallows_all_exceptions() -> str:
    say("up")
    with noted():
        while True:
            try:
                try:
                    time.sleep(30)
                except Exception:
                    note("swallowed")
            except ValueError:
                note("swallowed")


def tidies_up_at_length() -> str:
    try:
        say("up")
        time.sleep(30)
    finally:
        time.sleep(0.1)
        note("tidied")
    return "never"


def waits_for_a_child() -> str:
    """Its child is ended from outside, as by Jenkins and systemd; then it fails by itself."""
    child = subprocess.Popen(["sleep", "300"])
    note("child", str(child.pid))
    say("up")
    status = child.wait()
    raise RuntimeError(f"my child ended with {status}")


_TIDIES = """
trap 'while kill -0 %d 2>/dev/null; do sleep 0.01; done; echo > tidied; exit' TERM
echo up; while :; do sleep 0.05 & wait; done
"""


def leaves_a_child_that_tidies_up() -> str:
    """The child begins with that once this process, which has answered by then, is gone."""
    subprocess.Popen(["sh", "-c", _TIDIES % os.getpid()], start_new_session=True)
    time.sleep(300)
    return "never"
