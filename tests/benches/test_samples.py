"""The statistics of the bench."""

from __future__ import annotations

import pytest
from bench.errors import CannotMeasure
from bench.results import Result, Sheet, at_least, at_most, ratio_at_most
from bench.rounds import interleaved
from bench.samples import Samples, noise_of, p99


def silent() -> Sheet:
    return Sheet(say=lambda text: None)


def test_p99_is_a_figure_that_was_taken() -> None:
    assert p99([float(one) for one in range(1, 101)]) == 99.0
    assert p99([3.0, 1.0, 2.0]) == 3.0


def test_one_busy_round_decides_nothing() -> None:
    here = Samples.of([[1.0], [1.02], [9.0], [1.01], [0.99]])
    there = Samples.of([[1.0]] * 5)
    ratio, noise = here.ratio_to(there)
    assert ratio == pytest.approx(1.01)
    assert noise < 0.02
    assert here.more_than(there).middle == pytest.approx(0.01)


def test_the_noise_of_equal_figures_is_none() -> None:
    assert noise_of([2.0, 2.0, 2.0]) == 0.0


@pytest.mark.parametrize(("factor", "met"), [(1.04, True), (1.06, False), (0.5, True)])
def test_five_percent_more_than_another_commit_is_a_miss(factor: float, met: bool) -> None:
    sheet = silent()
    sheet.beside("--help", Samples.of([[factor]] * 3), Samples.of([[1.0]] * 3), "ms", "REF")
    [result] = sheet.results
    assert (result.ratio, result.met) == (pytest.approx(factor), met)


def test_a_rate_must_reach_its_ratio() -> None:
    sheet = silent()
    for rate in (1.4, 1.6):
        there = Samples.of([[1.0]] * 3)
        sheet.beside("saturated", Samples.of([[rate]] * 3), there, "calls/s", "REF", 1.5)
    assert [one.met for one in sheet.results] == [False, True]


def test_a_result_says_what_it_was_measured_against() -> None:
    found = Result("exec", "exec -- /bin/true, p50", 90.0, "ms", 10.0, ratio_at_most(9)).data()
    assert found == {
        "suite": "exec",
        "name": "exec -- /bin/true, p50",
        "value": 90.0,
        "unit": "ms",
        "baseline": 10.0,
        "ratio": 9.0,
        "target": "at most 9 x",
        "met": True,
    }


def test_targets_are_bounds_of_the_value_or_of_the_ratio() -> None:
    assert Result("a", "b", 30.0, "ms", target=at_most(30)).met is True
    assert Result("a", "b", 30.1, "ms", target=at_most(30)).met is False
    assert Result("a", "b", 1.0, "", target=at_least(2)).met is False
    assert Result("a", "b", 1.0, "ms").met is None
    assert Result("a", "b", 99.0, "ms", target=at_most(1), judged=False).met is None


def test_who_cannot_be_measured_takes_no_part_and_the_others_go_on() -> None:
    def fails() -> dict[str, list[float]]:
        raise CannotMeasure("a peer: exit 1")

    def works() -> dict[str, list[float]]:
        return {"figure": [1.0]}

    notes: list[str] = []
    contestants = {"ours": works, "a peer": fails, "another": works}
    taken = interleaved("x", contestants, 2, give_up=notes.append)
    assert notes == ["a peer: exit 1"]
    assert {name: len(found["figure"].rounds) for name, found in taken.items()} == {
        "ours": 2,
        "another": 2,
    }
    with pytest.raises(CannotMeasure):
        interleaved("x", {"ours": fails, "a peer": works}, 2, give_up=notes.append)


def test_rounds_take_turns_and_the_first_is_not_counted() -> None:
    said: list[str] = []

    def one(name: str) -> dict[str, list[float]]:
        said.append(name)
        return {"figure": [float(len(said))]}

    taken = interleaved("x", {name: lambda name=name: one(name) for name in "ab"}, 2)
    assert said == ["a", "b", "b", "a", "a", "b"]
    assert taken["a"]["figure"].rounds == ((4.0,), (5.0,))
