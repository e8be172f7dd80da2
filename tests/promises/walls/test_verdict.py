"""The flag, the frames and the verdict: no tool can answer, cancel or judge in another's name.

Each attempt is proved to succeed in a copy of the product in which the one wall is taken out. As an
ordinary user all are tried, and as root one for each wall; with --soak all.
"""

from __future__ import annotations

import pytest
import skips
from identity import Person
from walls.corpus import scenes, verdict


def of(person: Person) -> list[scenes.Scene]:
    kind = "user" if person.uid else "root"
    scenes_of = [one for one in verdict.SCENES if kind in one.persons]
    if person.uid or skips.is_soak():
        return scenes_of
    return list({one.wall: one for one in scenes_of}.values())


@pytest.mark.timeout(300)
def test_no_tool_reaches_the_flag_the_frames_or_the_verdict(person: Person) -> None:
    for one in of(person):
        played = scenes.play(person, one, {})
        assert not played.succeeded, f"{one.name}: {one.says}: {played.said}"
        assert played.works, f"{one.name}: what is beside it does not work: {played.said}"


@pytest.mark.as_user
@pytest.mark.timeout(300)
def test_without_its_wall_every_such_attempt_succeeds(person: Person) -> None:
    with scenes.product_without(person) as take_out:
        for one in of(person):
            played = scenes.play(person, one, take_out(one.wall))
            assert played.succeeded, f"{one.name}: {one.says}: {played.said}"
