"""The interrupt cases of tests/promises/stops, where no full plan can be had."""

from __future__ import annotations

import environments
import skips
from identity import Person
from struck import command_at_work
from test_interrupts import (  # noqa: F401
    assert_nothing_left,
    test_a_command_that_ignores_signals_is_killed_after_grace_and_term,
    test_a_second_interrupt_goes_straight_to_term,
    test_an_interrupted_exec_leaves_nothing,
    test_an_interrupted_run_leaves_nothing_and_says_so,
    test_nothing_outlives_a_killed_agent,
    test_nothing_outlives_a_killed_exec,
    test_the_first_signal_decides_the_exit_code,
)

PERSONS = environments.persons(everywhere=skips.is_soak())


def test_the_plan_is_the_one_that_this_host_can_do(person: Person) -> None:
    assert person.place is not None
    with command_at_work(person) as run:
        run.strike(2)
    segment = next(event for event in run.journal() if event["event"] == "segment")
    assert segment["plan"]["kind"] == person.place.plan(root=person.uid == 0)
