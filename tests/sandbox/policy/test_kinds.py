"""Which kind of plan is chosen, from what was tried. Real hosts: tests/cli/test_plan_kinds.py."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import observer
import pytest
from sandbox_agent_sandbox.errors import NoPlan, SandboxUnavailable
from sandbox_agent_sandbox.import_roots import import_roots
from sandbox_agent_sandbox.plan import PlanKind
from sandbox_agent_sandbox.policy.kinds import choose as choosing
from sandbox_agent_sandbox.policy.kinds.build import apart, build
from sandbox_agent_sandbox.policy.kinds.choose import choose, choose_again, choose_at_once, found
from sandbox_agent_sandbox.policy.kinds.found import Found
from sandbox_agent_sandbox.policy.policy import Policy
from sandbox_agent_sandbox.policy.probe import host_can, host_facts, try_in_child
from sandbox_agent_sandbox.steps import Step
from sandboxes import run

FULL, SHARED, NONE = PlanKind
AUTO = Policy()
NOT = Found(works=False, why="it is refused", hint="allow it")
REFUSED = SandboxUnavailable(
    "no namespaces; hint: allow them", step=Step.NAMESPACES, number=errno.EPERM
)


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[PlanKind, Found]]:
    """What has been tried in this process: nothing, as at its start."""
    fresh: dict[PlanKind, Found] = {}
    monkeypatch.setattr(choosing, "_known", fresh)
    yield fresh


def test_a_full_plan_is_built_without_any_trial(known: dict[PlanKind, Found]) -> None:
    assert choose_at_once(AUTO) is FULL and choose(AUTO, host_facts()) is FULL
    assert choose_at_once(Policy(plan="full")) is FULL
    assert choose_at_once(Policy(plan="no_namespaces")) is None
    assert not known


def test_the_strongest_that_works_comes_next_and_is_remembered(
    known: dict[PlanKind, Found],
) -> None:
    known |= {SHARED: NOT, NONE: Found(works=True)}
    assert choose_again(AUTO, host_facts(), FULL, REFUSED) is NONE
    assert not known[FULL].works
    assert choose(AUTO, host_facts()) is NONE
    known[SHARED] = Found(works=True)
    assert choose(AUTO, host_facts()) is SHARED
    assert choose_again(AUTO, host_facts(), SHARED, REFUSED) is NONE


def test_a_kind_that_is_named_is_taken_or_refused(known: dict[PlanKind, Found]) -> None:
    known |= {SHARED: NOT, NONE: Found(works=True)}
    assert choose(Policy(plan="no_namespaces"), host_facts()) is NONE
    with pytest.raises(SandboxUnavailable, match=r"plan shared_proc .*it is refused; hint: allow"):
        choose(Policy(plan="shared_proc"), host_facts())
    with pytest.raises(NoPlan, match="no namespaces; hint: allow them"):
        choose_again(Policy(plan="full"), host_facts(), FULL, REFUSED)


@pytest.mark.parametrize(
    ("step", "number"), [(Step.VIEW, errno.ENOENT), (Step.COPY, errno.EACCES), ("", 0)]
)
def test_a_failure_that_says_nothing_about_the_host_is_no_reason(
    known: dict[PlanKind, Found], step: str, number: int
) -> None:
    known |= {kind: Found(works=True) for kind in PlanKind}
    failure = SandboxUnavailable("a file has gone", step=step, number=number)
    with pytest.raises(SandboxUnavailable) as same:
        choose_again(AUTO, host_facts(), FULL, failure)
    assert same.value is failure


def test_too_many_namespaces_are_not_remembered(known: dict[PlanKind, Found]) -> None:
    """There may be fewer again soon."""
    known |= {SHARED: NOT, NONE: Found(works=True)}
    short = SandboxUnavailable("too many", step=Step.NAMESPACES, number=errno.ENOSPC)
    assert choose_again(AUTO, host_facts(), FULL, short) is NONE
    assert FULL not in known and choose_at_once(AUTO) is FULL


def test_where_none_works_all_reasons_are_said_with_one_hint(
    known: dict[PlanKind, Found],
) -> None:
    known |= {SHARED: NOT, NONE: Found(works=False, why="no Landlock", hint="use another kernel")}
    with pytest.raises(NoPlan) as all_of_them:
        choose_again(AUTO, host_facts(), FULL, REFUSED)
    said = str(all_of_them.value)
    assert said.splitlines()[0] == "no namespaces"
    assert "plan shared_proc cannot be done here: it is refused" in said
    assert "plan no_namespaces cannot be done here: no Landlock" in said
    assert said.count("hint: ") == 1 and said.endswith("; hint: allow them")
    with pytest.raises(SandboxUnavailable, match=r"plan full .*\n.*\n.*no Landlock"):
        choose(AUTO, host_facts())


def test_building_goes_on_with_the_next_kind(known: dict[PlanKind, Found]) -> None:
    known |= {SHARED: NOT, NONE: Found(works=True)}
    made: list[PlanKind] = []

    class Opening:
        def __init__(self, kind: PlanKind) -> None:
            self.kind = kind
            made.append(kind)

        async def open(self) -> None:
            if self.kind is FULL:
                raise REFUSED

    async def main() -> None:
        for _ in range(2):
            assert (await build(AUTO, host_facts(), Opening)).kind is NONE

    run(main)
    assert made == [FULL, NONE, NONE]


def test_this_host_can_do_what_it_is_found_to_do() -> None:
    """The trials say what building shows: tests run where a full plan works."""
    tried = {kind: found(kind, host_facts()) for kind in PlanKind}
    assert tried[FULL].works
    assert all(one.works or one.why for one in tried.values())


@pytest.mark.parametrize("children", [1, 2])
def test_who_is_interrupted_while_kinds_are_tried_waits_for_no_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, children: int
) -> None:
    """At its end a loop waits for its threads, and each thread for its child."""
    host_can.cache_clear()
    mark = observer.new_mark()
    slow = tmp_path / "python3"
    slow.write_text(f"#!/bin/sh\nexec sleep 300.{mark}\n")
    slow.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(slow))

    async def main() -> None:
        work = (try_in_child, "", {}) if children == 1 else (choosing._try_at_once, host_facts())
        trial = asyncio.create_task(apart(*work))
        await asyncio.to_thread(
            observer.eventually, lambda: len(observer.marked(mark)) == children, 20
        )
        trial.cancel()
        with pytest.raises(asyncio.CancelledError):
            await trial

    begin = time.monotonic()
    asyncio.run(main())
    assert time.monotonic() - begin < 10
    assert observer.marked(mark) == []


def slow_python(folder: Path, text: str) -> str:
    """A Python whose begin is this script's."""
    slow = folder / "python3"
    slow.write_text(f'#!/bin/sh\ncd {folder}\n{text}\nexec {sys.executable} "$@"\n')
    slow.chmod(0o755)
    return str(slow)


@pytest.mark.parametrize("times", [1, 2])
def test_a_trial_that_somebody_ends_says_nothing_of_this_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """The kernel when memory is short, for instance. The plan would be a weaker one, silently."""
    text = f"echo >>begun; [ $(wc -l <begun) -gt {times} ] || kill -KILL $$"
    host_can.cache_clear()
    right = host_can()
    monkeypatch.setattr(sys, "executable", slow_python(tmp_path, text))
    host_can.cache_clear()
    assert host_can() == right
    assert (tmp_path / "begun").read_text().count("\n") == times + 1
    (tmp_path / "begun").unlink()
    assert try_in_child("", {}) == ""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_trial_that_is_ended_every_time_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    monkeypatch.setattr(sys, "executable", slow_python(tmp_path, f"kill -{number.value} $$"))
    host_can.cache_clear()
    for ask in (host_can, lambda: try_in_child("", {})):
        with pytest.raises(SandboxUnavailable, match=f"ended by {number.name}, 3 times"):
            ask()


def test_a_trial_that_has_no_process_left_says_nothing_of_this_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As fork(2) says it in a control group that is full."""
    said = "BlockingIOError: [Errno 11] Resource temporarily unavailable"
    monkeypatch.setattr(sys, "executable", slow_python(tmp_path, f"echo '{said}' >&2; exit 1"))
    host_can.cache_clear()
    with pytest.raises(SandboxUnavailable, match="no more processes or threads"):
        host_can()


def test_what_a_trial_has_forked_is_ended_with_it_if_it_is_stopped(tmp_path: Path) -> None:
    """It holds the output of the trial open."""
    code = (
        "child = os.fork()\n"
        "if not child: os.kill(os.getpid(), 19)\n"
        f"os.waitpid(child, os.WUNTRACED); open({str(tmp_path / 'stopped')!r}, 'w').close()\n"
        "os.waitpid(child, 0)"
    )

    async def main() -> None:
        trial = asyncio.create_task(apart(try_in_child, code, {}))
        await asyncio.to_thread(observer.eventually, (tmp_path / "stopped").exists, 20)
        trial.cancel()
        with pytest.raises(asyncio.CancelledError):
            await trial

    begin = time.monotonic()
    asyncio.run(main())
    assert time.monotonic() - begin < 10
    assert observer.marked(str(tmp_path / "stopped")) == []


def test_a_trial_whose_parent_has_died_tries_nothing(tmp_path: Path) -> None:
    """Also if its Python had not begun by then."""
    slow = slow_python(tmp_path, "echo $$ >begun; read -r _ <go")
    os.mkfifo(tmp_path / "go")
    go = os.open(tmp_path / "go", os.O_RDWR)  # without a reader, too: setpriv(1) ends it at once
    text = (
        f"import sys; sys.executable = {slow!r}; "
        "from sandbox_agent_sandbox.policy.probe import try_in_child; "
        "try_in_child(\"open('tried', 'w')\", {})"
    )
    with subprocess.Popen([sys.executable, "-c", text]) as parent:
        begun = tmp_path / "begun"
        pid = observer.eventually(lambda: begun.exists() and begun.read_text(), 20)
        child = observer.look(int(pid))
        assert child is not None
        parent.kill()
        parent.wait(20)
    with observer.watching([child]) as handles:
        os.write(go, b"\n")
        assert observer.wait_gone(handles, 20)[1] == []
    os.close(go)
    assert not (tmp_path / "tried").exists()


@pytest.mark.parametrize("trial", ["_works(signal.pause)", "_other_user()"])
def test_a_trial_leaves_nobody_when_it_is_killed(trial: str) -> None:
    if os.geteuid() != 0 and "user" in trial:
        pytest.skip("needs root")
    code = (
        f"import os, signal, sys; sys.path[:0] = {import_roots()!r}; "
        "from sandbox_agent_sandbox.inside.unshared.trial import _works, _other_user; "
        "os.kill = lambda pid, number: os.write(1, b'up\\n') and signal.pause(); "
        "os.waitpid = os.kill; "
        f"{trial}"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"up\n"
        below = observer.eventually(lambda: observer.descendants(process.pid), 20)
        process.kill()
    with observer.watching(below) as handles:
        assert observer.wait_gone(handles, 10)[1] == []
