"""Spares: a call that one of them serves is a call like any other."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import time
from math import inf
from pathlib import Path

import kinds
import msgspec
import observer
import pytest
import spared
from sandbox_agent_ipc.cancel_reason import CancelReason
from sandbox_agent_ipc.messages import FunctionRef
from sandbox_agent_ipc.token import RunToken
from sandbox_agent_sandbox.host.cell import Cell
from sandbox_agent_sandbox.host.spares import MOST, bounded
from sandbox_agent_sandbox.outcome import CallResult, Outcome, Rung, StartedState
from sandbox_agent_sandbox.plan import PlanKind
from sandbox_agent_sandbox.policy.make_plan import make_plan
from sandbox_agent_sandbox.policy.policy import Policy
from sandbox_agent_sandbox.policy.probe import host_facts
from sandboxes import command, function, run, sandbox, until

SEEN = """
pwd; umask; id -u; env | sort | grep -vE '^_=|/shared(/home)?$'
ulimit -a | grep -v 'file locks'
grep -E 'Cap|NoNewPrivs|Seccomp|Sig(Blk|Ign|Cgt)|Groups' /proc/self/status
cut -d' ' -f5,6 /proc/self/mountinfo | sort
for fd in /proc/self/fd/*; do readlink $fd | tr -d 0-9; done | sort
cat /proc/self/oom_score_adj
"""
"""What a command sees of the walls around it."""


def test_a_call_of_a_spare_sees_what_any_call_sees(tmp_path: Path) -> None:
    async def seen(spares: int) -> str:
        async with sandbox(tmp_path, spares=spares) as cell:
            await spared.until_waiting(cell, spares)
            result = await cell.call(command(tmp_path, SEEN, env={"OF_THE_CALL": "1"}))
            assert result.outcome is Outcome.OK, result
            assert len(spared.waiting(cell)) < max(1, spares), "a spare has served it"
            return result.output

    async def main() -> None:
        # The limit of processes has room for the spares.
        ordinary = (await seen(0)).splitlines()
        served = (await seen(2)).splitlines()
        other = [pair for pair in zip(ordinary, served, strict=True) if pair[0] != pair[1]]
        assert all("processes" in line for line, _ in other), other

    run(main)


def test_a_call_adopts_the_processes_of_a_spare(tmp_path: Path) -> None:
    async def main() -> None:
        async with sandbox(tmp_path) as cell:
            first, second = await spared.until_waiting(cell)
            mark = observer.new_mark()
            call = asyncio.create_task(cell.call(command(tmp_path, f"sleep 300.{mark}; true")))
            await until(lambda: bool(observer.marked(mark)))
            below = {one.pid for one in observer.descendants(spared.keeper(first))}
            assert {one.pid for one in observer.marked(mark)} <= below
            assert cell._supervisor.spares.waiting() == [second], "none is made while it runs"
            first_call = next(iter(cell._supervisor._calls.all()))
            assert cell.cancel(first_call.id, CancelReason.CANCEL_CALL)
            assert (await call).outcome is Outcome.CANCELLED
            assert observer.marked(mark) == []
            await spared.until_waiting(cell)

    run(main)


def test_what_a_tool_changes_is_seen_by_the_call_that_a_spare_serves(tmp_path: Path) -> None:
    """Everything that a spare could have kept from before: a module, the folder, a file."""
    module = tmp_path / "mine.py"
    inner = tmp_path / "inner"
    inner.mkdir()

    def text(number: int) -> str:
        # Of another length each time: Python knows a compiled module by seconds and size.
        return f"import os\ndef look() -> str:\n    return f'{number} {{os.getcwd()}}'\n"

    module.write_text(text(1))
    (inner / "mine.py").write_text(text(7))

    async def look(cell: Cell, cwd: Path) -> str:
        await spared.until_waiting(cell)
        ask = function(tmp_path, "mine", "look", {})
        result = await cell.call(msgspec.structs.replace(ask, cwd=str(cwd)))
        assert result.outcome is Outcome.OK, result
        return result.content

    async def main() -> None:
        async with sandbox(tmp_path) as cell:
            assert await look(cell, tmp_path) == f"1 {tmp_path}"
            await spared.until_waiting(cell)
            # By the host, and at once after it by a tool in another call.
            module.write_text(text(22))
            assert await look(cell, tmp_path) == f"22 {tmp_path}"
            await spared.until_waiting(cell)
            moves = "mv inner moved; mkdir inner; sed s/22/333/ mine.py > inner/new.py; cd inner;"
            moves += "cp new.py ../mine.py; mv new.py mine.py"
            assert (await cell.call(command(tmp_path, moves))).outcome is Outcome.OK
            assert await look(cell, inner) == f"333 {inner}"
            assert await look(cell, tmp_path / "moved") == f"7 {tmp_path / 'moved'}"
            # Two in a row by spares that were there together: the first changes it for the second.
            await spared.until_waiting(cell)
            change = command(
                tmp_path, "rm -r inner; sed -i s/333/4444/ mine.py; export GONE=1; cd moved"
            )
            assert (await cell.call(change)).outcome is Outcome.OK
            assert await look(cell, tmp_path) == f"4444 {tmp_path}"

    run(main)


def test_a_tools_environment_and_module_state_are_its_own(tmp_path: Path) -> None:
    (tmp_path / "keeps.py").write_text(
        "import os\nkept = []\n"
        "def keep(word: str) -> str:\n"
        "    kept.append(word)\n    os.environ['KEPT'] = os.environ.get('KEPT', '') + word\n"
        "    return ''.join(kept) + os.environ['KEPT'] + os.environ.get('GIVEN', '')\n"
    )

    async def main() -> None:
        async with sandbox(tmp_path) as cell:
            for given, expected in ({"GIVEN": "x"}, "aax"), ({}, "aa"), ({"KEPT": "b"}, "aba"):
                await spared.until_waiting(cell)
                result = await cell.call(
                    function(tmp_path, "keeps", "keep", {"word": "a"}, env=given)
                )
                assert result.content == expected

    run(main)


@pytest.mark.parametrize("way", ["token", "call"])
def test_a_cancellation_between_adoption_and_start_lets_no_tool_begin(
    tmp_path: Path, way: str
) -> None:
    async def main() -> CallResult:
        async with sandbox(tmp_path, grace=20, term=20) as cell:
            first, _ = await spared.until_waiting(cell)
            token, begun = RunToken(), []
            os.kill(spared.worker(first), signal.SIGSTOP)
            ask = command(tmp_path, "touch ran", on_started=lambda: begun.append(1))
            call = asyncio.create_task(cell.call(ask, token=token))
            await until(lambda: len(cell._supervisor.spares.waiting()) == 1)
            if way == "token":
                token.cancel(CancelReason.INTERRUPT)
            else:
                assert cell.cancel(ask.id, CancelReason.CANCEL_CALL)
            os.kill(spared.worker(first), signal.SIGCONT)
            result = await call
            assert not begun
            return result

    result = run(main)
    assert (result.outcome, result.started) == (Outcome.SKIPPED, StartedState.NO)
    assert not (tmp_path / "ran").exists()


def test_a_token_that_is_cancelled_while_the_call_is_sent_is_seen(tmp_path: Path) -> None:
    """In every step between the last look of the host and the message: the flag is up before the
    worker can see the message, so the tool never begins."""

    async def main() -> None:
        async with sandbox(tmp_path) as cell:
            supervisor = cell._supervisor
            for name in ("adopt", "look_after"):
                # No spare is made while the flag of the latest call is up.
                assert (await cell.call(command(tmp_path, "true"))).outcome is Outcome.OK
                await spared.until_waiting(cell)
                token = RunToken()
                real = getattr(supervisor, name)

                def cancelling(*args: object, real=real, token=token, name=name) -> None:  # type: ignore[no-untyped-def]
                    if name == "adopt":
                        token.cancel(CancelReason.INTERRUPT)
                    real(*args)

                setattr(supervisor, name, cancelling)
                try:
                    result = await cell.call(command(tmp_path, f"touch {name}"), token=token)
                finally:
                    delattr(supervisor, name)
                ran = (tmp_path / name).exists()
                if name == "adopt":
                    assert (result.outcome, ran) == (Outcome.SKIPPED, False)
                else:
                    assert (result.outcome, ran) == (Outcome.OK, True)

    run(main)


@pytest.mark.parametrize("victim", ["worker", "keeper"])
def test_a_spare_that_is_killed_while_it_is_adopted_is_a_call_that_is_made_again(
    tmp_path: Path, victim: str
) -> None:
    async def main() -> None:
        async with sandbox(tmp_path) as cell:
            first, _ = await spared.until_waiting(cell)
            begun: list[int] = []
            pid = spared.worker(first) if victim == "worker" else spared.keeper(first)
            os.kill(spared.worker(first), signal.SIGSTOP)
            ask = command(tmp_path, "echo ran | tee -a log", on_started=lambda: begun.append(1))
            call = asyncio.create_task(cell.call(ask))
            await until(lambda: len(cell._supervisor.spares.waiting()) == 1)
            os.kill(pid, signal.SIGKILL)
            result = await call
            assert (result.outcome, result.output, begun) == (Outcome.OK, "ran\n", [1])
            assert (tmp_path / "log").read_text() == "ran\n", "it began once"

    run(main)


def test_a_call_that_is_made_again_has_no_grace_period_if_it_had_none(tmp_path: Path) -> None:
    """A second interrupt may come before the flag of the first, see `Ladder.escalate`."""

    async def main() -> CallResult:
        async with sandbox(tmp_path, grace=60, term=0.1) as cell:
            first, _ = await spared.until_waiting(cell)
            os.kill(spared.worker(first), signal.SIGSTOP)
            up = asyncio.Event()
            text = "trap '' INT TERM; echo up; while :; do sleep 300; done"
            ask = command(tmp_path, text, on_output=lambda *_: up.set())
            call = asyncio.create_task(cell.call(ask))
            await until(lambda: len(cell._supervisor.spares.waiting()) == 1)
            cell.escalate(ask.id)
            os.kill(spared.worker(first), signal.SIGKILL)
            await up.wait()
            cell.cancel(ask.id, CancelReason.INTERRUPT)
            return await call

    result = run(main)
    assert (result.outcome, result.rung) == (Outcome.KILLED, Rung.KILL)
    assert result.rungs_ms["term"] < 30_000


async def _taken_and_dead(cell: Cell) -> spared.Spare:
    await spared.until_waiting(cell)
    spare = cell._supervisor.spares.take()
    assert spare is not None
    os.kill(spared.keeper(spare), signal.SIGKILL)
    await until(lambda: spare.died)
    return spare


def test_a_spare_that_nobody_adopts_once_it_is_taken_holds_nothing_up(tmp_path: Path) -> None:
    """A signal handler may raise in a program that has just taken it."""

    async def main() -> None:
        async with sandbox(tmp_path) as cell:
            await _taken_and_dead(cell)
            # Else the supervisor's thread would never rest.
            await until(lambda: cell._supervisor._epoll.poll(0) == [])
            await spared.until_waiting(cell)
            assert (await cell.call(command(tmp_path, "echo on"))).output == "on\n"
            begin = time.monotonic()
            assert cell.close() == ()
            assert time.monotonic() - begin < observer.patience()

    run(main)


def test_a_spare_that_is_adopted_after_its_death_is_a_call_that_is_made_again(
    tmp_path: Path,
) -> None:
    async def main() -> CallResult:
        async with sandbox(tmp_path) as cell:
            spare = await _taken_and_dead(cell)
            cell._supervisor.spares._waiting.appendleft(spare)
            return await cell.call(command(tmp_path, "echo ran | tee -a log"))

    assert run(main).output == "ran\n"
    assert (tmp_path / "log").read_text() == "ran\n"


def test_a_spares_call_that_dies_after_it_began_is_not_made_again(tmp_path: Path) -> None:
    (tmp_path / "dies.py").write_text(
        "import os, signal\n"
        "def die() -> str:\n"
        "    open('log', 'a').write('ran ')\n    os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return ''\n"
    )

    async def main() -> CallResult:
        async with sandbox(tmp_path) as cell:
            await spared.until_waiting(cell)
            return await cell.call(function(tmp_path, "dies", "die", {}))

    result = run(main)
    assert (result.outcome, result.started) == (Outcome.CRASHED, StartedState.YES)
    assert (tmp_path / "log").read_text() == "ran "


def test_spares_that_die_while_they_wait_are_replaced_a_few_times(tmp_path: Path) -> None:
    async def main() -> None:
        async with sandbox(tmp_path) as cell:
            killed = 0
            while not cell.spares_note:
                for spare in cell._supervisor.spares.waiting():
                    os.kill(spared.keeper(spare), signal.SIGKILL)
                    killed += 1
                    await until(lambda one=spare: one not in cell._supervisor.spares.waiting())  # type: ignore[misc]
                await asyncio.sleep(0)
            assert 5 <= killed <= 7
            assert "5 of them died before a call needed them" in cell.spares_note
            spares = cell._supervisor.spares
            await until(lambda: not spares.are_left or bool(spares.waiting()))
            assert (await cell.call(command(tmp_path, "echo on"))).output == "on\n"

    run(main)


def test_a_spare_that_is_stopped_or_killed_while_it_waits_is_gone_with_the_sandbox(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with sandbox(tmp_path, spares=4) as cell:
            spares = await spared.until_waiting(cell, 4)
            os.kill(spared.worker(spares[0]), signal.SIGSTOP)
            os.kill(spared.keeper(spares[1]), signal.SIGSTOP)
            os.kill(spared.keeper(spares[2]), signal.SIGKILL)
            with observer.watching(observer.descendants(os.getpid())) as handles:
                begin = time.monotonic()
                assert cell.close() == ()
                assert time.monotonic() - begin < 2 * observer.patience()
                assert observer.wait_gone(handles, 0.05)[1] == [], "returned means stopped"

    run(main)


def test_a_stopped_spare_that_a_call_adopts_is_ended_by_the_ladder(tmp_path: Path) -> None:
    async def main() -> CallResult:
        async with sandbox(tmp_path) as cell:
            first, _ = await spared.until_waiting(cell)
            os.kill(spared.worker(first), signal.SIGSTOP)
            return await cell.call(command(tmp_path, "touch ran", timeout=0.3))

    result = run(main)
    assert (result.outcome, result.started) == (Outcome.TIMEOUT, StartedState.NO)
    assert not (tmp_path / "ran").exists()


def test_no_spare_is_made_once_the_flag_is_up(tmp_path: Path) -> None:
    async def main() -> None:
        async with sandbox(tmp_path) as cell:
            await spared.until_waiting(cell)
            spares, token = cell._supervisor.spares, RunToken()
            both = [cell.call(command(tmp_path, "sleep 300"), token=token) for _ in range(2)]
            calls = asyncio.gather(*both)
            await until(lambda: not spares.waiting())
            token.cancel(CancelReason.INTERRUPT)
            await calls
            assert spares.due(frozen=False) == inf
            # As the runtime does it: a token for each call, of which the run's knows nothing later.
            run_token = RunToken()
            child = run_token.child()
            assert (await cell.call(command(tmp_path, "true"), token=child)).outcome == "ok"
            child.detach()
            run_token.cancel(CancelReason.INTERRUPT)
            assert spares.due(frozen=False) == inf
            # The next run's flag is down.
            assert (await cell.call(command(tmp_path, "true"), token=RunToken())).outcome == "ok"
            await spared.until_waiting(cell)

    run(main)


def test_spares_stand_still_with_the_sandbox(tmp_path: Path) -> None:
    async def main() -> None:
        async with sandbox(tmp_path) as cell:
            first, second = await spared.until_waiting(cell)
            assert cell.freeze()
            for spare in (first, second):
                stopped = spared.worker(spare)
                await until(lambda pid=stopped: _state(pid) == "T")  # type: ignore[misc]
            begun: list[int] = []
            ask = command(tmp_path, "echo on", on_started=lambda: begun.append(1))
            call = asyncio.create_task(cell.call(ask))
            await until(lambda: cell._supervisor.spares.waiting() == [second])
            assert cell._supervisor.spares.due(frozen=True) == inf
            assert not begun
            cell.thaw()
            assert (await call).output == "on\n"
            await spared.until_waiting(cell)

    run(main)


def test_calls_that_a_spare_cannot_serve_leave_it_alone(tmp_path: Path) -> None:
    async def main() -> None:
        async with sandbox(tmp_path) as cell:
            before = await spared.until_waiting(cell)
            for more in ({"separate_output": True}, {"fresh_view": True}):
                assert (await cell.call(command(tmp_path, "true", **more))).outcome is Outcome.OK
            shell = FunctionRef("sandbox_agent_sandbox.inside.tools.shell", "shell")
            await cell.describe([shell], str(tmp_path))
            assert cell._supervisor.spares.waiting() == before

    run(main)


def test_a_spare_serves_a_call_with_standard_input_and_long_arguments(tmp_path: Path) -> None:
    (tmp_path / "reads.py").write_text(
        "import sys\ndef hear(text: str) -> str:\n    return f'{sys.stdin.read()} {len(text)}'\n"
    )

    async def main() -> None:
        async with sandbox(tmp_path) as cell:
            first, _ = await spared.until_waiting(cell)
            read, write = os.pipe()
            os.write(write, b"said")
            os.close(write)
            ask = function(tmp_path, "reads", "hear", {"text": "x" * 300_000}, stdin=read)
            result = await cell.call(ask)
            os.close(read)
            assert (result.outcome, result.content) == (Outcome.OK, "said 300000"), result
            assert first not in cell._supervisor.spares.waiting()

    run(main)


def test_more_spares_than_are_of_use_are_fewer_and_that_is_said(tmp_path: Path) -> None:
    async def main() -> None:
        async with sandbox(tmp_path, spares=1000) as cell:
            assert cell.spares_note.startswith(f"spares: {MOST} of 1000 ")
            await spared.until_waiting(cell, MOST)
            result = await cell.call(command(tmp_path, "echo on"))
            assert (result.outcome, result.output) == (Outcome.OK, "on\n")
            await spared.until_waiting(cell, MOST)

    run(main)


def test_without_spares_none_is_made(tmp_path: Path) -> None:
    async def main() -> None:
        async with sandbox(tmp_path, spares=0) as cell:
            assert (await cell.call(command(tmp_path, "true"))).outcome is Outcome.OK
            assert cell._supervisor.spares.due(frozen=False) == inf
            assert cell.spares_note == ""

    run(main)


def test_a_small_limit_of_memory_has_room_for_fewer(tmp_path: Path) -> None:
    plan = make_plan(
        Policy(limits={"memory": "32MiB"}), host_facts(), workspace=tmp_path, kind=PlanKind.FULL
    )
    assert bounded(2, plan) == (2, "")
    number, why = bounded(3, plan)
    assert number == 2
    assert "limits.memory has no room for more than 2" in why


def test_a_host_that_is_short_of_descriptors_keeps_fewer_and_makes_its_calls(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        used = len(os.listdir("/proc/self/fd"))
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (used + 55, hard))
            async with sandbox(tmp_path, spares=8) as cell:
                await until(lambda: bool(cell.spares_note))
                assert "too many open files" in cell.spares_note
                for _ in range(12):
                    result = await cell.call(command(tmp_path, "echo on"))
                    assert (result.outcome, result.output) == (Outcome.OK, "on\n")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    run(main)


def test_a_forked_child_of_the_program_keeps_no_spare_alive(tmp_path: Path) -> None:
    async def main() -> None:
        async with sandbox(tmp_path) as cell:
            first, _ = await spared.until_waiting(cell)
            inode = os.fstat(first.channels.inbox.fileno()).st_ino
            read, write = os.pipe()
            child = os.fork()
            if child == 0:
                try:
                    os.write(write, b"held" if inode in _inodes() else b"free")
                finally:
                    os._exit(0)
            os.close(write)
            os.waitpid(child, 0)
            assert os.read(read, 9) == b"free"
            os.close(read)
            assert inode in _inodes()

    run(main)


def _state(pid: int) -> str:
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        return file.read().rpartition(")")[2].split()[0]


def _keepers(cell: Cell) -> list[int]:
    return [spared.keeper(spare) for spare in cell._supervisor.spares.waiting()]


def _ids(cell: Cell) -> list[str]:
    return [spare.id for spare in cell._supervisor.spares.waiting()]


def _inodes() -> set[int]:
    """Of what this process has open."""
    found = set()
    for fd in range(resource.getrlimit(resource.RLIMIT_NOFILE)[0]):
        with contextlib.suppress(OSError):
            found.add(os.fstat(fd).st_ino)
    return found


FORKS = """
import os, signal
def many() -> int:
    made = []
    try:
        while len(made) < 60:
            made.append(os.fork())
            if not made[-1]:
                signal.pause()
    except OSError:
        pass
    for pid in made:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return len(made)
"""


def test_waiting_spares_take_nothing_of_the_limit_of_processes(tmp_path: Path) -> None:
    (tmp_path / "forks.py").write_text(FORKS)

    async def most(spares: int) -> int:
        async with sandbox(tmp_path, spares=spares, limits={"processes": 24}) as cell:
            await spared.until_waiting(cell, spares)
            # The first is served by a spare, the second by processes of its own.
            for more in ({}, {"separate_output": True}):
                await spared.until_waiting(cell, spares)
                result = await cell.call(function(tmp_path, "forks", "many", {}, **more))
                assert result.outcome is Outcome.OK, result
            return int(result.content)

    async def main() -> None:
        without, beside = await most(0), await most(2)
        assert 10 < without < 60
        assert without <= beside <= without + 4

    run(main)


def test_what_happened_before_a_call_took_a_spare_is_not_said_of_it(tmp_path: Path) -> None:
    """A limit that an earlier call has met, while the spare waited."""
    (tmp_path / "forks.py").write_text(FORKS)

    async def main() -> None:
        async with sandbox(tmp_path, limits={"processes": 24}) as cell:
            await spared.until_waiting(cell)
            struck = await cell.call(function(tmp_path, "forks", "many", {}, separate_output=True))
            assert [met.limit for met in struck.limits] in (["processes"], [])
            after = await cell.call(command(tmp_path, "echo fine"))
            assert (after.output, after.limits) == ("fine\n", ())

    run(main)


def test_descriptors_are_given_back(tmp_path: Path) -> None:
    async def main() -> None:
        before = len(os.listdir("/proc/self/fd"))
        async with sandbox(tmp_path) as cell:
            during = set()
            for turn in range(12):
                await spared.until_waiting(cell)
                if turn % 3 == 2:
                    (first, *_), ids = _keepers(cell), _ids(cell)
                    os.kill(first, signal.SIGKILL)
                    await until(lambda ids=ids: ids != _ids(cell))  # type: ignore[misc]
                await cell.call(command(tmp_path, "true"))
                await spared.until_waiting(cell)
                during.add(len(os.listdir("/proc/self/fd")))
            assert len(during) <= 2, during  # one more control group, once
        assert len(os.listdir("/proc/self/fd")) == before

    run(main)


def test_where_a_call_covers_what_runs_as_it_begins_there_are_no_spares(tmp_path: Path) -> None:
    plan = make_plan(
        Policy(plan="shared_proc"), host_facts(), workspace=tmp_path, kind=PlanKind.SHARED_PROC
    )
    assert bounded(2, plan) == (0, "")


def test_a_cell_makes_none_unless_it_is_told_to(tmp_path: Path) -> None:
    """As those of `exec` and `doctor`, which make one call."""
    plan = make_plan(Policy(), host_facts(), workspace=tmp_path, kind=kinds.IN_FORCE)

    async def main() -> None:
        cell = Cell(plan, grace=0.1, term=0.1)
        await cell.open()
        try:
            assert (await cell.call(command(tmp_path, "true"))).outcome is Outcome.OK
            assert cell._supervisor.spares.due(frozen=False) == inf
        finally:
            assert cell.close() == ()

    run(main)
