"""The ladder's rules, with a clock of the test's own."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sandbox_agent_sandbox.host.deadlines import Deadlines
from sandbox_agent_sandbox.host.ladder import MOVES, Ladder, State
from sandbox_agent_sandbox.outcome import Rung

DEADLINES = Deadlines(start=10.0, finish=0.25, proof=5.0)


@dataclass
class Signals:
    """What the ladder sent."""

    sent: list[str] = field(default_factory=list)

    is_ready: bool = False

    def prepare(self) -> None:
        self.is_ready = True

    def terminate(self) -> None:
        self.sent.append("TERM")

    def kill(self) -> None:
        self.sent.append("KILL")

    def insist(self) -> None:
        self.sent.append("KILL, again")


def a_ladder(*, born: bool = True) -> tuple[Ladder, Signals]:
    signals = Signals()
    ladder = Ladder(signals, grace=2.0, term=1.0, deadlines=DEADLINES, now=0.0)
    if born:
        ladder.birth(0.0)
    return ladder, signals


def test_each_rung_comes_at_its_time_and_not_before() -> None:
    ladder, signals = a_ladder()
    ladder.flag(10.0)
    assert signals.is_ready
    ladder.tick(11.999)
    assert signals.sent == []
    assert ladder.deadline == 12.0
    ladder.tick(12.0)
    assert signals.sent == ["TERM"]
    ladder.tick(12.999)
    assert signals.sent == ["TERM"]
    ladder.tick(13.0)
    assert signals.sent == ["TERM", "KILL"]
    ladder.end(13.01, proven=True)
    assert ladder.rungs_ms() == {"flag": 0, "term": 2000, "kill": 3000, "ended": 3010}
    assert ladder.rung is Rung.KILL


def test_a_second_order_goes_straight_to_term_and_a_third_changes_nothing() -> None:
    ladder, signals = a_ladder()
    ladder.flag(0.0)
    ladder.flag(0.5)
    assert signals.sent == []
    ladder.escalate(0.5)
    assert signals.sent == ["TERM"]
    ladder.escalate(0.6)
    ladder.flag(0.6)
    assert signals.sent == ["TERM"]
    assert ladder.deadline == 1.5


def test_escalating_what_was_never_flagged_does_nothing() -> None:
    ladder, signals = a_ladder()
    ladder.escalate(1.0)
    assert (ladder.state, signals.sent) == (State.RUNNING, [])


@pytest.mark.parametrize("born", [True, False])
def test_a_second_order_that_overtakes_the_first_takes_effect_with_it(born: bool) -> None:
    ladder, signals = a_ladder(born=born)
    ladder.escalate(1.0)
    assert not ladder.tick(1.0)
    assert (ladder.rung, signals.sent) == (None, []), "nothing without the first"
    ladder.flag(1.001)
    ladder.tick(1.002)
    if not born:
        signals.sent.clear()  # it reached nobody
        ladder.birth(1.5)
    assert (ladder.rung, signals.sent) == (Rung.TERM, ["TERM"])
    assert ladder.rungs_ms() == {"flag": 0, "term": 1}
    assert ladder.deadline == 2.002


def test_a_call_that_has_given_its_result_is_no_longer_cancelled() -> None:
    ladder, signals = a_ladder()
    ladder.finish(1.0)
    ladder.flag(1.1)
    assert ladder.state is State.FINISHING
    assert ladder.rung is None
    ladder.tick(1.0 + DEADLINES.finish)
    assert signals.sent == ["KILL"], "a worker that lingers after its result is killed"
    assert ladder.rung is None, "and that is no rung of an interrupt"


def test_what_is_born_late_gets_the_rung_that_is_due() -> None:
    for at, expected in ((1.0, []), (2.5, ["TERM"]), (3.0, ["TERM"])):
        ladder, signals = a_ladder(born=False)
        ladder.flag(0.0)
        ladder.tick(at)
        signals.sent.clear()
        ladder.birth(at)
        assert signals.sent == expected, at


def test_what_is_never_born_takes_the_sandbox_with_it() -> None:
    ladder, signals = a_ladder(born=False)
    ladder.tick(DEADLINES.start)
    assert signals.sent == ["KILL"]


def test_a_late_clock_takes_all_rungs_that_are_due_in_order() -> None:
    ladder, signals = a_ladder()
    ladder.flag(0.0)
    ladder.tick(2.0)
    ladder.tick(100.0)
    assert signals.sent == ["TERM", "KILL"]


def test_an_order_to_end_that_is_not_followed_becomes_sigkill_and_then_the_wait_ends() -> None:
    ladder, signals = a_ladder()
    ladder.flag(0.0)
    ladder.tick(2.0)
    ladder.tick(3.0)
    assert not ladder.tick(3.0 + DEADLINES.order - 0.01)
    assert signals.sent == ["TERM", "KILL"]
    for _ in range(2):
        assert not ladder.tick(3.0 + DEADLINES.order)
        assert signals.sent == ["TERM", "KILL", "KILL, again"]
    assert not ladder.tick(3.0 + DEADLINES.order + DEADLINES.proof - 0.01)
    assert ladder.tick(3.0 + DEADLINES.order + DEADLINES.proof)


def test_ended_is_the_end() -> None:
    ladder, signals = a_ladder()
    ladder.end(1.0, proven=True)
    ladder.flag(2.0)
    ladder.escalate(2.0)
    ladder.abort(2.0)
    ladder.finish(2.0)
    ladder.birth(2.0)
    ladder.tick(99.0)
    assert (ladder.state, signals.sent) == (State.ENDED, [])
    with pytest.raises(AssertionError):
        ladder.end(3.0, proven=True)


ORDERS = st.sampled_from(["flag", "escalate", "finish", "abort", "birth", "tick"])


@settings(database=None, deadline=None)
@given(st.lists(st.tuples(ORDERS, st.floats(0, 3)), max_size=30))
def test_no_order_of_events_makes_an_illegal_move_or_goes_back_up(
    events: list[tuple[str, float]],
) -> None:
    ladder, signals = a_ladder(born=False)
    now, seen = 0.0, [ladder.state]
    for name, later in events:
        now += later
        getattr(ladder, name)(now)
        if ladder.state is not seen[-1]:
            seen.append(ladder.state)
    for before, after in itertools.pairwise(seen):
        reachable = {before}
        for _ in State:
            reachable |= {move for state in reachable for move in MOVES[state]}
        assert after in reachable - {before}
    assert (
        "TERM" not in signals.sent[signals.sent.index("KILL") :] if "KILL" in signals.sent else True
    )
