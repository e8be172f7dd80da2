"""A run that is struck by a signal while its tools have everything going that gets away elsewhere.

Each call starts a foreground sleep, one under `nohup &`, one under `setsid &`, one after a double
fork, and one that ignores INT and TERM, and every one of them writes its pid (of its own pid
namespace) to a named pipe in the workspace. Only when all have arrived, and the observer has found
each of them on the host, is the agent struck. Used by the tests and by `scripts/bench`.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import observer
from identity import BIN, Person

GRACE = 0.3
TERM = 0.3
"""Seconds, in the task files made here."""

HOSTILE = """\
say() {{ echo "{mark} $1 $2" > pids.fifo; }}
nohup sleep 301.{mark} >/dev/null 2>&1 &
say nohup $!
setsid sleep 302.{mark} &
say setsid $!
( ( sleep 303.{mark} & say double $! ) & wait )
sh -c 'trap "" INT TERM; echo "{mark} ignorer $$" > pids.fifo; exec sleep 304.{mark}' &
sh -c 'echo "{mark} foreground $$" > pids.fifo; exec sleep 300.{mark}'
"""
STUBBORN = HOSTILE.replace("sh -c 'echo", 'sh -c \'trap "" INT TERM; echo')
"""The same, but what runs in the foreground ignores INT and TERM too: the whole ladder is taken."""

KINDS = frozenset({"nohup", "setsid", "double", "ignorer", "foreground"})
ARRIVAL = 30.0
"""Seconds until the tools must have started."""


@dataclass(frozen=True)
class After:
    """What was seen once the agent had been struck. seconds: from the signal to its exit.

    left: processes of the tools alive when the agent had just been reaped. ours: seconds until
    all that it ever started had ended too (spawner, init, workers). lasting: what had not.
    """

    code: int
    seconds: float
    left: list[observer.Process]
    ours: float
    lasting: list[observer.Process]
    stdout: str
    stderr: str


@dataclass
class Struck:
    """An agent at work. tools: the host's view of what the tools started, by mark and kind."""

    agent: subprocess.Popen[str]
    person: Person
    marks: list[str]
    tools: dict[tuple[str, str], observer.Process] = field(default_factory=dict)

    @cached_property
    def pid(self) -> int:
        """Its own; that of `agent` may be its container's."""
        return self.person.pid_of(self.agent)

    def strike(self, *signals: int, heeded: bool = False, patience: float = 30.0) -> After:
        """Signals the agent's own pid only, as CI systems do, and looks at what remains.

        heeded: the second signal waits until the journal says that the first has been taken.
        """
        everyone = observer.descendants(self.pid)
        known = {process.pid for process in everyone}
        everyone += [one for one in self.tools.values() if one.pid not in known]
        with observer.watching(everyone) as handles:
            begin = time.monotonic()
            for number in signals:
                os.kill(self.pid, number)
                if heeded:
                    observer.eventually(self.was_cancelled, patience)
            out, err = self.agent.communicate(timeout=patience)
            seconds = time.monotonic() - begin
            left = [one for mark in self.marks for one in observer.marked(mark)]
            _, lasting = observer.wait_gone(handles, patience)
            ours = time.monotonic() - begin
        return After(self.agent.returncode, seconds, left, ours, lasting, out, err)

    def kill(self, patience: float = 30.0) -> After:
        """SIGKILL of the agent. `ours` is the time until nothing at all was left."""
        everyone = observer.descendants(self.pid)
        with observer.watching(everyone) as handles:
            begin = time.monotonic()
            os.kill(self.pid, signal.SIGKILL)
            _, lasting = observer.wait_gone(handles, patience)
            ours = time.monotonic() - begin
            out, err = self.agent.communicate(timeout=patience)
        left = [one for mark in self.marks for one in observer.marked(mark)]
        code = self.agent.returncode
        if self.pid != self.agent.pid and code > 128:
            code = 128 - code  # a container exits by itself
        return After(code, ours, left, ours, lasting, out, err)

    @property
    def run_folder(self) -> Path:
        (folder,) = (path for path in (self.person.folder / "runs").iterdir() if path.is_dir())
        return folder

    def was_cancelled(self) -> bool:
        return '"cancel_requested"' in (self.run_folder / "journal.jsonl").read_text()

    def result(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.run_folder / "result.json").read_text())
        return found

    def journal(self) -> list[dict[str, Any]]:
        """Every event; a line that is no JSON, or has no newline, is an error here."""
        text = (self.run_folder / "journal.jsonl").read_text()
        assert text.endswith("\n")
        return [json.loads(line) for line in text.splitlines()]


def write_task(person: Person, turns: list[dict[str, Any]], **more: Any) -> Path:
    """A task file and its steps, beside the workspace. JSON is YAML."""
    folder = person.folder / "task"
    folder.mkdir()
    person.own(folder)
    person.write(folder / "steps.yaml", json.dumps(turns))
    task = {
        "version": 1,
        "name": "struck",
        "prompt": "Start everything that gets away.",
        "model": "scripted:steps.yaml",
        "workspace": {"path": str(person.work)},
        "tools": ["shell"],
        "interrupt": {"grace": GRACE, "term": TERM},
        "output": {"dir": str(person.folder / "runs")},
        **more,
    }
    return person.write(folder / "task.yaml", json.dumps(task))


def turn_of(script: str, marks: Sequence[str]) -> dict[str, Any]:
    return {"calls": [{"shell": {"command": script.format(mark=mark)}} for mark in marks]}


@contextmanager
def at_work(
    person: Person, argv: Sequence[str], marks: list[str], **options: Any
) -> Iterator[Struck]:
    """Starts the agent, and yields when every process of every call has been seen on the host."""
    with arrivals_pipe(person) as handle:
        agent = person.start(argv, **options)

        def ended() -> str:
            out, err = agent.communicate()
            return f"{agent.returncode}\n{out}\n{err}"

        try:
            tools = arrived(handle, agent.pid, marks, ended)
            yield Struck(agent, person, marks, tools)
        finally:
            with agent:
                for process in observer.descendants(agent.pid):  # of a container, its processes
                    with suppress(ProcessLookupError):
                        os.kill(process.pid, signal.SIGKILL)
                agent.kill()


@contextmanager
def arrivals_pipe(person: Person) -> Iterator[int]:
    """The named pipe to which the processes of the calls write. Yields a descriptor of it."""
    pipe = person.work / "pids.fifo"
    os.mkfifo(pipe)
    pipe.chmod(0o666)
    person.own(pipe)
    # For writing as well, so that there is no end of file between two writers.
    handle = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
    try:
        yield handle
    finally:
        os.close(handle)


def arrived(
    handle: int, pid: int, marks: Sequence[str], ended: Callable[[], str]
) -> dict[tuple[str, str], observer.Process]:
    """Waits until every process of the marked calls has been seen on the host, and returns them by
    mark and kind. pid: whose end is an error. ended: what is then told of it."""
    found = {
        (mark, kind): _on_the_host(mark, written)
        for mark, kind, written in _arrivals(handle, pid, len(marks) * len(KINDS), ended)
    }
    assert {kind for _, kind in found} == KINDS
    return found


def _arrivals(
    handle: int, pid: int, wanted: int, ended: Callable[[], str]
) -> Iterator[tuple[str, str, int]]:
    end = os.pidfd_open(pid)
    try:
        poller = select.poll()
        poller.register(handle, select.POLLIN)
        poller.register(end, select.POLLIN)
        deadline = time.monotonic() + ARRIVAL
        text = b""
        while wanted:
            ready = dict(poller.poll(max(0.0, deadline - time.monotonic()) * 1000))
            if handle in ready:
                text += os.read(handle, 65536)
            elif end in ready:
                raise AssertionError(f"the agent ended: {ended()}")
            elif not ready:
                raise AssertionError(f"{wanted} processes did not start in {ARRIVAL} s")
            *lines, text = text.split(b"\n")
            for line in lines:
                mark, kind, written = line.decode().split()
                wanted -= 1
                yield mark, kind, int(written)
    finally:
        os.close(end)


def _on_the_host(mark: str, written: int) -> observer.Process:
    """The observer must see what the tool says it started, or its verdict is worth nothing."""

    def look() -> observer.Process | None:
        for process in observer.marked(mark):
            # Without a pid namespace the last of them is the host's own pid: the same rule.
            if process.namespace_pids[-1] == written and process.command.startswith("sleep "):
                return process
        return None

    # It wrote its pid just before it executed `sleep`; nothing tells others of an exec.
    try:
        return observer.eventually(look, ARRIVAL)
    except AssertionError:
        seen = observer.marked(mark)
        raise AssertionError(f"pid {written} of {mark} is not among {seen}") from None


@contextmanager
def task_at_work(
    person: Person, calls: int = 1, script: str = HOSTILE, grace: float = GRACE, **options: Any
) -> Iterator[Struck]:
    """`sandbox-agent run` with that many hostile calls in parallel. options: of Popen."""
    marks = [observer.new_mark() for _ in range(calls)]
    turns = [turn_of(script, marks), {"final": "This must never be reached."}]
    task = write_task(person, turns, interrupt={"grace": grace, "term": TERM})
    with at_work(
        person, [str(BIN / "sandbox-agent"), "run", str(task)], marks, **options
    ) as struck:
        yield struck


@contextmanager
def command_at_work(person: Person) -> Iterator[Struck]:
    """`sandbox-agent exec` of the same."""
    mark = observer.new_mark()
    argv = [str(BIN / "sandbox-agent"), "exec", "--workspace", str(person.work)]
    argv += ["--grace", str(GRACE), "--out", str(person.folder / "runs"), "--"]
    with at_work(person, [*argv, "sh", "-c", HOSTILE.format(mark=mark)], [mark]) as struck:
        yield struck
