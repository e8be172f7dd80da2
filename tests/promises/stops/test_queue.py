"""A call never starts once the flag is up."""

from __future__ import annotations

import os
import select
import signal

import observer
import struck
from identity import BIN, Person

# The queue is in the agent. Interrupts as both users: test_interrupts.py.
PERSONS = ["user"]

CALLS = 100


def test_a_hundred_queued_calls_interrupted_leave_no_marker(person: Person) -> None:
    mark = observer.new_mark()
    pipe = person.work / "begun.fifo"
    os.mkfifo(pipe)
    pipe.chmod(0o666)
    person.own(pipe)
    first = {"shell": {"command": f"echo begun > begun.fifo; exec sleep 300.{mark}"}}
    rest = [{"shell": {"command": f"touch marker-{number}"}} for number in range(1, CALLS)]
    turns = [{"calls": [first, *rest]}, {"final": "never"}]
    task = struck.write_task(person, turns, parallel=1)

    handle = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
    try:
        with person.start([str(BIN / "sandbox-agent"), "run", str(task)]) as agent:
            try:
                poller = select.poll()
                poller.register(handle, select.POLLIN)
                assert poller.poll(struck.ARRIVAL * 1000), "the first call did not begin"
                run = struck.Struck(agent, person, [mark])
                after = run.strike(signal.SIGINT)
            finally:
                agent.kill()
    finally:
        os.close(handle)
    assert after.code == 130, after.stderr
    assert after.left == after.lasting == []
    assert list(person.work.glob("marker-*")) == []

    calls = run.result()["calls"]
    assert len(calls) == CALLS
    assert calls[0]["outcome"] in ("cancelled", "killed")
    assert {call["outcome"] for call in calls[1:]} == {"skipped"}
    assert {call["started"] for call in calls[1:]} == {"no"}
    started = [event for event in run.journal() if event["event"] == "started"]
    assert [event["call"] for event in started] == [calls[0]["id"]]
