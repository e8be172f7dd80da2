"""An agent that dies: nobody outlives it, and its journal tells how far each call had come."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import births
import kinds
import observer
import pytest
from sandbox_agent.journal.file import read_journal
from sandbox_agent.journal.history import ToolMessage
from sandbox_agent.journal.result_file import read_record
from sandbox_agent.journal.state import state_of
from sandbox_agent_sandbox.outcome import Outcome, StartedState
from sandbox_agent_sandbox.plan import PlanKind
from table import Death, How, When, Who, deaths

HERE = Path(__file__).parent
BOUND = 0.25
"""Seconds after the agent's end until nothing of it may be left."""

BUILDERS = [1] if kinds.IN_FORCE is PlanKind.NO_NAMESPACES else [1, 2]
"""Generations below the spawner: who helps to build, and init, of which there is none without
namespaces."""

Call = tuple[Outcome, StartedState]
YES, NO, MAYBE = StartedState.YES, StartedState.NO, StartedState.MAYBE


@dataclass(frozen=True)
class Left:
    """What an agent leaves: its exit code, the status in result.json (None: there is none), and
    what a model would be told of the call (None: there was none)."""

    code: int
    status: str | None
    call: Call | None


def killed(code: int, when: When) -> Left:
    call = {
        When.HANDSHAKE: None,
        When.BEFORE_START: (Outcome.UNKNOWN, MAYBE),
        When.AT_EXIT: (Outcome.OK, YES),
    }.get(when, (Outcome.UNKNOWN, YES))
    return Left(code, "running", call)


def stopped(code: int, when: When) -> Left:
    """The work was stopped first, and the record is whole."""
    call = {
        When.HANDSHAKE: None,
        When.BEFORE_START: (Outcome.SKIPPED, NO),
        When.AT_EXIT: (Outcome.OK, YES),
    }.get(when, (Outcome.KILLED, YES))
    return Left(code, "done" if when is When.AT_EXIT else "interrupted", call)


TABLE: dict[tuple[When, How], Left] = {
    (death.when, death.how): {
        How.EXIT: killed(3, death.when),
        How.EXCEPTION: stopped(1, death.when),
        How.SIGKILL: killed(-9, death.when),
        How.SIGSTOP: killed(-9, death.when),  # a stopped agent is killed
        How.HANG: stopped(0, death.when),
    }[death.how]
    for death in deaths(Who.AGENT)
}


def cases() -> list[Death]:
    return list(deaths(Who.AGENT))


@pytest.mark.parametrize("death", cases(), ids=str)
def test_an_agent_dies(tmp_path: Path, death: Death) -> None:
    mark = observer.new_mark()
    prepare(tmp_path, mark)
    argv = [sys.executable, HERE / "agent.py", str(tmp_path), death.when.value, death.how.value]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as agent:
        if death.how is How.SIGSTOP:
            observer.eventually(lambda: state(agent.pid) == "T", 20)
            if death.when not in (When.HANDSHAKE, When.AT_EXIT):
                assert len(sandboxed()) >= 3, "stopped is not dead"
        kin = observer.descendants(agent.pid)
        if death.how is How.SIGSTOP:
            agent.kill()
        said, error = agent.communicate(timeout=30)
        ended = time.monotonic()
        with observer.watching([*kin, *sandboxed()]) as handles:
            bound = BOUND * observer.patience()
            _, left = observer.wait_gone(handles, bound)
        assert left == []
        assert time.monotonic() - ended < bound + 0.05
        assert observer.marked(mark) == []
    expected = TABLE[death.when, death.how]
    assert agent.returncode == expected.code, error
    assert record_of(tmp_path) == (expected.status, expected.call)
    if death.how is How.HANG and death.when not in (When.HANDSHAKE, When.AT_EXIT):
        assert "idle: True" in said, "the ladder needs no event loop"
    if death.how is How.EXCEPTION:
        assert "RuntimeError: gone wrong" in error


@pytest.mark.parametrize("generations", BUILDERS)
def test_who_is_stopped_at_birth_ends_with_the_agent(tmp_path: Path, generations: int) -> None:
    """Before its first instruction nothing ties a process to anybody, and stopped it stays."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    prepare(tmp_path, observer.new_mark())
    argv = [sys.executable, HERE / "agent.py", str(tmp_path), "mid-output", "hang"]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as agent:
        [spawner] = observer.eventually(lambda: observer.descendants(agent.pid), 20)
        struck: list[int] = []

        def strike(pid: int) -> None:
            births.stop(pid)
            struck.append(pid)

        with births.Birth(
            spawner.pid, generations, lambda pid: (births.stop(pid), struck.append(pid))
        ):
            pass
        observer.eventually(lambda: os.getpgid(struck[0]) != spawner.pid, 20)
        observer.eventually(lambda: state(struck[0]) == "T", 20)  # SIGSTOP takes effect later
        os.kill(spawner.pid, signal.SIGSTOP)
        kin = observer.descendants(agent.pid)
        assert struck[0] in [one.pid for one in kin]
        agent.kill()
    with observer.watching([*kin, *sandboxed()]) as handles:
        _, left = observer.wait_gone(handles, BOUND * 4 * observer.patience())
    assert left == []


def test_an_init_that_is_about_to_stop_as_all_above_it_die_is_not_left_behind(
    tmp_path: Path,
) -> None:
    """What stops it takes effect when nobody is left who could see that it stands still."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    if kinds.IN_FORCE is PlanKind.NO_NAMESPACES:
        pytest.skip("needs namespaces")
    prepare(tmp_path, observer.new_mark())
    argv = [sys.executable, HERE / "agent.py", str(tmp_path), "mid-output", "hang"]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as agent:
        [spawner] = observer.eventually(lambda: observer.descendants(agent.pid), 20)
        born: list[observer.Process] = []

        def strike(init: int) -> None:
            births.hold(spawner.pid)  # so init is not told to go on
            births.go_on(init)
            observer.eventually(lambda: name(init) == "sandbox-init" and state(init) == "S", 20)
            births.hold(init)
            born.extend(observer.descendants(agent.pid))
            os.kill(init, signal.SIGSTOP)
            agent.kill()
            observer.eventually(lambda: observer.look(spawner.pid) is None, 20)
            # On a busy machine the spawner may have told it to go on before it was held. Then the
            # spawner's end has killed it.
            with contextlib.suppress(ProcessLookupError):
                births.let_go(init)

        with births.Birth(spawner.pid, 2, strike):
            pass
        with observer.watching(born) as handles:
            _, left = observer.wait_gone(handles, BOUND * 4 * observer.patience())
    assert born and left == []


def name(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def prepare(folder: Path, mark: str) -> None:
    work = folder / "work"
    work.mkdir()
    for name in ("waiting.py", "waiting_import.py"):
        shutil.copy(HERE / name, work)
    (work / "mark").write_text(mark)


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def sandboxed() -> list[observer.Process]:
    """Whatever of a sandbox is below us: orphans come to us, who are a subreaper."""
    below = observer.descendants(os.getpid())
    return [one for one in below if len(one.namespace_pids) > 1 or "spawner" in one.command]


def record_of(folder: Path) -> tuple[str | None, Call | None]:
    [run] = (folder / "runs").iterdir()
    results = [
        message
        for message in state_of(read_journal(run / "journal.jsonl")).history()
        if isinstance(message, ToolMessage)
    ]
    assert len(results) <= 1
    status = read_record(run).status.value if (run / "result.json").exists() else None
    return status, (results[0].outcome, results[0].started) if results else None
