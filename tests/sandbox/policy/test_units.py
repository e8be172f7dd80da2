"""Durations, sizes and counts are read as people write them, or refused with the valid forms."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sandbox_agent_sandbox.policy.fields.units import (
    MAX_DURATION,
    MAX_SIZE,
    parse_count,
    parse_duration,
    parse_size,
)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        (0, 0),
        (1.5, 1.5),
        ("90", 90),
        ("120s", 120),
        ("500ms", 0.5),
        ("2m", 120),
        ("2min", 120),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        (" 1d ", 86400),
        ("1.5h", 5400),
        ("3650d", MAX_DURATION),
    ],
)
def test_durations(written: Any, seconds: float) -> None:
    assert parse_duration(written) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "written",
    [
        -1, math.nan, math.inf, -math.inf, True, None, [], "", "s", "5 parsecs", "-1s", "1m1m",
        "1s extra", "1e3", "0x10", "nan", "inf", "1h30", "٣s", "9" * 50, 10**400, "3651d",
    ],
)  # fmt: skip
def test_what_is_no_duration_is_refused(written: Any) -> None:
    with pytest.raises(ValueError, match=r"is not a duration; write|is too long a duration"):
        parse_duration(written)


@pytest.mark.parametrize("written", [math.nan, -math.inf, -1e300, -(10**400)])
def test_only_what_is_long_is_called_too_long(written: float) -> None:
    with pytest.raises(ValueError, match="is not a duration; write"):
        parse_duration(written)


def test_a_refused_duration_is_named_with_the_accepted_forms() -> None:
    with pytest.raises(ValueError) as caught:
        parse_duration("5 parsecs")
    assert str(caught.value) == (
        "'5 parsecs' is not a duration; write a number of seconds, or a number with "
        "ms, s, m, h or d, like 500ms, 90s or 1h30m"
    )


@pytest.mark.parametrize(
    ("written", "size"),
    [
        (0, 0),
        (4096, 4096),
        (1e6, 10**6),
        ("123", 123),
        ("5B", 5),
        ("64k", 64_000),
        ("64Ki", 65_536),
        ("10MB", 10_000_000),
        ("10 MiB", 10 * 2**20),
        ("1GiB", 2**30),
        ("1.5GiB", 3 * 2**29),
        ("0.1kB", 100),
        ("2TiB", 2**41),
        ("256mib", 256 * 2**20),
        (MAX_SIZE, MAX_SIZE),
    ],
)
def test_sizes(written: Any, size: int) -> None:
    assert parse_size(written) == size


@pytest.mark.parametrize(
    "written",
    [-1, 1.5, "1.5", "0.0001kB", True, None, {}, "", "MiB", "1 PiB", "1MiBs", "-1", math.nan,
     math.inf, 2**63, "9999999TiB"],
)  # fmt: skip
def test_what_is_no_size_is_refused(written: Any) -> None:
    with pytest.raises(ValueError, match=r"is not a size; write|is too large a size"):
        parse_size(written)


@pytest.mark.parametrize(("written", "count"), [(0, 0), ("256", 256), ("200k", 200_000), (2.0, 2)])
def test_counts(written: Any, count: int) -> None:
    assert parse_count(written) == count


@pytest.mark.parametrize("written", [-1, 1.5, True, None, "1Ki", "many", "1.0001k", 2**63])
def test_what_is_no_count_is_refused(written: Any) -> None:
    with pytest.raises(ValueError, match=r"is not a count; write"):
        parse_count(written)


_ANYTHING = (
    st.text() | st.integers() | st.floats() | st.none() | st.booleans() | st.lists(st.integers())
)


@settings(database=None)
@given(_ANYTHING)
def test_anything_is_a_bounded_number_or_a_value_error(value: Any) -> None:
    for parse, most in ((parse_duration, MAX_DURATION), (parse_size, MAX_SIZE)):
        try:
            parsed = parse(value)
        except ValueError:
            continue
        assert 0 <= parsed <= most
