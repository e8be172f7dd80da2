"""Without namespaces: whoever dies, and whatever is stopped, the call's processes end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import observer
import pytest
import unshared_agent
import zoo
from sandbox_agent_sandbox.errors import SandboxBroken
from sandbox_agent_sandbox.outcome import CallResult, Outcome
from sandboxes import command, run
from unshared import PYTHON, alive, inside, keepers, kill, unshared, with_tools_up

BOUND = 0.25
"""Seconds: of promise 7."""

SPREAD = f"{PYTHON} -S {zoo.__file__} spread"


def below(pid: int) -> list[observer.Process]:
    return observer.descendants(pid)


def named(processes: list[observer.Process], *names: str) -> list[int]:
    """The keepers among these processes."""
    found = []
    for one in processes:
        with suppress(OSError):  # it has ended
            if Path(f"/proc/{one.pid}/comm").read_text().strip() in names:
                found.append(one.pid)
    return found


VICTIMS = [
    ("agent",),
    ("sandbox-spawner",),
    ("sandbox-call",),
    ("sandbox-starter",),
    ("agent", "sandbox-spawner"),
    ("agent", "sandbox-call"),
    ("sandbox-spawner", "sandbox-call"),
    ("agent", "sandbox-spawner", "sandbox-call"),
]


@pytest.mark.parametrize("stopped", [False, True], ids=["", "all stopped"])
@pytest.mark.parametrize("victims", VICTIMS, ids=" and ".join)
def test_nothing_outlives_who_is_killed(
    tmp_path: Path, victims: tuple[str, ...], stopped: bool
) -> None:
    tmp_path.chmod(0o777)
    with agent(tmp_path) as process:
        kin = below(process.pid)
        keeping = {name: named(kin, name) for name in ("sandbox-spawner", "sandbox-call")}
        keeping["sandbox-starter"] = named(kin, "sandbox-starter")
        keeping["agent"] = [process.pid]
        assert len(kin) > 60
        if stopped:
            for one in kin:
                kill(one.pid, signal.SIGSTOP)
        began = time.monotonic()
        for name in victims:
            for pid in keeping[name]:
                kill(pid, signal.SIGKILL)
        mine = (
            kin if "agent" in victims else [one for one in kin if not is_keeper(one.pid, keeping)]
        )
        if stopped and victims == ("sandbox-starter",):
            kill(keeping["sandbox-call"][0], signal.SIGCONT)  # nobody else would wake it up
        assert observer.eventually(lambda: not alive(mine), 10), alive(mine)
        took = time.monotonic() - began
        assert took < BOUND * observer.patience(), f"{took * 1000:.0f} ms"


def is_keeper(pid: int, keeping: dict[str, list[int]]) -> bool:
    return any(pid in pids for pids in keeping.values())


@contextmanager
def agent(workspace: Path) -> Iterator[subprocess.Popen[str]]:
    """An agent with a call whose tools are up."""
    argv = [sys.executable, unshared_agent.__file__, str(workspace), SPREAD]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        yield process
    finally:
        kill(process.pid, signal.SIGCONT)
        process.kill()
        process.communicate()


def test_a_call_whose_supervisor_was_killed_is_proven_dead_and_others_go_on(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    os.mkfifo(tmp_path / "go", 0o666)
    (tmp_path / "go").chmod(0o666)

    async def main() -> tuple[CallResult, CallResult, CallResult]:
        async with unshared(tmp_path) as cell:
            _, quiet = await with_tools_up(cell, tmp_path, "echo up; read line < go; echo $line")
            first = keepers("sandbox-call")
            _, call = await with_tools_up(cell, tmp_path, SPREAD)
            kin = inside()
            (other,) = set(keepers("sandbox-call")) - set(first)
            kill(other, signal.SIGKILL)
            result = await call
            assert len(alive(kin)) < 5, "the quiet call's processes are left"
            (tmp_path / "go").write_text("on\n")
            return result, await quiet, await cell.call(command(tmp_path, "echo next"))

    killed, quiet, following = run(main)
    assert killed.outcome is Outcome.CRASHED and killed.survivors == ()
    assert quiet.outcome is Outcome.OK and quiet.stdout == b"up\non\n"
    assert following.stdout == b"next\n"


@pytest.mark.parametrize("both", [False, True], ids=["spawner", "spawner and supervisor"])
def test_a_call_ends_with_proof_when_its_spawner_was_killed(tmp_path: Path, both: bool) -> None:
    tmp_path.chmod(0o777)

    async def main() -> CallResult:
        async with unshared(tmp_path) as cell:
            _, call = await with_tools_up(cell, tmp_path, SPREAD)
            kin = inside()
            for pid in keepers("sandbox-spawner") + (keepers("sandbox-call") if both else []):
                kill(pid, signal.SIGKILL)
            result = await call
            assert alive(kin) == []
            with pytest.raises(SandboxBroken):
                await cell.call(command(tmp_path, "echo next"))
            return result

    result = run(main)
    # If the supervisor had begun to kill, the starter is gone too, and nobody can give the proof.
    assert result.outcome is Outcome.CRASHED or both
    assert result.survivors == ()


def test_a_start_ends_what_is_left_when_all_keepers_were_killed_at_once(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)

    async def main() -> None:
        async with unshared(tmp_path) as cell:
            assert (await cell.call(command(tmp_path, "true"))).outcome is Outcome.OK

    with agent(tmp_path) as process:
        kin = below(process.pid)
        # In this order, and stopped: each one would end the call when it sees the end of another.
        order = ("sandbox-starter", "sandbox-call", "sandbox-spawner")
        pids = [*(pid for name in order for pid in named(kin, name)), process.pid]
        for pid in pids:
            kill(pid, signal.SIGSTOP)
        for pid in pids:
            kill(pid, signal.SIGKILL)
    assert alive(kin), "else this shows nothing"
    run(main)
    assert observer.eventually(lambda: not alive(kin), 10)
