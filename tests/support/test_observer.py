"""The checkers are checked: without a sandbox, they see what stays."""

from __future__ import annotations

import os
import signal
import tempfile

import leaks
import observer
import struck
from identity import Person

# Root's processes are as visible as a user's.
PERSONS = ["user"]


def test_without_a_sandbox_the_observer_counts_what_gets_away(person: Person) -> None:
    mark = observer.new_mark()
    with struck.at_work(person, ["sh", "-c", struck.HOSTILE.format(mark=mark)], [mark]) as run:
        os.kill(run.agent.pid, signal.SIGKILL)
        run.agent.wait()
        left = observer.marked(mark)
        assert {process.pid for process in left} == {one.pid for one in run.tools.values()}
        # Orphans, and with them the double fork, have come to this process: the leak check's view.
        below = {process.pid for process in observer.descendants(os.getpid())}
        assert {process.pid for process in left} <= below
        with observer.watching(left) as handles:
            for process in left:
                os.kill(process.pid, signal.SIGKILL)
            _, lasting = observer.wait_gone(handles, 10)
        assert lasting == []
    assert observer.marked(mark) == []


def test_the_leak_check_names_and_ends_a_daemon(person: Person) -> None:
    mark = observer.new_mark()
    before = leaks.Snapshot.take()
    person.run(["sh", "-c", f"setsid sleep 300.{mark} </dev/null >/dev/null 2>&1 &"])
    found = leaks.kill_new_processes(before, patience=0)
    assert len(found) == 1
    assert mark in found[0]
    assert observer.marked(mark) == []


def test_the_leak_check_names_descriptors_and_files() -> None:
    before = leaks.Snapshot.take()
    handle, path = tempfile.mkstemp()
    try:
        found = "\n".join(leaks.find(before))
        assert f"descriptor {handle}" in found
        assert f"temporary file {path}" in found
    finally:
        os.close(handle)
        os.unlink(path)
    assert leaks.find(before) == []
