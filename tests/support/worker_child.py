"""Runs a worker's function in a forked child, with a real token over a real board."""

from __future__ import annotations

import gc
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any, NoReturn

import msgspec
import observer
import psutil
from sandbox_agent_ipc.board import Board
from sandbox_agent_ipc.board_view import BoardView
from sandbox_agent_ipc.cancel_reason import CancelReason
from sandbox_agent_ipc.token import CallToken, Cancelled
from sandbox_agent_sandbox.inside.worker.main import POKE, POKE_INTERVAL

PATIENCE = 20.0
"""Seconds until a test gives up waiting for an event. Never a synchronisation."""


class Ended(msgspec.Struct):
    """How the function ended: what it returned, or the name and message of what it raised."""

    value: Any = None
    raised: str = ""
    message: str = ""


class WorkerChild:
    """`with WorkerChild(lambda token: shell("true", token=token)) as child: child.ended()`."""

    def __init__(self, function: Callable[[CallToken], object]) -> None:
        self._board = Board()
        self._slot = self._board.claim("call", 0)
        self._wake, self._waker = os.pipe()
        self._output, output = os.pipe()
        self._answer, answer = os.pipe()
        self.output = b""
        self._terminated = False
        self.pid = os.fork()
        if self.pid == 0:
            self._child(function, output, answer)
        os.close(output)
        os.close(answer)

    def cancel(self, reason: CancelReason = CancelReason.INTERRUPT) -> None:
        """Raise the flag, then wake: in the host's order."""
        self._slot.cancel(reason)
        os.write(self._waker, b"!")

    def wake_for_nothing(self) -> None:
        """Wake without the flag, as nobody but a stranger does; return when it has been noticed."""
        before = self._sleeps()
        os.write(self._waker, b"!")
        end = time.monotonic() + PATIENCE
        while self._sleeps() == before:
            assert time.monotonic() < end, "the wake-up was not noticed"
            time.sleep(0.001)

    def _sleeps(self) -> int:
        """How often the child's main thread has gone to sleep. proc_pid_status(5)."""
        with open(f"/proc/{self.pid}/status", encoding="ascii") as file:
            [count] = [line.split()[1] for line in file if line.startswith("voluntary_ctxt")]
        return int(count)

    def hang_up(self) -> None:
        """Close the wake pipe, as a dead host does."""
        os.close(self._waker)
        self._waker = -1

    def terminate(self) -> None:
        """SIGTERM and, while its end is waited for, what a call's init sends after it: it may have
        come between Python's last look and a system call that sleeps, see `POKE`."""
        os.kill(self.pid, signal.SIGTERM)
        self._terminated = True

    def until(self, text: bytes) -> bytes:
        """Wait until standard output or error held this text; all output so far."""
        end = time.monotonic() + PATIENCE
        while text not in self.output:
            if not select.select([self._output], [], [], max(0, end - time.monotonic()))[0]:
                raise AssertionError(f"{text!r} did not come; output: {self.output!r}")
            data = os.read(self._output, 65536)
            if not data:
                raise AssertionError(f"the output ended without {text!r}: {self.output!r}")
            self.output += data
        return self.output

    def until_running(self, program: str) -> None:
        """Wait until a process below executes this program. A shell that has printed may not have
        started its next command: bash(1) runs a trap after the command that it waits for, and a
        signal before the fork reaches only the shell, which then waits for the whole command."""
        observer.eventually(
            lambda: [p for p in observer.descendants(self.pid) if p.command.startswith(program)],
            PATIENCE,
        )

    def ended(self) -> Ended:
        """Wait for the function's end, then take the output that is there."""
        data = b""
        end = time.monotonic() + PATIENCE
        while True:
            left = max(0.0, end - time.monotonic())
            pause = min(left, POKE_INTERVAL) if self._terminated else left
            ready = select.select([self._answer, self._output], [], [], pause)[0]
            if not ready and left and self._terminated:
                with suppress(ProcessLookupError):
                    os.kill(self.pid, POKE)
                continue
            assert ready, f"the function did not end; output: {self.output!r}"
            if self._output in ready:
                self.output += os.read(self._output, 65536)
            if self._answer in ready:
                more = os.read(self._answer, 65536)
                if not more:
                    break
                data += more
        os.set_blocking(self._output, False)
        try:
            while more := os.read(self._output, 65536):
                self.output += more
        except BlockingIOError:
            pass  # something in the background still holds the pipe open
        assert data, f"the child died without an answer; output: {self.output!r}"
        return msgspec.msgpack.decode(data, type=Ended)

    def __enter__(self) -> WorkerChild:
        return self

    def __exit__(self, *_: object) -> None:
        while True:
            mine = [p.pid for p in psutil.Process().children(recursive=True) if self._is_mine(p)]
            if not mine:
                break
            for pid in mine:
                try:
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
                except (ProcessLookupError, ChildProcessError):
                    pass  # not ours to reap until its parent is gone: in the next round
        for fd in (self._wake, self._waker, self._output, self._answer):
            if fd >= 0:
                os.close(fd)
        self._slot.release(True)
        self._board.close()

    def _is_mine(self, process: psutil.Process) -> bool:
        try:
            return os.getsid(process.pid) == self.pid
        except ProcessLookupError:
            return False

    def _child(self, function: Callable[[CallToken], object], output: int, answer: int) -> NoReturn:
        ended = Ended()
        # Of the tests' own heap nothing is collected here. A handler that raises inside a callback
        # of the collector, such as hypothesis has, or inside `__del__` raises nothing.
        gc.callbacks.clear()
        gc.freeze()
        sys.unraisablehook = _say_unraisable
        try:
            os.setsid()
            os.dup2(output, 1)
            os.dup2(output, 2)
            view = BoardView(self._board.fd)
            token = view.token(self._slot.index, self._slot.word, self._wake)
            for fd in (output, self._output, self._answer, self._waker):
                os.close(fd)

            def on_term(number: int, frame: FrameType | None) -> None:
                signal.signal(signal.SIGTERM, lambda *_: None)
                raise Cancelled(token.reason or CancelReason.INTERRUPT)

            signal.signal(POKE, lambda *_: None)
            signal.signal(signal.SIGTERM, on_term)
            returned: list[object] = []
            try:
                returned.append(function(token))
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
            except Cancelled:
                if not returned:  # else SIGTERM came after the function's end, as in `worker.main`
                    raise
            ended.value = msgspec.to_builtins(returned[0])
        except BaseException as error:
            ended.raised, ended.message = type(error).__name__, str(error)
            traceback.print_exc()
        os.write(answer, msgspec.msgpack.encode(ended))
        os._exit(0)


def _say_unraisable(ignored: Any) -> None:
    os.write(2, f"raised nothing: {ignored.exc_value!r} in {ignored.object!r}\n".encode())
