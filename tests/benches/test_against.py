"""Two commits compared: what counts as worse."""

from __future__ import annotations

import against
import pytest


def test_a_figure_is_worse_by_the_median_of_its_rounds() -> None:
    # One round in which the machine was busy with something else decides nothing.
    here, there = [1.0, 1.02, 9.0, 1.01, 0.99], [1.0, 1.0, 1.0, 1.0, 1.0]
    found = against.compare("--help: wall", here, there)
    assert found.ratio == pytest.approx(1.01)
    assert not found.worse
    assert found.noise < 0.02


@pytest.mark.parametrize(("factor", "worse"), [(1.09, False), (1.11, True), (0.5, False)])
def test_more_than_ten_percent_is_worse(factor: float, worse: bool) -> None:
    assert against.compare("--help: wall", [factor] * 3, [1.0] * 3).worse is worse


def test_noise_is_no_figure_of_ours() -> None:
    assert not against.compare(f"{against.CONTROL}: wall", [2.0] * 3, [1.0] * 3).worse
