"""Three ways to an agent: a forked program that embeds the package, and two verbs of the command.

All say what happens as dictionaries: {"say": "event", "event": ..., "call": ..., "at": ...}.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chaos import agent, tools
from chaos.asked import Provider
from chaos.plan import Cause, Phase, Round, Session, Tool
from chaos.strikes import VERIFY_COMMAND

Message = dict[str, Any]
HERE = Path(__file__).resolve().parent
COMMAND_BUDGET = 1.0
"""Seconds of time for commands whose budget is to be spent."""
SCRIPT = ".chaos/lone.sh"
"""What `exec` runs, in the workspace."""


class Gone(Exception):
    """The agent said nothing more: it has ended, or hangs."""


class Door:
    """What they have in common. pid: the agent's, a child of ours that nobody else waits for."""

    pid: int

    def __init__(self) -> None:
        self.heard: list[Message] = []
        self.ended = False
        self._pending = b""
        self._fd = -1

    def _take(self, line: bytes) -> Message | None:
        raise NotImplementedError

    def listen(self, deadline: float) -> bool:
        """Hear what there is, waiting until `deadline` for it. False when nothing came."""
        poller = select.poll()
        poller.register(self._fd, select.POLLIN)
        if not poller.poll(max(0.0, deadline - time.monotonic()) * 1000):
            return False
        data = os.read(self._fd, 1 << 20)
        if not data:
            self.ended = True
            return False
        *lines, self._pending = (self._pending + data).split(b"\n")
        self.heard += filter(None, map(self._take, lines))
        return True

    def wait(self, found: Callable[[Message], bool], timeout: float, since: int = 0) -> Message:
        """The first message since number `since` that is the one. Raises Gone."""
        deadline = time.monotonic() + timeout
        while True:
            for message in self.heard[since:]:
                if found(message):
                    return message
            since = len(self.heard)
            if self.ended or (not self.listen(deadline) and time.monotonic() >= deadline):
                raise Gone

    def ask(self, what: str, **more: Any) -> Message:
        raise NotImplementedError

    def go_on(self) -> None:
        """Let the agent go to its next round."""

    def close(self) -> None:
        raise NotImplementedError

    def await_death(self, timeout: float) -> bool:
        """Reap the agent; False when it lives on."""
        handle = os.pidfd_open(self.pid)
        try:
            poller = select.poll()
            poller.register(handle, select.POLLIN)
            if not poller.poll(timeout * 1000):
                return False
            _, status = os.waitpid(self.pid, 0)
            self.exit_code = os.waitstatus_to_exitcode(status)
            return True
        finally:
            os.close(handle)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(self.pid, signal.SIGKILL)
            self.await_death(10)


class Embedded(Door):
    """A forked agent, for all rounds of a session."""

    def __init__(self, session: Session, folder: Path, provider: Provider | None) -> None:
        super().__init__()
        self.pid, self._sock = agent.fork(session, folder, provider)
        self._fd = self._sock.fileno()

    def _take(self, line: bytes) -> Message | None:
        message: Message = json.loads(line)
        if message["say"] == "bug":
            raise RuntimeError(f"the agent failed: {message['trace']}")
        return message

    def _order(self, **order: Any) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._sock.sendall(json.dumps(order).encode() + b"\n")

    def ask(self, what: str, **more: Any) -> Message:
        since = len(self.heard)
        self._order(do=what, **more)
        return self.wait(lambda m: m["say"] == "struck", 20, since)

    def go_on(self) -> None:
        self._order(do="next")

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()


class Command(Door):
    """A verb of the command line, for the one round of a session."""

    def __init__(self, words: list[str], folder: Path, stdout: int) -> None:
        super().__init__()
        self._stderr = open(folder / agent.STDERR, "wb")  # noqa: SIM115
        environment = {k: v for k, v in os.environ.items() if k != "SANDBOX_AGENT_CHAOS"}
        self.began = time.monotonic()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "sandbox_agent", *words],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=self._stderr,
            cwd=folder,
            env=environment,
        )
        os.close(stdout)
        self.pid = self._process.pid

    def _take(self, line: bytes) -> Message | None:
        event = json.loads(line)
        if "event" not in event:
            return None
        return {
            "say": "event",
            "event": event["event"],
            "call": event.get("call"),
            "at": event["monotonic"],
            "final": event.get("final"),
        }

    def await_death(self, timeout: float) -> bool:
        gone = super().await_death(timeout)
        if gone:
            self._process.returncode = self.exit_code
        return gone

    def hang_up(self) -> None:
        """Read nothing more."""
        os.close(self._fd)
        self._fd, self.ended = -1, True

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._stderr.close()


class Run(Command):
    """`run`, whose events come with --json."""

    def __init__(self, plan: Round, folder: Path) -> None:
        read, write = os.pipe2(os.O_CLOEXEC)
        # A reader that stops reading is met soon.
        size = 4096 if plan.cause is Cause.SLOW_READER else 1 << 20
        fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, size)
        super().__init__(["run", "--json", str(_write_task(plan, folder))], folder, write)
        self._fd = read


class Exec(Command):
    """`exec`, whose events are those of its journal: it has no --json."""

    def __init__(self, plan: Round, folder: Path) -> None:
        runs = folder / "runs"
        [use] = plan.uses
        times = ["--grace", f"{plan.times[0]}s"]
        words = ["exec", "--out", str(runs), "--workspace", "work", *times, "--", "sh", SCRIPT]
        # Not as an argument: who is looked for by the mark is what the command starts.
        (folder / "work" / SCRIPT).write_text(tools.shell_text(use.mark, use.brief))
        stdout = os.open(folder / "stdout", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        super().__init__(words, folder, stdout)
        self._runs = runs

    def listen(self, deadline: float) -> bool:
        while True:
            # Before the journal is read: it says nothing more after its writer's end.
            flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
            is_over = os.waitid(os.P_PID, self.pid, flags) is not None
            if data := self._read():
                *lines, self._pending = (self._pending + data).split(b"\n")
                self.heard += filter(None, map(self._take, lines))
                return True
            self.ended = is_over
            if is_over or time.monotonic() > deadline:
                return False
            time.sleep(0.0005)  # between looks: a file's growth wakes nobody

    def _read(self) -> bytes:
        if self._fd < 0:
            for journal in self._runs.glob("*/journal.jsonl"):
                self._fd = os.open(journal, os.O_RDONLY | os.O_CLOEXEC)
        return os.read(self._fd, 1 << 20) if self._fd >= 0 else b""


def door_to(session: Session, folder: Path, provider: Provider | None) -> Door:
    """The way to the agent of a session, which begins with this."""
    first = session.rounds[0]
    if first.command:
        return Exec(first, folder) if first.lone else Run(first, folder)
    return Embedded(session, folder, provider)


def _write_task(plan: Round, folder: Path) -> Path:
    """A task file and its steps. JSON is YAML."""
    for source, name in (("tools.py", "chaos_tools.py"), ("slow.py", "chaos_slow.py")):
        shutil.copy(HERE / source, folder / "work" / name)
    calls = [dict([agent.tool_call(use)]) for use in plan.uses]
    steps: list[dict[str, Any]] = [{"calls": calls}, {"final": "Done."}]
    if plan.phase is Phase.GAP:
        steps.insert(1, {"calls": [{"shell": {"command": "true"}}]})
    (folder / "steps.yaml").write_text(json.dumps(steps))
    used = {use.tool for use in plan.uses}
    names = [f"chaos_tools:{tool}" for tool in sorted(used - {Tool.SHELL, Tool.SLOW_IMPORT})]
    names += ["chaos_slow:slow_import"] * (Tool.SLOW_IMPORT in used)
    task: dict[str, Any] = {
        "version": 1,
        "name": "chaos",
        "prompt": "Do your worst.",
        "model": "scripted:steps.yaml",
        "workspace": {"path": str(folder / "work")},
        "tools": ["shell", *names],
        "interrupt": {"grace": plan.times[0], "term": plan.times[1]},
        "parallel": plan.parallel,
        "verify": [VERIFY_COMMAND],
        "output": {"dir": str(folder / "runs")},
    }
    if plan.cause is Cause.TIMEOUT:
        task["sandbox"] = {"limits": {"timeout": plan.long}}
    if plan.cause is Cause.BUDGET:
        task["budgets"] = {"time": COMMAND_BUDGET}
    path = folder / "task.yaml"
    path.write_text(json.dumps(task))
    return path
