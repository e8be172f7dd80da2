"""Long conversations: older output is shortened by one rule, and nothing else is touched."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sandbox_agent.journal.events import ToolCall
from sandbox_agent.journal.history import (
    AssistantMessage,
    History,
    Message,
    ToolMessage,
    UserMessage,
)
from sandbox_agent.models.shortening import HIGH, KEPT, LOW, Shortener, shortened
from sandbox_agent_ipc.messages import Image
from sandbox_agent_sandbox.outcome import Outcome, StartedState

WINDOW = 10_000
"""Tokens; 40,000 bytes before the provider has counted."""


def result(number: int, size: int, outcome: Outcome = Outcome.OK) -> ToolMessage:
    text = "\n".join(f"line {n} of {number}" for n in range(size // 14))
    end = "" if outcome is Outcome.OK else "\n[exit status 1]"
    return ToolMessage(f"call_{number}", "shell", text + end, outcome, StartedState.YES)


class Talk:
    """A conversation that grows, as the fold keeps it."""

    def __init__(self) -> None:
        self.messages: list[Message] = [UserMessage("go")]
        self.answers = 0

    def turn(self, *sizes: int, outcome: Outcome = Outcome.OK) -> History:
        self.answers += 1
        first = len(self.messages)
        made = [result(first + place, size, outcome) for place, size in enumerate(sizes)]
        asked = tuple(ToolCall(r.call_id, "shell", {"command": "look"}) for r in made)
        self.messages += [AssistantMessage(f"Turn {self.answers}.", asked), *made]
        return self.history()

    def history(self) -> History:
        return History(self.messages, self.answers)


def lengths(messages: Sequence[Message]) -> list[int]:
    return [len(m.content) for m in messages if isinstance(m, ToolMessage)]


def changed(history: Sequence[Message], sent: Sequence[Message]) -> list[int]:
    """Places of what was shortened; nothing else may differ, and not in what it is of."""
    assert len(history) == len(sent)
    places = [n for n, (whole, now) in enumerate(zip(history, sent, strict=True)) if whole != now]
    for place in places:
        whole, now = history[place], sent[place]
        assert isinstance(whole, ToolMessage)
        assert isinstance(now, ToolMessage)
        assert (whole.call_id, whole.outcome) == (now.call_id, now.outcome)
        assert (len(now.images), len(now.content)) < (len(whole.images), len(whole.content))
    return places


# --- the rule -------------------------------------------------------------------------------


def test_what_fits_is_sent_as_it_is() -> None:
    talk, shortener = Talk(), Shortener()
    for _ in range(7):
        history = talk.turn(4000)
        assert shortener.fit(history, WINDOW) is history
    assert shortener.tokens <= HIGH * WINDOW


def test_beyond_four_fifths_the_oldest_results_are_shortened_down_to_three_fifths() -> None:
    talk, shortener = Talk(), Shortener()
    while not changed(history := talk.turn(4000), sent := shortener.fit(history, WINDOW)):
        assert shortener.tokens <= HIGH * WINDOW
    places = changed(history, sent)
    assert LOW * WINDOW - 1000 < shortener.tokens <= LOW * WINDOW
    # From the beginning on, one after the other.
    results = [n for n, m in enumerate(history) if isinstance(m, ToolMessage)]
    assert places == results[: len(places)]
    assert len(places) < len(results) - 1


def test_the_beginning_stays_the_same_for_many_turns() -> None:
    talk, shortener = Talk(), Shortener()
    rewrites, before = [], shortener.fit(talk.turn(1500), 10 * WINDOW)
    for turn in range(400):
        sent = shortener.fit(talk.turn(1500), 10 * WINDOW)
        if list(sent[: len(before)]) != list(before):
            rewrites.append(turn)
        before = sent
    # A fifth of the window is about fifty of these turns.
    assert len(rewrites) > 3
    assert min(later - one for one, later in itertools.pairwise(rewrites)) > 40


def test_the_last_turns_results_are_sent_whole() -> None:
    talk, shortener = Talk(), Shortener()
    talk.turn(3000)
    history = talk.turn(30_000, 30_000)
    assert changed(history, shortener.fit(history, WINDOW)) == [2]
    talk.messages.append(UserMessage("hurry"))
    assert changed(talk.history(), shortener.fit(talk.history(), WINDOW)) == [2]


def test_without_a_window_nothing_is_shortened() -> None:
    talk, shortener = Talk(), Shortener()
    for _ in range(50):
        history = talk.turn(30_000)
        assert shortener.fit(history, None) is history


# --- what is kept of a result ---------------------------------------------------------------


def test_a_shortened_result_keeps_its_first_and_last_lines_and_says_what_is_missing() -> None:
    whole = result(7, 5000)
    now = shortened(whole).content.split("\n")
    lines = whole.content.split("\n")
    note = next(n for n, line in enumerate(now) if line.startswith("[... "))
    head, tail = now[:note], now[note + 1 :]
    assert (head, tail) == (lines[:note], lines[-len(tail) :])
    assert KEPT / 2 <= len("\n".join(head)) <= KEPT
    assert KEPT / 2 <= len("\n".join(tail)) <= KEPT
    left_out = len(whole.content) - len("\n".join(head)) - len("\n".join(tail))
    assert now[note] == (
        f"[... {left_out} characters left out to fit the context; ask again for what is needed ...]"
    )


def test_a_line_without_end_is_cut_all_the_same() -> None:
    whole = ToolMessage("a", "shell", "x" * 9000 + "y" * 9000, Outcome.OK, StartedState.YES)
    head, note, tail = shortened(whole).content.split("\n")
    assert (head, tail) == ("x" * KEPT, "y" * KEPT)
    assert " 17600 characters " in note


@pytest.mark.parametrize(
    ("outcome", "end"),
    [
        (Outcome.ERROR, "[exit status 1]"),
        (Outcome.CANCELLED, "[cancelled: it was told to stop, and stopped. It had been started]"),
        (Outcome.UNKNOWN, "[unknown how it ended (" + "a long reason " * 200 + ")]"),
    ],
)
def test_the_end_of_a_call_is_always_kept(outcome: Outcome, end: str) -> None:
    whole = ToolMessage("a", "shell", "text " * 5000 + "\n" + end, outcome, StartedState.YES)
    for keep in (KEPT, 0):
        assert shortened(whole, keep).content.split("\n")[-1] == end


def test_output_that_looks_like_an_end_is_output() -> None:
    whole = ToolMessage("a", "shell", "head\n[" + "1," * 9000 + "1]", Outcome.OK, StartedState.YES)
    assert len(shortened(whole).content) < 3 * KEPT


@pytest.mark.parametrize("text", ["", "short", "x" * (2 * KEPT + 100), "x" * (2 * KEPT + 121)])
def test_what_would_not_get_shorter_stays(text: str) -> None:
    whole = ToolMessage("a", "shell", text, Outcome.OK, StartedState.YES)
    now = shortened(whole)
    assert now is whole or len(now.content) < len(text)


PICTURE = Image("image/png", b"\x89PNG")
NOTE = "left out to fit the context; ask again for what is needed ...]"


@pytest.mark.parametrize("keep", [KEPT, 0])
@pytest.mark.parametrize("text", ["", "a picture", "x" * 300])
def test_images_are_left_out_and_short_text_beside_them_is_kept(text: str, keep: int) -> None:
    content = f"{text}\n[exit status 1]" if text else ""
    whole = ToolMessage(
        "a", "shell", content, Outcome.ERROR, StartedState.YES, images=(PICTURE, PICTURE)
    )
    now = shortened(whole, keep)
    assert now.images == ()
    if text and (len(text) < 100 or keep):
        assert now.content == f"{text}\n[... 2 images {NOTE}\n[exit status 1]"
    elif text:
        assert now.content == f"[... 300 characters and 2 images {NOTE}\n[exit status 1]"
    else:
        assert now.content == f"[... 2 images {NOTE}"


def test_an_image_counts_for_much_text() -> None:
    talk, shortener = Talk(), Shortener()
    for _ in range(6):
        history = talk.turn(100)
        talk.messages[-1] = msgspec.structs.replace(talk.messages[-1], images=(PICTURE,))
        sent = shortener.fit(talk.history(), WINDOW)
    shown = [len(m.images) for m in sent if isinstance(m, ToolMessage)]
    assert shown == [0] * shown.index(1) + [1] * (6 - shown.index(1))
    assert 0 < shown.index(1) < 5
    assert changed(history, sent) == list(range(2, 2 + 2 * shown.index(1), 2))


# --- what the provider counts and refuses ---------------------------------------------------


def test_the_providers_count_is_believed() -> None:
    talk, shortener = Talk(), Shortener()
    sent = shortener.fit(talk.turn(20_000), WINDOW)
    assert shortener.tokens < HIGH * WINDOW
    shortener.counted(sent, 8500)  # Dense text: more tokens than a fourth of its bytes.
    assert shortener.tokens == 8500
    history = talk.turn(100)
    assert changed(history, shortener.fit(history, WINDOW)) == [2]


def test_a_short_conversation_with_many_tools_is_not_taken_for_a_dense_one() -> None:
    talk, shortener = Talk(), Shortener()
    sent = shortener.fit(talk.turn(100), WINDOW)
    shortener.counted(sent, 3000)  # Of which the tools' descriptions are nearly all.
    shortener.fit(talk.turn(4000), WINDOW)
    assert 4000 <= shortener.tokens <= 5200


def test_a_count_for_another_request_is_ignored() -> None:
    talk, shortener = Talk(), Shortener()
    old = shortener.fit(talk.turn(100), WINDOW)
    shortener.fit(talk.turn(100), WINDOW)
    before = shortener.tokens
    shortener.counted(old, 9000)
    assert shortener.tokens == before


@pytest.mark.parametrize("window", [None, WINDOW, 10 * WINDOW])
def test_what_was_refused_is_made_shorter_and_its_size_is_remembered(window: int | None) -> None:
    talk, shortener = Talk(), Shortener()
    for _ in range(9):
        history = talk.turn(3000)
    before = shortener.fit(history, window)
    refused = shortener.tokens
    sent = shortener.fit(history, window, harder=True)
    assert sum(lengths(sent)) < sum(lengths(before))
    assert shortener.tokens <= LOW * refused + 1
    assert lengths(sent)[-1] == lengths(history)[-1]
    # From now on that is the window, in the provider's own tokens once it has counted.
    shortener.counted(sent, 2 * shortener.tokens)
    for _ in range(20):
        sent = shortener.fit(talk.turn(3000), window)
        assert shortener.tokens <= 2 * refused


def test_at_last_the_last_turns_results_are_halved_the_longest_first() -> None:
    talk, shortener = Talk(), Shortener()
    talk.turn(3000)
    history = talk.turn(2000, 32_000)
    shortener.fit(history, None)
    sent = shortener.fit(history, None, harder=True)
    older, small, big = lengths(sent)
    assert older < 150  # The note alone.
    assert small == lengths(history)[1]
    assert 15_000 < big < 17_000
    again = shortener.fit(history, None, harder=True)
    assert sum(lengths(again)) < sum(lengths(sent))


def test_when_nothing_is_left_to_shorten_the_same_is_given_again() -> None:
    talk, shortener = Talk(), Shortener()
    history = talk.turn(5000)
    sent = [list(shortener.fit(history, None, harder=True)) for _ in range(20)]
    assert sent[-1] == sent[-2]
    assert lengths(sent[-1])[0] < 2 * KEPT + 150


# --- always ---------------------------------------------------------------------------------


@settings(database=None, deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.lists(st.sampled_from([0, 50, 600, 3000, 20_000]), max_size=3),
            st.sampled_from([None, 1000, 5000, 20_000]),
            st.booleans(),
            st.sampled_from([None, 0.2, 0.3, 1.0]),
        ),
        max_size=25,
    )
)
def test_it_only_ever_gets_shorter_and_the_same_each_time(
    turns: list[tuple[list[int], int | None, bool, float | None]],
) -> None:
    talk, one, two = Talk(), Shortener(), Shortener()
    before: list[int] = []
    for sizes, window, harder, density in turns:
        history = talk.turn(*sizes)
        given_before = one.fit(history, window)
        copy = list(given_before)
        sent = one.fit(history, window, harder=True) if harder else given_before
        assert list(given_before) == copy, "what was given away stays as it is"
        two.fit(history, window)
        assert list(two.fit(history, window, harder=True) if harder else copy) == list(sent)
        changed(history, sent)
        now = lengths(sent)
        assert all(new <= old for new, old in zip(now, before, strict=False))
        before = now
        if density is not None:
            size = sum(now) + 50 * len(history)
            one.counted(sent, math.ceil(size * density))
            two.counted(two._given, math.ceil(size * density))


def test_another_conversation_starts_again() -> None:
    one, other, shortener = Talk(), Talk(), Shortener()
    for _ in range(20):
        history = one.turn(4000)
        shortener.fit(history, WINDOW)
    for _ in range(20):
        other.turn(4010)
    expected = list(Shortener().fit(other.history(), WINDOW))
    assert list(shortener.fit(other.history(), WINDOW)) == expected
    # A copy of a history with the same messages is the same conversation.
    sent = list(shortener.fit(other.turn(100), WINDOW))
    copied = History(list(other.messages), other.answers)
    assert list(shortener.fit(copied, WINDOW)) == sent


class Counting(list[Message]):
    """Counts looks at its entries."""

    looks = 0

    def __getitem__(self, place):  # type: ignore[no-untyped-def]
        Counting.looks += 1
        return super().__getitem__(place)


def test_far_from_the_limit_a_request_costs_what_is_new() -> None:
    talk, shortener = Talk(), Shortener()
    talk.messages = Counting(talk.messages)
    costs = []
    for _ in range(300):
        history = talk.turn(100, 100)
        Counting.looks = 0
        shortener.fit(history, 10**9)
        costs.append(Counting.looks)
    assert costs[-1] == costs[1] == 3
