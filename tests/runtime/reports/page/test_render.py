"""The page of a run: hostile texts stay texts, nothing is loaded, and the page stays small."""

from __future__ import annotations

import re
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterable, Iterator
from typing import Any

import hand_made
import msgspec
import pages
import pytest
from hand_made import HOSTILE, Maker, long_run, short_run
from paths import IMPORT_PATHS
from sandbox_agent.reports.escape import escape_text
from sandbox_agent.reports.mask import Mask
from sandbox_agent.reports.page import html_of
from sandbox_agent_ipc.messages import Image
from sandbox_agent_sandbox.outcome import Outcome

SMALL = 3_000_000


NOTHING = Mask()


def page_of(journal: Iterable[Any], mask: Mask = NOTHING) -> Iterator[str]:
    return html_of(hand_made.report(journal), mask)


def read(journal: Iterable[Any]) -> pages.Read:
    return pages.Read(page_of(journal))


def words(text: str) -> str:
    """Without what HTML does to white space."""
    return " ".join(text.split())


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_text_stays_text(text: str) -> None:
    lines = "\n".join(["hello"] * (text.count("\n") + 1))
    hostile, harmless = read(short_run(text)), read(short_run(lines))
    assert not hostile.wrong
    assert hostile.tags == harmless.tags
    shown = words(escape_text(text).replace("\ufeff", "\\ufeff"))
    assert words(hostile.text).count(shown) >= 10


def test_every_text_of_a_run_is_on_its_page() -> None:
    text = words(read(short_run("needle")).text)
    for wanted in (
        "needle · failed",
        "✗ failed verify failed: needle",
        "COULD NOT BE STOPPED: process 7, needle",
        "Without success: call_2_2, call_2_3, verify_1_1",
        "Turn 3 · final message",
        "1,000 in, 100 out · $0.01 · model 100 ms",
        "stopped by flag → term 40 ms → kill 70 ms → ended 80 ms",
        "Whole output: output/call_1_1.txt in the run folder.",
        "An image is of no known type, and is left out.",
        "0 of 1 passed",
        "3 turns of 40",
        "3,300 tokens of 200,000",
        "cost: $0.03 of $2.00",
        "-one needle three+4",
    ):
        assert wanted in text, wanted


def test_the_page_may_load_and_run_nothing() -> None:
    found = read(short_run())
    (style,) = found.styles
    assert pages.policy_of(found) == (
        f"default-src 'none'; img-src data:; style-src '{pages.digest(style)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    assert "url(" not in style
    assert "@import" not in style


def test_secrets_are_masked_before_texts_are_cut_and_escaped() -> None:
    secret = "se'cret<&>"
    for text in (f"{secret} and more", "x" * 2040 + secret + "x" * 9000):
        page = "".join(page_of(short_run(text), Mask([secret])))
        assert "***" in page
        for part in ("se&#39;cret", "se'cret", "cret&lt;", "se&#39;"):
            assert part not in page


def test_a_long_output_shows_its_beginning_and_its_end() -> None:
    make = Maker()
    output = "".join(f"line {n}\n" for n in range(100_000))
    journal = [make.segment(), make.answer("", ("shell", {"command": "seq"}))]
    journal.append(make.ended("call_1_1", output))
    text = read(journal).text
    assert "line 0\nline 1\n" in text
    assert "line 99999\n" in text
    assert "line 50000" not in text
    (left_out,) = [line for line in text.splitlines() if "characters left out" in line]
    shown = sum(len(f"line {n}\n") for n in range(100_000) if f"\nline {n}\n" in f"\n{text}")
    assert abs(int(left_out.split()[1].replace(",", "")) + shown - len(output)) < 40


def test_a_run_of_5000_events_is_small_and_quickly_written() -> None:
    journal = list(long_run(1250, output="<a & 'b'>\n" * 600))
    assert len(journal) >= 5000
    report = hand_made.report(journal)
    began = time.process_time()
    pieces = list(html_of(report, NOTHING))
    assert time.process_time() - began < 10
    assert sum(len(piece.encode()) for piece in pieces) < SMALL
    found = pages.Read(pieces)
    assert not found.wrong
    assert found.tags["article"] == 1250 + 4


@pytest.mark.parametrize(
    ("turns", "calls", "output"),
    [
        (4000, 1, "short"),
        (2499, 0, ""),
        (1, 2000, '"' * 13_000),
        (1000, 3, "\x1b" * 13_000),
    ],
)
def test_a_run_of_any_size_gives_a_small_page_that_says_what_it_leaves_out(
    turns: int, calls: int, output: str
) -> None:
    report = hand_made.report(long_run(turns, calls, output))
    pieces = list(html_of(report, NOTHING))
    assert sum(len(piece.encode()) for piece in pieces) < SMALL
    found = pages.Read(pieces)
    assert not found.wrong
    assert "Done." in found.text
    assert "Step 1." in found.text
    shown = found.values("details", "class").count("call")
    left_out = re.findall(r"([\d,]+) calls?(?: of this turn)? left out here", found.text)
    assert shown + sum(int(number.replace(",", "")) for number in left_out) == turns * calls
    assert shown > 500 or not left_out


def test_a_megabyte_of_images_fits_beside_5000_events() -> None:
    make = Maker()
    journal: list[Any] = [make.segment()]
    for number in range(1, 1251):
        journal.append(make.answer("", ("shell", {"command": "true"})))
        journal += make.begun(f"call_{number}_1")
        size = 300_000 if number < 8 else 0
        images = [Image("image/png", b"\x89PNG\r\n\x1a\n" + bytes(size))] if size else []
        output = "line of output\n" * 500
        journal.append(make.ended(f"call_{number}_1", output, images=tuple(images)))
    pieces = list(page_of(journal))
    assert sum(len(piece.encode()) for piece in pieces) < SMALL
    found = pages.Read(pieces)
    assert not found.wrong
    assert found.tags["img"] == 3
    assert found.text.count("1 image left out: all have 1 MB together.") == 4
    assert found.tags["article"] == 1250 + 2


def test_many_segments_give_a_small_page() -> None:
    make = Maker()
    journal: list[Any] = []
    for number in range(1, 2500):
        journal += [make.segment(number), make.end("interrupted", number=number)]
    pieces = list(page_of(journal))
    assert sum(len(piece.encode()) for piece in pieces) < SMALL
    assert not pages.Read(pieces).wrong


def test_the_memory_for_a_page_does_not_grow_with_the_page() -> None:
    sizes, peaks = [], []
    for turns in (100, 400):
        report = hand_made.report(long_run(turns, output="line of output\n" * 300))
        sizes.append(sum(map(len, html_of(report, NOTHING))))
        tracemalloc.start()
        for _ in html_of(report, NOTHING):
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert sizes[1] > sizes[0] + 1_000_000
    assert peaks[1] < peaks[0] + 400_000


def test_the_order_of_a_resumed_run() -> None:
    make = Maker()
    journal = [
        make.opened(),
        make.user("first order"),
        make.segment(1),
        make.answer("hm", ("shell", {"command": "true"})),
        make.ended("call_1_1", "out one"),
        make.end("interrupted", "stopped by hand"),
        make.user("second order"),
        make.segment(2),
        make.answer("fine", final=True),
        make.end("done", number=2),
    ]
    text = read(journal).text
    order = ["first order", "Segment 1", "out one", "interrupted: stopped by hand"]
    order += ["second order", "Segment 2", "fine", "exit code 0"]
    conversation = text[text.index("Conversation\n") :]
    places = [conversation.index(one) for one in order]
    assert places == sorted(places)


def test_a_run_without_an_end_says_so() -> None:
    make = Maker()
    journal = [make.segment(), make.answer("", ("shell", {"command": "sleep 1"}))]
    journal += make.begun("call_1_1")
    text = words(read(journal).text)
    assert "✗ lost the agent process died" in text
    assert "in flight, no end is recorded" in text


@pytest.mark.parametrize("clock", [(0.0, 1e308), (-1e308, 1e308), (1e308, -1e308), (1e12, 0.0)])
def test_a_journal_with_impossible_times_is_a_page_too(clock: tuple[float, float]) -> None:
    for every in (2, 3, 4):
        journal = [
            msgspec.structs.replace(event, monotonic=clock[number % every > 0])
            for number, event in enumerate(short_run())
        ]
        assert not read(journal).wrong


@pytest.mark.parametrize("journal", [[], [Maker().opened()], [Maker().user("only this")]])
def test_the_beginning_of_a_run_is_a_page_too(journal: list[Any]) -> None:
    assert not read(journal).wrong


def test_every_outcome_has_its_place() -> None:
    make = Maker()
    journal: list[Any] = [make.segment()]
    journal.append(make.answer("", *[("shell", {"command": one.value}) for one in Outcome]))
    for n, outcome in enumerate(Outcome, 1):
        journal.append(make.ended(f"call_1_{n}", "", outcome))
    found = read(journal)
    assert not found.wrong
    for outcome in Outcome:
        assert f"· {outcome.value}" in found.text or f"{outcome.value}\n" in found.text


def test_what_writes_the_page_is_imported_only_to_write_one() -> None:
    code = (
        "import sys; import sandbox_agent.reports.page; import sandbox_agent.cli.parser;"
        "print(sorted({'jinja2', 'markupsafe', 'html', 'difflib'} & set(sys.modules)))"
    )
    environment = {"PYTHONPATH": ":".join(map(str, IMPORT_PATHS))}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "[]\n", done.stderr
