"""Findings are few, and each is there once."""

from __future__ import annotations

from sandbox_agent_sandbox.protection.finding import (
    MOST_FINDINGS,
    FindingKind,
    finding,
    listed,
)

NEW = FindingKind.NEW


def test_each_is_listed_once_whatever_call_it_was_noticed_after() -> None:
    twice = [finding(NEW, "a", "x", "call_1"), finding(NEW, "a", "x", "call_2")]
    assert len(listed(twice)) == 1


def test_what_is_left_out_is_counted() -> None:
    many = listed(finding(NEW, str(number), "x") for number in range(MOST_FINDINGS + 7))
    assert len(many) == MOST_FINDINGS + 1
    assert many[-1].what == "... and 7 more"


def test_texts_from_inside_are_valid_and_short() -> None:
    one = finding(NEW, "a\udcff" + "b" * 1000, "c" * 1000)
    assert one.path.startswith("a\\xff") and len(one.path) < 310 and len(one.what) < 310


def test_many_of_one_sort_leave_room_for_the_others() -> None:
    decoys = [finding(NEW, str(number), "a repository") for number in range(MOST_FINDINGS * 2)]
    hook = finding(FindingKind.CHANGED, ".git/hooks/pre-commit", "a hook")
    many = listed([*decoys, hook])
    assert hook in many and len(many) == MOST_FINDINGS + 1
    assert many[-1].what == f"... and {MOST_FINDINGS + 1} more"
