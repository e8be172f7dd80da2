"""In containers of runc: the plan is the strongest that the container allows. An interrupted run
and a killed agent leave nothing, and the record is complete."""

from __future__ import annotations

import signal

import environments
import struck
from identity import Person
from test_interrupts import assert_complete_record, assert_nothing_left

PERSONS = environments.container_users()


def test_an_interrupted_run_leaves_nothing(person: Person) -> None:
    with struck.task_at_work(person, 2, struck.STUBBORN) as run:
        after = run.strike(signal.SIGINT)
    assert after.code == 130, after.stderr
    assert_nothing_left(after)
    assert_complete_record(run, 130, 2)
    assert person.place is not None
    segment = next(event for event in run.journal() if event["event"] == "segment")
    assert segment["plan"]["kind"] == person.place.plan(root=person.uid == 0)


def test_nothing_outlives_a_killed_agent(person: Person) -> None:
    """The container's first process stays until the last one has ended, so it kills nothing."""
    with struck.task_at_work(person) as run:
        after = run.kill()
    assert after.code == -signal.SIGKILL
    assert_nothing_left(after)
