"""What could not be stopped is named, and success is never claimed; what was cut short says so."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import observer
import pytest
import talking
from sandbox_agent.config.settings import Interrupt
from sandbox_agent.journal.history import ToolMessage
from sandbox_agent.journal.result_file import read_record
from sandbox_agent.journal.status import Status
from sandbox_agent_sandbox.host.deadlines import Deadlines
from talking import FINAL, Watch, shell, soon, talk


class Freezer:
    """A cgroup-v1 freezer: what is frozen in it does not die of SIGKILL until it is thawed, like a
    process in uninterruptible sleep. Documentation/admin-guide/cgroup-v1/freezer-subsystem.rst.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def freeze(self, pid: int) -> None:
        (self._folder / "cgroup.procs").write_text(str(pid))
        (self._folder / "freezer.state").write_text("FROZEN")
        observer.eventually(lambda: self._state() == "FROZEN", 20)

    def thaw(self) -> None:
        (self._folder / "freezer.state").write_text("THAWED")

    def _state(self) -> str:
        return (self._folder / "freezer.state").read_text().strip()


@pytest.fixture
def freezer() -> Iterator[Freezer]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    mounted = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    places = [m[1] for m in mounted if m[2] == "cgroup" and "freezer" in m[3].split(",")]
    if not places:
        pytest.skip("needs a cgroup-v1 freezer")
    folder = Path(places[0]) / f"sandbox-agent-test-{os.getpid()}"
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("needs a cgroup-v1 freezer that can be written")
    made = Freezer(folder)
    try:
        yield made
    finally:
        made.thaw()
        observer.eventually(lambda: not (folder / "cgroup.procs").read_text(), 20)
        folder.rmdir()


def test_a_process_that_cannot_be_killed_is_named_and_dies_when_it_can(
    tmp_path: Path, watch: Watch, freezer: Freezer
) -> None:
    mark = observer.new_mark()
    steps = (shell(f"echo up; sleep 300.{mark}; true"), FINAL)
    with talk(tmp_path, watch, *steps, interrupt=Interrupt(0.1, 0.1)) as conv:
        frozen: list[int] = []

        def strike() -> None:
            watch.wait_up()
            found = observer.eventually(
                lambda: [p for p in observer.marked(mark) if p.command.startswith("sleep")], 20
            )
            freezer.freeze(found[0].pid)
            frozen.append(found[0].pid)
            conv.interrupt()

        try:
            soon(strike)
            result = conv.run()
            [end] = talking.ends(conv).values()
            proof = Deadlines().proof * 1000
            assert proof <= end.rungs_ms["ended"] - end.rungs_ms["kill"] < 6000
            assert frozen[0] in [survivor.pid for survivor in end.survivors]
            assert any(mark in survivor.command for survivor in end.survivors)
            assert (result.status, result.exit_code) == (Status.INTERRUPTED, 7)
            assert mark in result.reason
            record = read_record(conv.run_dir)
            assert record.exit_code == 7
            assert {s.pid for s in record.survivors} == {s.pid for s in end.survivors}
            assert record.calls[0].survivors == record.survivors
            told = [m for m in conv._recorder.state.history() if isinstance(m, ToolMessage)]
            assert f"could not be stopped: processes {end.survivors[0].pid}" in told[0].content
            assert observer.look(frozen[0]) is not None, "it was named because it is there"
        finally:
            freezer.thaw()
        observer.eventually(lambda: not observer.marked(mark), 20)
        begin = time.monotonic()
    assert time.monotonic() - begin < 2, "once it is thawed, closing waits for nothing"
    below = observer.descendants(os.getpid())
    assert [process for process in below if len(process.namespace_pids) > 1] == []


def test_the_next_run_after_a_survivor_works(
    tmp_path: Path, watch: Watch, freezer: Freezer
) -> None:
    mark = observer.new_mark()
    steps = (shell(f"echo up; sleep 300.{mark}; true"), shell("echo fine"), FINAL)
    with talk(tmp_path, watch, *steps, interrupt=Interrupt(0.1, 0.1)) as conv:
        conv._host.deadlines = Deadlines(proof=0.3)

        def strike() -> None:
            watch.wait_up()
            found = observer.eventually(
                lambda: [p for p in observer.marked(mark) if p.command.startswith("sleep")], 20
            )
            freezer.freeze(found[0].pid)
            conv.interrupt()

        try:
            soon(strike)
            assert conv.run().exit_code == 7
            conv.send_message("go on")
            result = conv.run()
            assert result.status is Status.DONE
            assert talking.ends(conv)["call_2_1"].content == "fine\n"
            assert result.record.survivors == (), "a record is about its own run"
        finally:
            with contextlib.suppress(OSError):
                freezer.thaw()
        observer.eventually(lambda: not observer.marked(mark), 20)


def test_the_model_is_told_that_what_it_sees_is_partial(tmp_path: Path, watch: Watch) -> None:
    mark = observer.new_mark()
    steps = (shell(f"echo up; echo half of it; exec sleep 300.{mark}"), FINAL)
    with talk(tmp_path, watch, *steps) as conv:
        soon(lambda: (watch.wait_for(lambda: b"half of it\n" in b"".join(watch.output.values())),
                      conv.interrupt()))  # fmt: skip
        conv.run()
        [told] = [m for m in conv._recorder.state.history() if isinstance(m, ToolMessage)]
    assert told.content.startswith("up\nhalf of it\n")
    assert "any output above is incomplete" in told.content
    assert "cancelled: it was told to stop" in told.content
