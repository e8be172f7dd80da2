"""One session: an agent, its rounds, and the verdict on each."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import observer

from chaos import checks, disk, keepers, resuming, strikes
from chaos.agent import STDERR
from chaos.asked import Provider
from chaos.doors import Command, Door, Embedded, Gone, door_to
from chaos.phases import ARRIVAL, MODEL_ARRIVAL, SELF_MADE, arrive
from chaos.plan import AGENT_DIES, KILLS_MODEL, READER, Cause, Phase, Round, Session
from chaos.seen import Seen
from chaos.strikes import Strike, strike, thaw

HANG = 6.0
"""Seconds beyond grace and term after which a round counts as hanging, and is ended by force."""

LEFTOVERS = 2.0
"""Seconds that a brief call may take longer: what it leaves in the background holds its output."""

Verdict = dict[str, Any]


@dataclass
class Umpire:
    """Makes sessions in a folder of its own. Everything that agents start ends up below us, for we
    are a subreaper; whatever is there and should not be is therefore found."""

    folder: Path
    words: set[tuple[Any, Any, Any]] = field(default_factory=set)
    _provider: Provider | None = None

    def play(self, session: Session) -> list[Verdict]:
        """Make the session's rounds. What is left of it in the end is removed."""
        folder = self.folder / f"session-{session.number}"
        work = folder / "work"
        (work / ".chaos").mkdir(parents=True)
        (folder / "runs").mkdir()
        own = contextlib.ExitStack()
        if session.rounds[0].cause is Cause.FREEZE_DISK:
            own.enter_context(disk.mounted(folder / "runs"))
        self.words = set()
        verdicts: list[Verdict] = []
        provider = None
        try:
            first = session.rounds[0]
            _verify_script(first, work)
            provider = self._provider = Provider() if session.asks else None
            door = door_to(session, folder, provider)
            try:
                for plan in session.rounds:
                    verdicts.append(self._round(door, session, plan, folder))
                    if verdicts[-1]["violations"]:
                        break
                    if plan.cause in AGENT_DIES:
                        verdicts[-1]["violations"] += self._resume(folder)
                        break
                else:
                    if isinstance(door, Embedded):
                        verdicts[-1]["violations"] += self._over(door)
                        verdicts[-1]["violations"] += checks.quiet(_stderr(folder))
            finally:
                if not getattr(door, "exit_code", None) is not None:
                    door.kill()
                self._sweep()
                door.close()
        finally:
            if provider is not None:
                provider.close()
            own.close()
            shutil.rmtree(folder, ignore_errors=True)
        return verdicts

    # --- a round -----------------------------------------------------------------------------

    def _round(self, door: Door, session: Session, plan: Round, folder: Path) -> Verdict:
        first, work = session.rounds[0], folder / "work"
        provider = self._provider
        seen = Seen(plan, first.times, first.parallel, work, Strike(), words=self.words)
        seen.asks = session.asks
        since, run_dir = 0, folder
        try:
            if isinstance(door, Embedded):
                begin = door.wait(_begins(plan), ARRIVAL)
                since = door.heard.index(begin)
                seen.began, run_dir = begin["t"], Path(begin["run_dir"])
                seen.skip_lines = _lines(run_dir / "journal.jsonl", plan, session)
            else:
                seen.began = door.began  # type: ignore[attr-defined]
            if plan.cause not in SELF_MADE and arrive(
                door, plan, first.parallel, work, since, provider
            ):
                self._strike(door, seen, since, run_dir)
            self._await_return(door, seen, since)
        except Gone:
            seen.complaints.append("bounded: the agent hung, or ended without a word")
        except RuntimeError as error:
            seen.complaints.append(f"ends: {error}")
        self._collect(door, seen, folder)
        if provider is not None:
            seen.complaints += provider.complaints()
            seen.complaints += checks.secrets(folder / "runs", provider.key)
            seen.requests = provider.requests_of(plan.number, plan.turn)
        thaw(seen.strike)
        seen.complaints += [f"bounded: {note}" for note in seen.strike.notes]
        verdict = _verdict(seen, session)
        _verify_script(_after(session, plan), work)
        if not verdict["violations"]:
            door.go_on()
        return verdict

    def _strike(self, door: Door, seen: Seen, since: int, run_dir: Path) -> None:
        def ask(done: Strike, what: str, **more: Any) -> None:
            if isinstance(door, Command):
                done.at = done.at or time.monotonic()
                with contextlib.suppress(ProcessLookupError):
                    os.kill(door.pid, signal.SIGINT)
                done.flagged = done.flagged or time.monotonic()
                return
            answer = door.ask(what, **more)
            if "Traceback" in str(answer["answer"]):
                seen.complaints.append(f"ends: {what} raised: {answer['answer']}")
            if what == "close" and answer["answer"]:
                seen.complaints.append(f"stopped: close() left {answer['answer']}")
            done.at = done.at or answer["before"]
            # `close()` comes back when all is over; its word counts from the beginning.
            done.flagged = done.flagged or answer["before"]

        def open_calls() -> list[str]:
            mine = [m for m in door.heard[since:] if m["say"] == "event"]
            over = {m["call"] for m in mine if m["event"] == "ended"}
            return [
                m["call"] for m in mine if m["event"] == "dispatching" and m["call"] not in over
            ]

        if isinstance(door, Command):
            run_dir = run_dir / "runs"
            if seen.plan.cause is Cause.READER_GONE:
                door.hang_up()
        seen.strike = strike(seen.plan, door.pid, ask, open_calls, run_dir)

    def _await_return(self, door: Door, seen: Seen, since: int) -> None:
        if seen.plan.cause in AGENT_DIES and seen.strike.at is not None:
            self._await_death(door, seen)
            return
        limit = sum(seen.times) + HANG + (ARRIVAL if seen.strike.at is None else 0)
        limit += LEFTOVERS * sum(use.brief for use in seen.plan.uses)
        if seen.plan.cause in KILLS_MODEL or (seen.asks and seen.strike.at is None):
            limit += MODEL_ARRIVAL  # another one has to import litellm
        if isinstance(door, Command):
            if seen.plan.cause not in READER or seen.strike.at is None:
                with contextlib.suppress(Gone):  # its end of file, or silence
                    door.wait(lambda m: False, limit)
            if not door.await_death(limit):
                raise Gone
            seen.returned, seen.exit_code = time.monotonic(), door.exit_code
            seen.lasting = self._strays(door, seen, alive=False)
            return
        answers = {Cause.CANCEL_CALL, Cause.KILL_INIT, Cause.KILL_SPAWNER}
        if seen.plan.cause in answers:
            try:
                message = door.wait(_returns, 1.0 if seen.strike.at else limit, since)
            except Gone:
                if door.ended:
                    raise
                # A queue of calls that nobody cancelled, or a victim that was none.
                seen.notes.append("interrupted to end it")
                flagged = door.ask("interrupt")["before"]
                seen.strike.flagged = seen.strike.flagged or flagged
                message = door.wait(_returns, limit, since)
        else:
            message = door.wait(_returns, limit, since)
        seen.returned, seen.closed = message["at"], message["closed"]
        seen.status, seen.error = message["status"], message["error"]
        seen.complaints += message["complaints"]
        seen.lasting = self._strays(door, seen, alive=seen.closed is None)

    def _await_death(self, door: Door, seen: Seen) -> None:
        """The agent was killed: how long is anything left of what it started?"""
        assert seen.strike.at is not None
        if not door.await_death(10):
            raise Gone
        together = keepers.STARTER in seen.strike.together  # else no tool can be left
        end = seen.strike.at + (checks.AGENT_BOUND + checks.NOISE if together else HANG)
        while seen.lasting or seen.gone_ms is None:
            # What a look does not find was gone when the look began.
            seen.gone_ms = (time.monotonic() - seen.strike.at) * 1000
            left = self._look(door, seen, alive=False)
            seen.lasting = list(map(_show, left))
            if not left or time.monotonic() > end:
                break
        if seen.lasting and together and not any(map(keepers.is_leaving, left)):
            # Nobody was left to end them. Whoever resumes the run starts a sandbox, which does.
            seen.excepted, seen.lasting, seen.gone_ms = seen.lasting, [], None

    def _strays(self, door: Door, seen: Seen, *, alive: bool) -> list[str]:
        """Who should not be there. A living agent may keep a spawner and its init, and spares that
        no call has taken."""
        found = self._look(door, seen, alive=alive)
        gone = {Cause.KILL_SPAWNER, *KILLS_MODEL}
        if keepers.WITHOUT_NAMESPACES:
            gone.add(Cause.KILL_INIT)  # it is the spawner
        over = all(map(keepers.is_exiting, found))
        kept = alive and (seen.plan.cause in gone or all(map(keepers.is_leaving, found)))
        if found and (over or kept):
            # Init is no process of a call. Orphaned, it is on its way out, in the agent's bound. So
            # is the spawner of a model process whose replacement is being made, and a supervisor
            # that has given the proof: it exits.
            with contextlib.suppress(AssertionError):
                observer.eventually(
                    lambda: not self._look(door, seen, alive=alive), checks.AGENT_BOUND
                )
            left = {one.pid for one in self._look(door, seen, alive=alive)}
            found = [one for one in found if one.pid in left or "sleep" in one.command]
        return list(map(_show, found))

    def _look(self, door: Door, seen: Seen, *, alive: bool) -> list[observer.Process]:
        marks = [use.mark for use in seen.plan.uses]
        everything = observer.everything()
        parents = {process.pid: process for process in everything}
        found = []
        kept, spares = dict.fromkeys(keepers.KEPT, 0), dict.fromkeys(keepers.SPARED, 0)
        own, sandboxes = set(), 1
        if self._provider is not None:
            sandboxes = 2  # the tools' and the model process's, which may have none just now
            own.add(self._provider.pid)
            if alive:
                own.update(process.pid for process in strikes.models_own(door.pid))
        for process in everything:
            above = list(_ancestors(process, parents))
            if any(mark in process.command for mark in marks) and process.pid != os.getpid():
                found.append(process)
            elif os.getpid() in above:
                depth = above.index(door.pid) + 1 if door.pid in above else -1
                if process.pid == door.pid and isinstance(door, Embedded):
                    continue
                if alive and depth in kept:
                    kept[depth] += 1
                    if kept[depth] <= sandboxes:
                        continue
                elif process.pid in own or (alive and keepers.is_reaper(process)):
                    continue
                elif alive and depth in spares:
                    spares[depth] += 1
                    if spares[depth] <= keepers.SPARES:
                        continue
                found.append(process)
        return found

    def _resume(self, folder: Path) -> list[str]:
        """Its agent was killed: somebody goes on with the run."""
        runs = [path for path in (folder / "runs").iterdir() if path.is_dir()]
        if not runs:
            return []
        found = resuming.complaints(max(runs), folder / "work")
        return found + [
            f"stopped: left after a resumed run: {_show(process)}"
            for process in observer.descendants(os.getpid())
            if self._provider is None or process.pid != self._provider.pid
        ]

    def _over(self, door: Embedded) -> list[str]:
        """The end of a session: the agent closes its conversation, and nothing stays."""
        try:
            message = door.wait(lambda m: m["say"] == "over", ARRIVAL)
            begin = door.wait(lambda m: m["say"] == "closed", 0)
            found = list(message["complaints"])
            if begin["t"] - begin["begin"] > 1 + checks.BOUND + checks.NOISE:
                found.append(f"bounded: close() took {begin['t'] - begin['begin']:.2f} s")
        except (Gone, RuntimeError) as error:
            return [f"ends: the agent did not close: {error}"]
        if not door.await_death(ARRIVAL):
            found.append("ends: the agent did not end")
        return found + [
            f"stopped: left after close(): {_show(process)}"
            for process in observer.descendants(os.getpid())
            if self._provider is None or process.pid != self._provider.pid
        ]

    def _collect(self, door: Door, seen: Seen, folder: Path) -> None:
        runs = [path for path in (folder / "runs").iterdir() if path.is_dir()]
        if runs:
            run = max(runs)
            with contextlib.suppress(FileNotFoundError):
                seen.journal = (run / "journal.jsonl").read_bytes()
                seen.record = json.loads((run / "result.json").read_bytes())
        seen.stderr = _stderr(folder)
        seen.read()

    def _sweep(self) -> None:
        """End by force what a broken promise has left, and bury it. Ours alone."""
        for _ in range(3):
            left = observer.descendants(os.getpid())
            for process in left:
                keepers.send(process, signal.SIGKILL)
            with observer.watching(left) as handles:
                observer.wait_gone(handles, 5)
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass


def _verdict(seen: Seen, session: Session) -> Verdict:
    violations = checks.judge(seen)
    plan, phase = seen.plan, seen.phase()
    at = seen.struck_at()
    verdict: Verdict = {
        "round": plan.number,
        "session": session.number,
        "cause": plan.cause,
        "planned": plan.phase,
        "phase": phase,
        "command": plan.command,
        "lone": plan.lone,
        "waits": plan.waits,
        "seconds": round((seen.returned or seen.began) - seen.began, 2),
        "tools": [use.tool for use in plan.uses],
        "hit": _tools_hit(seen, at),
        "in_flight": at is not None and bool(seen.open_calls_at(at)),
        "violations": violations,
        "together": keepers.STARTER in seen.strike.together,
        "excepted": seen.excepted,
        "notes": seen.notes,
        "latency": _latency(seen),
        "rates": checks.rates(seen),
    }
    if violations:
        verdict["events"] = checks.dump(seen.events)
        verdict["stderr"] = seen.stderr[-2000:]
        verdict["plan"] = str(plan)
        verdict["strike"] = str(seen.strike)
        verdict["returned"] = seen.returned
    return verdict


def _tools_hit(seen: Seen, at: float | None) -> list[str]:
    """Tools whose calls were under way when the blow fell; in other phases, that had run."""
    if at is None:
        return []
    sent = {e["call"] for e in seen.of("dispatching") if e["monotonic"] <= at}
    under_way = sent & set(seen.open_calls_at(at))
    calls = {c for c in under_way if c.startswith("call_")} or sent
    return [use.tool for call, use in seen.asked().items() if use is not None and call in calls]


def _latency(seen: Seen) -> dict[str, float]:
    """Milliseconds beyond what the rungs themselves take, from outside: by the last rung taken."""
    if seen.gone_ms is not None:
        return {"agent killed": seen.gone_ms}
    found = {}
    flagged, plan, stopped = seen.flagged_at(), seen.plan, seen.stopped_at()
    usual = plan.cause not in (Cause.INTERRUPT_TWICE, Cause.CLOSE, *checks.SANDBOX)
    if (
        flagged is not None
        and stopped is not None
        and flagged < stopped
        and usual
        and plan.phase is not Phase.SHUTDOWN
    ):
        rungs = [
            end["rung"] for end in seen.of("ended") if end["monotonic"] > flagged and end["rung"]
        ]
        order = ["flag", "term", "kill"]
        last = max(rungs, key=order.index, default="no call")
        due = {"term": seen.times[0], "kill": sum(seen.times)}.get(last, 0.0)
        if last == "no call" and seen.phase() is Phase.MODEL:
            # It heeds the flag at once, or is ended by the SIGTERM after it.
            last = "model stopped" if plan.cause is Cause.STOP_MODEL else "model"
            due = seen.times[0] if plan.cause is Cause.STOP_MODEL else 0.0
        found[last] = (stopped - flagged - due) * 1000
    if plan.command and seen.returned is not None and stopped is not None:
        found["command's own end"] = (seen.returned - stopped) * 1000
    if seen.closed is not None and seen.returned is not None:
        found["close"] = (seen.closed - seen.returned) * 1000
    return found


def _stderr(folder: Path) -> str:
    path = folder / STDERR
    return path.read_text(errors="replace") if path.exists() else ""


def _begins(plan: Round) -> Any:
    return lambda m: m["say"] == "begin" and m["number"] == plan.number


def _returns(message: dict[str, Any]) -> bool:
    return bool(message["say"] == "returned")


def _lines(journal: Path, plan: Round, session: Session) -> int:
    """Where this run's events begin. The first run's are those from the beginning on."""
    if plan is session.rounds[0] or not journal.exists():
        return 0
    # Others are being written meanwhile: everything up to the last end belongs to earlier runs.
    lines = journal.read_bytes().split(b"\n")
    last = max((n for n, line in enumerate(lines) if b'"segment_ended"' in line), default=-1)
    return last + 1


def _after(session: Session, plan: Round) -> Round:
    number = session.rounds.index(plan) + 1
    return session.rounds[min(number, len(session.rounds) - 1)]


def _verify_script(plan: Round, work: Path) -> None:
    text = ":\n"
    if plan.phase is Phase.VERIFY:
        mark = plan.uses[0].mark
        text = (
            f": > .chaos/verify.began\nsetsid sleep 320.{mark} &\n"
            f"sh -c 'trap \"\" INT TERM; sleep 321.{mark}' &\nsleep 322.{mark}\n"
        )
    (work / ".chaos" / "verify.began").unlink(missing_ok=True)
    (work / ".chaos" / "verify.sh").write_text(text)


def _ancestors(process: observer.Process, known: dict[int, observer.Process]) -> Iterator[int]:
    seen = set()
    while process.parent in known and process.parent not in seen:
        seen.add(process.parent)
        yield process.parent
        process = known[process.parent]


def _show(process: observer.Process) -> str:
    above, state = observer.look(process.parent), "ended since"
    with contextlib.suppress(OSError), open(f"/proc/{process.pid}/stat") as file:
        state = file.read().rpartition(")")[2].split()[0]
    seconds = time.clock_gettime(time.CLOCK_BOOTTIME) - process.start / os.sysconf("SC_CLK_TCK")
    return (
        f"{process.pid} {process.name}, {state}, {seconds:.2f} s old, below {process.parent}"
        f" {above.name if above else ''}: {process.command[:50]}"
    )
