"""Nobody outlives the agent process, however it dies and whoever is stopped at that moment."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import observer
import paths
import pytest
from sandbox_agent_ipc.board import Board
from sandbox_agent_ipc.cancel_reason import CancelReason
from sandbox_agent_ipc.channel import big_arguments, send_datagram
from sandbox_agent_ipc.messages import PROTOCOL, Build
from sandbox_agent_ipc.token import RunToken
from sandbox_agent_sandbox.errors import SandboxError, SandboxUnavailable
from sandbox_agent_sandbox.host.cell import Cell
from sandbox_agent_sandbox.host.deadlines import Deadlines
from sandbox_agent_sandbox.host.descriptors import pipe
from sandbox_agent_sandbox.host.spawner import program
from sandbox_agent_sandbox.outcome import Outcome, Rung
from sandbox_agent_sandbox.policy.make_plan import make_plan
from sandbox_agent_sandbox.policy.policy import Policy
from sandbox_agent_sandbox.policy.probe import host_facts
from sandboxes import function, run, sandbox, until

HOST = """
import asyncio, os, sys
sys.path[:0] = {path!r}
from pathlib import Path
from sandboxes import command, sandbox, until

async def main():
    workspace = Path({workspace!r})
    async with sandbox(workspace, grace=1, term=1) as cell:
        text = '''{tree}'''
        task = asyncio.create_task(cell.call(command(workspace, text)))
        await until(lambda: os.path.exists(workspace / "up"))
        {then}
        print("ready", flush=True)
        await task

asyncio.run(main())
"""

TREE = """trap "" INT TERM
setsid sleep 300.{mark} &
(setsid sleep 300.{mark} &)
touch up
while :; do sleep 300.{mark}; done"""

FORK = """
        child = os.fork()
        if child == 0:
            os.close(1)
            if {execs}:
                os.execv("/bin/sleep", ["sleep", "60"])
            __import__("time").sleep(60)
            os._exit(0)
        print(child, flush=True)
"""


@contextmanager
def a_host(
    workspace: Path, then: str = ""
) -> Iterator[tuple[subprocess.Popen[str], str, list[str]]]:
    """A program of somebody's that has a call in flight: (process, mark, what it printed)."""
    mark = observer.new_mark()
    program = HOST.format(
        path=[*paths.IMPORT_PATHS, *sys.path],
        workspace=str(workspace),
        tree=TREE.format(mark=mark),
        then=then.strip(),
    )
    file = workspace / "host.py"
    file.write_text(program)
    with subprocess.Popen(
        [sys.executable, str(file)], stdout=subprocess.PIPE, text=True, cwd=workspace
    ) as process:
        try:
            assert process.stdout is not None
            said = []
            for line in process.stdout:
                if line == "ready\n":
                    break
                said.append(line.strip())
            yield process, mark, said
        finally:
            process.kill()


def below(process: subprocess.Popen[str]) -> list[observer.Process]:
    return observer.descendants(process.pid)


@pytest.mark.parametrize(
    "stopped", ["nobody", "spawner", "init", "call init", "worker", "everybody"]
)
def test_killing_the_host_ends_all_whoever_is_stopped(tmp_path: Path, stopped: str) -> None:
    with a_host(tmp_path) as (process, _, _):
        family = below(process)
        for who in family:
            with contextlib.suppress(OSError):  # ended since: `touch`
                name = Path(f"/proc/{who.pid}/comm").read_text().strip()
                kind = {"sandbox-call": "call init"}.get(name, name.removeprefix("sandbox-"))
                if stopped in ("everybody", kind):
                    os.kill(who.pid, signal.SIGSTOP)
        assert len(family) >= 7, "spawner, init, call init, worker, shell, two sleeps"
        with observer.watching(family) as watched:
            process.kill()
            _, left = observer.wait_gone(watched, 10)
        assert left == []


@pytest.mark.parametrize("execs", [False, True])
def test_a_host_that_has_forked_takes_its_sandbox_along_all_the_same(
    tmp_path: Path, execs: bool
) -> None:
    """The forked child holds every descriptor open: an end of file would never come."""
    then = FORK.format(execs=execs)
    with a_host(tmp_path, then) as (process, _, [child]):
        family = [who for who in below(process) if who.pid != int(child)]
        with observer.watching(family) as watched:
            process.kill()
            _, left = observer.wait_gone(watched, 10)
        assert observer.look(int(child)) is not None
        os.kill(int(child), signal.SIGKILL)
        assert left == []


def test_a_stopped_spawner_does_not_hold_up_the_end(tmp_path: Path) -> None:
    with a_host(tmp_path) as (process, mark, _):
        [spawner] = [who for who in below(process) if who.parent == process.pid]
        os.kill(spawner.pid, signal.SIGSTOP)
        family = below(process)
        with observer.watching(family) as watched:
            process.send_signal(signal.SIGINT)
            _, left = observer.wait_gone(watched, 15)
        assert left == []
        assert observer.marked(mark) == []
        process.wait(15)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_closing_while_somebody_who_builds_is_stopped_is_quick_and_complete(
    tmp_path: Path, depth: int
) -> None:
    """The spawner, the builder or init stopped at birth: closing neither waits nor leaves them."""
    stopped = threading.Event()
    mine = {process.pid for process in observer.descendants(os.getpid())}

    async def main() -> None:
        plan = make_plan(Policy(), host_facts(), workspace=tmp_path)
        cell = Cell(plan, grace=0.1, term=0.1)

        def stop_somebody() -> None:
            deadline = time.monotonic() + 10
            while time.monotonic() < deadline and not cell.usable:
                family = [p for p in observer.descendants(os.getpid()) if p.pid not in mine]
                if len(family) >= depth:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(family[depth - 1].pid, signal.SIGSTOP)
                        stopped.set()
                    return

        thread = threading.Thread(target=stop_somebody)
        thread.start()
        opening = asyncio.create_task(cell.open())
        await asyncio.to_thread(thread.join)
        begin = time.monotonic()
        assert await asyncio.to_thread(cell.close) == ()
        assert time.monotonic() - begin < 4, "nowhere near the limit for proofs"
        with contextlib.suppress(SandboxError):
            await opening

    asyncio.run(main())


@pytest.mark.parametrize(
    ("end", "why"), [("closed", "closed meanwhile"), ("killed", "spawner was ended by SIGKILL")]
)
def test_somebody_who_holds_the_spawners_socket_open_delays_no_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str, why: str
) -> None:
    """As a child does that the embedder forked, from C, while the spawner was being started: an end
    of file never comes."""
    held: list[int] = []
    spawners: list[int] = []

    class Watched(subprocess.Popen[bytes]):
        def __init__(self, command: list[str], *, pass_fds: tuple[int, ...], **more: Any) -> None:
            held.append(os.dup(pass_fds[0]))
            super().__init__(command, pass_fds=pass_fds, **more)
            os.kill(self.pid, signal.SIGSTOP)  # so that nothing is built before its end
            spawners.append(self.pid)

    monkeypatch.setattr(subprocess, "Popen", Watched)

    async def main() -> float:
        plan = make_plan(Policy(), host_facts(), workspace=tmp_path)
        cell = Cell(plan, grace=0.1, term=0.1)
        opening = asyncio.create_task(cell.open())
        await until(lambda: bool(spawners))
        begin = time.monotonic()
        if end == "closed":
            assert await asyncio.to_thread(cell.close) == ()
        else:
            os.kill(spawners[0], signal.SIGKILL)
        with pytest.raises(SandboxUnavailable, match=why):
            await opening
        return time.monotonic() - begin

    try:
        assert run(main) < 2, "nowhere near the limits for proofs and for building"
    finally:
        for fd in held:
            os.close(fd)


@pytest.fixture
def stopped_before_exec(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """The thread that starts a spawner waits for its exec, and can do nothing else meanwhile. Here
    it waits for another child, since no test can tell when a spawner is between fork and exec. The
    event is set when that child is stopped; what is started after its end is no spawner."""
    stopped = threading.Event()

    class Late(subprocess.Popen[bytes]):
        def __init__(self, command: list[str], **more: Any) -> None:
            child = os.posix_spawnp("sh", ["sh", "-c", "kill -STOP $$"], os.environ)
            os.waitid(os.P_PID, child, os.WSTOPPED)
            stopped.set()
            os.waitpid(child, 0)
            super().__init__(["/bin/true"], **more)

    monkeypatch.setattr(subprocess, "Popen", Late)
    return stopped


def test_a_spawner_that_is_stopped_before_its_exec_does_not_delay_close(
    tmp_path: Path, stopped_before_exec: threading.Event
) -> None:
    async def main() -> float:
        plan = make_plan(Policy(), host_facts(), workspace=tmp_path)
        cell = Cell(plan, grace=0.1, term=0.1)
        opening = asyncio.create_task(cell.open())
        await asyncio.to_thread(stopped_before_exec.wait, 20)
        begin = time.monotonic()
        assert await asyncio.to_thread(cell.close) == ()
        with pytest.raises(SandboxError):
            await opening
        return time.monotonic() - begin

    assert run(main) < 2, "nowhere near the limits for proofs and for building"


def test_a_spawner_that_is_stopped_before_its_exec_fails_when_the_time_for_building_is_over(
    tmp_path: Path, stopped_before_exec: threading.Event
) -> None:
    async def main() -> None:
        plan = make_plan(Policy(), host_facts(), workspace=tmp_path)
        cell = Cell(plan, grace=0.1, term=0.1, deadlines=Deadlines(open=0.3))
        with pytest.raises(SandboxError, match=r"took over|spawner"):
            async with asyncio.timeout(20):
                await cell.open()
        assert stopped_before_exec.is_set()
        assert cell.close() == ()

    run(main)


def test_what_a_forked_child_holds_of_a_sandboxs_descriptors_is_closed() -> None:
    read, write = pipe()
    child = os.fork()
    if child == 0:
        os._exit(read.number >= 0 or write.number >= 0)
    assert os.waitpid(child, 0)[1] == 0
    assert os.write(write.number, b"ours are open") > 0


def test_a_forked_child_of_a_tool_neither_answers_for_it_nor_hurries_the_ladder(
    tmp_path: Path,
) -> None:
    (tmp_path / "forker.py").write_text(
        "import os, time\n"
        "def fork_and_wait():\n"
        "    for _ in range(3):\n"
        "        if os.fork() == 0:\n"
        "            time.sleep(60)\n"
        "            return 'from a child'\n"
        "    open('up', 'w').close()\n"
        "    try:\n"
        "        time.sleep(60)\n"
        "    finally:\n"
        "        time.sleep(0.2)\n"
        "        open('unwound', 'w').close()\n"
        "def fork_and_answer():\n"
        "    if os.fork() == 0:\n"
        "        return 'from a child'\n"
        "    os.wait()\n"
        "    return 'from the tool'\n"
    )

    async def main() -> None:
        async with sandbox(tmp_path, grace=0.05, term=20) as cell:
            token = RunToken()
            request = function(tmp_path, "forker", "fork_and_wait", {})
            task = asyncio.create_task(cell.call(request, token=token))
            await until((tmp_path / "up").exists)
            token.cancel(CancelReason.INTERRUPT)
            result = await task
            assert (result.outcome, result.rung) == (Outcome.CANCELLED, Rung.TERM)
            assert (tmp_path / "unwound").exists()
            answer = await cell.call(function(tmp_path, "forker", "fork_and_answer", {}))
            assert (answer.outcome, answer.content) == (Outcome.OK, "from the tool")

    run(main)


@pytest.mark.parametrize("alive", [True, False])
def test_a_spawner_whose_host_died_before_it_was_tied_begins_nothing(
    tmp_path: Path, alive: bool
) -> None:
    """PR_SET_PDEATHSIG tells of deaths to come, and of none that has been."""
    host = subprocess.Popen(["sleep", "60"])
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    board = Board()
    plan = make_plan(Policy(), host_facts(), workspace=tmp_path)
    with host, ours, theirs:
        plan_fd = big_arguments(msgspec.msgpack.encode(plan))
        send_datagram(ours, Build(PROTOCOL), [plan_fd, board.fd])
        os.close(plan_fd)
        pidfd = os.pidfd_open(host.pid)
        if not alive:
            host.kill()
            select.select([pidfd], [], [])
        passed = (theirs.fileno(), pidfd)
        roots = ":".join(program.import_roots())
        command = [sys.executable, "-I", "-S", "-c", program.BOOT, roots]
        spawner = subprocess.Popen([*command, *map(str, passed)], pass_fds=passed)
        theirs.close()
        ours.settimeout(30)
        try:
            said = ours.recv(1 << 16)
        except ConnectionResetError:  # it has not read its plan
            said = b""
        assert (said != b"") is alive
        host.kill()
        assert spawner.wait(30) == 0
        os.close(pidfd)
    board.close()
