"""The table of kills is complete by construction."""

from __future__ import annotations

import itertools

import pytest
import test_agent
import test_handshake
import test_model
import test_model_outside
import test_outside
import test_worker
from table import IMPOSSIBLE, Death, How, When, Who, deaths


def has_case(death: Death) -> bool:
    """Whether some test of this folder is parametrised with the cell."""
    return any(
        death in cases
        for cases in (
            list(deaths(Who.WORKER)),
            test_handshake.cases(Who.CALL_INIT, Who.SPAWNER, Who.INIT),
            test_handshake.BY_THEMSELVES,
            test_outside.cases(),
            test_agent.cases(),
            test_model.cases(),
            test_model_outside.cases(),
        )
    )


@pytest.mark.parametrize("who", Who)
def test_every_cell_is_a_case_or_listed_as_impossible_and_never_both(who: Who) -> None:
    for when, how in itertools.product(When, How):
        death = Death(when, who, how)
        reasons = [rule.why for rule in IMPOSSIBLE if rule.covers(death)]
        assert len(reasons) + has_case(death) == 1, (str(death), reasons)


def test_every_case_has_an_expectation_and_every_expectation_a_case() -> None:
    workers = {(death.when, death.how) for death in deaths(Who.WORKER)}
    assert workers == set(test_worker.TABLE)
    opening = {(d.who, d.how) for d in test_handshake.cases(Who.SPAWNER, Who.INIT)}
    assert opening == set(test_handshake.OPENING)
    assert {d.how for d in test_handshake.cases(Who.CALL_INIT)} == set(test_handshake.CALL_INIT)
    for death in test_outside.cases():
        test_outside.expected(death)
    agents = {(death.when, death.how) for death in deaths(Who.AGENT)}
    assert agents == set(test_agent.TABLE)
    models = {(death.when, death.how) for death in test_model.cases()}
    handshakes = {(When.HANDSHAKE, how) for how in test_model.HANDSHAKE}
    assert models == set(test_model.TABLE) | handshakes
    for death in test_model_outside.cases():
        test_model_outside.expected(death)
