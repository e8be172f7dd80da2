"""One play: a system starts the agent by its recipe, cancels it, and everything is looked at."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import random
import select
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import observer
import struck
from identity import Person

from pipelines import artifacts, recipes
from pipelines.artifacts import STEP_SUMMARY, Finished, Place
from pipelines.systems import JENKINS_CODE, Start, Step, System, Whom

PATIENCE = 60.0
"""Seconds in which a run must have started, on a machine that does much else."""
NOISE = 20.0
"""Seconds that a busy machine may add to grace and term. What is shown here is that nothing is
left and everything is complete; `scripts/bench` and `scripts/chaos` measure the bound."""


class Phase(StrEnum):
    """When the job is cancelled."""

    CALLS = "calls"
    VERIFY = "verify"
    ANY = "any"
    """At a random instant from the beginning of the record on."""


@dataclass(frozen=True)
class Plan:
    """One play. stubborn: what runs in the foreground ignores INT and TERM too. delay: seconds
    until the cancel, for Phase.ANY."""

    phase: Phase = Phase.CALLS
    stubborn: bool = False
    grace: float = struck.GRACE
    term: float = struck.TERM
    delay: float = 0.0

    @classmethod
    def drawn(cls, draw: random.Random) -> Plan:
        grace, term = (2.0, 1.0) if draw.random() < 0.1 else (struck.GRACE, struck.TERM)
        return cls(
            phase=draw.choice(list(Phase)),
            stubborn=draw.random() < 0.5,
            grace=grace,
            term=term,
            delay=draw.uniform(0, 1.0),
        )


class Job:
    """A script that a system has started. output: what the log of the system would have."""

    def __init__(self, system: System, place: Place, start: Start) -> None:
        self.system = system
        self.place = place
        self.output = b""
        self._start = start
        ours, theirs = pty.openpty() if start.terminal else os.pipe()
        self._ours = ours
        # A file, as no reader of a pipe would be left when the shell is killed while we write.
        with tempfile.TemporaryFile("w+") as stdin:
            stdin.write(start.stdin)
            stdin.seek(0)
            self.entry = place.person.start(
                start.argv,
                env=place.environment,
                stdin=theirs if start.terminal else stdin,
                stdout=theirs,
                stderr=theirs,
                **start.options,
            )
        os.close(theirs)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # EIO: the last one who had the terminal is gone
            while data := os.read(self._ours, 65536):
                self.output += data

    def returned(self, timeout: float) -> bool:
        """Whether the system takes the job for ended within so many seconds."""
        until = time.monotonic() + timeout
        try:
            self.entry.wait(max(0.0, timeout))
        except subprocess.TimeoutExpired:
            return False
        if self._start.waits:
            self._reader.join(max(0.0, until - time.monotonic()))
            return not self._reader.is_alive()
        return True

    def cancel(self) -> list[Step]:
        """Plays the sequence until the job has returned. Returns the steps that were needed."""
        begin = time.monotonic()
        taken = []
        for step in self.system.steps:
            if step.at and self.returned(begin + step.at - time.monotonic()):
                break
            self._take(step)
            taken.append(step)
        if not self.returned(PATIENCE):
            raise AssertionError(f"it has not returned: {self.output.decode(errors='replace')}")
        return taken

    def _take(self, step: Step) -> None:
        pid = self.entry.pid
        below = [one.pid for one in observer.descendants(pid)]
        match step.whom:
            case Whom.ENTRY:
                victims = [pid]
            case Whom.TREE:
                victims = [pid, *below]
            case Whom.BELOW:
                victims = below[::-1]
            case Whom.GROUP:
                victims = [-pid]
            case Whom.KEY:
                os.write(self._ours, b"\x03")
                return
        for victim in victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, step.signal)

    def close(self) -> None:
        """Whatever has happened, nothing of it stays."""
        for one in [*observer.descendants(self.entry.pid)][::-1]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(one.pid, signal.SIGKILL)
        self.entry.kill()
        self.entry.wait()
        self._reader.join(PATIENCE)
        os.close(self._ours)


@dataclass(frozen=True)
class Played:
    """What was seen. code: of sandbox-agent. seconds: from the cancel to the end of the job, or of
    sandbox-agent, if that was later."""

    complaints: list[str]
    code: int | None
    seconds: float
    output: str
    finished: Finished | None = None


def play(system: System, person: Person, plan: Plan, script: str | None = None) -> Played:
    """Plays the system's cancel once. script: in place of the recipe's. Raises AssertionError where
    the run did not even start."""
    marks = [observer.new_mark() for _ in range(1 if plan.phase is Phase.VERIFY else 2)]
    _write_task(person, plan, marks)
    system.prepare(person)
    script = script or recipes.job(system.recipe)
    place = Place(person, system.recipe, script, _environment(system, person))
    with struck.arrivals_pipe(person) as pipe:
        job = Job(system, place, system.start(person, script))
        try:
            pid = _wait_for_the_instant(job, plan, pipe, marks)
            return _cancelled(job, plan, pid, marks)
        finally:
            job.close()


def _environment(system: System, person: Person) -> dict[str, str]:
    more = {"XDG_STATE_HOME": str(person.folder / "state"), **system.environment}
    if "GITHUB_ACTIONS" in more:
        more[STEP_SUMMARY] = str(person.write(person.folder / "step-summary.md", ""))
    if system.name == "pre-commit":
        more["PRE_COMMIT_HOME"] = str(person.folder / "cache")
    return more


def _write_task(person: Person, plan: Plan, marks: list[str]) -> None:
    text = struck.STUBBORN if plan.stubborn else struck.HOSTILE
    final: dict[str, Any] = {"final": "The work is done."}
    turns = [struck.turn_of(text, marks), final]
    verify = []
    if plan.phase is Phase.VERIFY:
        turns, verify = [final], [text.format(mark=mark) for mark in marks]
    person.write(person.work / "steps.yaml", json.dumps(turns))
    task = {
        "version": 1,
        "name": "job",
        "prompt": "Start everything that gets away.",
        "model": "scripted:steps.yaml",
        "tools": ["shell"],
        "interrupt": {"grace": plan.grace, "term": plan.term},
        "verify": verify,
    }
    person.write(person.work / "task.yaml", json.dumps(task))


def _wait_for_the_instant(job: Job, plan: Plan, pipe: int, marks: list[str]) -> int:
    """Returns the pid of sandbox-agent when the instant of the cancel has come."""

    def agent() -> int | None:
        assert not job.returned(0), f"it ended: {job.output.decode(errors='replace')}"
        return job.place.agent_pid()

    pid = observer.eventually(agent, PATIENCE)
    if plan.phase is Phase.ANY:
        select.select([], [], [], plan.delay)  # the instant is what is drawn; nothing is awaited
    else:
        struck.arrived(pipe, pid, marks, lambda: job.output.decode(errors="replace"))
    return pid


def _cancelled(job: Job, plan: Plan, pid: int, marks: list[str]) -> Played:
    limit = plan.grace + plan.term + NOISE
    end = os.pidfd_open(pid)
    try:
        with observer.watching(observer.descendants(job.entry.pid)) as handles:
            begin = time.monotonic()
            steps = job.cancel()
            over = bool(select.select([end], [], [], limit)[0])
            seconds = time.monotonic() - begin
            left = [one for mark in marks for one in observer.marked(mark)]
            # What the runtime keeps for itself is gone a moment after its agent.
            _, lasting = observer.wait_gone(handles, 1.0)
        code = _code(job, pid, end) if over else None
    finally:
        os.close(end)
    complaints = [f"left behind: {one}" for one in {*left, *lasting}]
    complaints += [f"it took SIGKILL, {one.at} s after the cancel" for one in steps if _kills(one)]
    if not over:
        complaints.append(f"sandbox-agent is alive {limit} s after the cancel")
    elif seconds > limit:
        complaints.append(f"it took {seconds:.1f} s; grace, term and noise are {limit} s")
    if plan.stubborn and plan.phase is not Phase.ANY and seconds < plan.grace + plan.term:
        complaints.append(f"it took {seconds:.1f} s: the tools did not have their whole time")
    if code not in job.system.codes:
        complaints.append(f"sandbox-agent ended with {code}, not one of {sorted(job.system.codes)}")
    if job.entry.returncode not in job.system.entry:
        complaints.append(f"what the system started ended with {job.entry.returncode}")
    output = job.output.decode(errors="replace")
    if "Traceback" in output:
        complaints.append("a traceback is in the log")
    finished = None if code is None else Finished(job.place, code, output)
    if finished is not None:
        complaints += artifacts.complaints(finished)
    return Played(complaints, code, seconds, output, finished)


def _kills(step: Step) -> bool:
    return step.signal is signal.SIGKILL


def _code(job: Job, pid: int, end: int) -> int | None:
    """The exit code of sandbox-agent, from whoever was its parent at its end."""
    if pid == job.entry.pid:
        return job.entry.returncode
    if job.system.name == "jenkins":
        return int((job.place.person.folder / JENKINS_CODE).read_text())
    # Its parent has died, so it is ours: we are a subreaper.
    info = os.waitid(os.P_PIDFD, end, os.WEXITED)
    if info is None or info.si_code != os.CLD_EXITED:
        return None if info is None else -info.si_status
    return info.si_status


def missing(system: System) -> str | None:
    """Why this system cannot be played here."""
    if system.needs_root and os.geteuid() != 0:
        return "needs root"
    if system.name == "pre-commit" and shutil.which("git") is None:
        return "needs git"
    return None
