"""The page of a run in headless Chromium: nothing that a tool prints can run, reach out or spoil
the page, at a phone's width and at a desk's. `scripts/real page` installs the browser where it
can."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import browser
import hand_made
import pytest
from browser import Page
from hand_made import HOSTILE
from identity import BIN, Person, someone
from sandbox_agent.reports.mask import Mask
from sandbox_agent.reports.page import html_of

AGENT = str(BIN / "sandbox-agent")
WIDTHS = (360, 768, 1280)
PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ"
    "AAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
BROKEN_OUT = "document.title.includes('broken') || document.getElementById('broken') !== null"
IMAGES = """Promise.all([...document.images].map(one => {
    one.loading = 'eager';
    return one.decode().then(() => one.naturalWidth) }))"""
TOO_WIDE = """[...document.querySelectorAll('body *')].filter(one =>
    !one.closest('.scroll') && !one.closest('.skip') && one.getClientRects().length &&
    one.getBoundingClientRect().right > innerWidth + 1).map(one => one.outerHTML.slice(0, 200))"""
"""Elements that stick out of the window. What lies in a box that scrolls may."""

PALE = """(() => {
    const numbers = color => (color.match(/[\\d.]+/g) || []).map(Number);
    const part = value => value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    const light = color => [0.2126, 0.7152, 0.0722].reduce(
        (sum, weight, n) => sum + weight * part(color[n] / 255), 0);
    const behind = one => {
        for (; one; one = one.parentElement) {
            const color = numbers(getComputedStyle(one).backgroundColor);
            if (color.length === 3 || color[3] === 1) return color;
        }
        return [255, 255, 255];
    };
    const ratio = one => {
        const style = getComputedStyle(one), color = one.closest('svg') ? style.fill : style.color;
        const [dark, pale] = [light(numbers(color)), light(behind(one))].sort((a, b) => a - b);
        return (pale + 0.05) / (dark + 0.05);
    };
    return [...document.querySelectorAll('body *')].filter(one =>
        [...one.childNodes].some(node => node.nodeType === 3 && node.textContent.trim()) &&
        one.getClientRects().length && ratio(one) < 4.5).map(one => one.outerHTML.slice(0, 200));
})()"""
"""Texts with less contrast than WCAG 2.2 asks for (success criterion 1.4.3)."""


@pytest.fixture
def me() -> Iterator[Person]:
    yield from someone("root")  # whoever runs the tests


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    if browser.executable() is None:
        pytest.skip("needs Chromium")
    with browser.opened(tmp_path / "profile") as opened:
        yield opened


def hostile_run(person: Person) -> Path:
    """A real run in which everything that can be hostile is. The answer: its folder."""
    text = "\n".join(HOSTILE.values()).encode("utf-8", "replace")
    (person.work / "hostile.txt").write_bytes(text + b"\xff\xfe\x00")
    (person.work / "pixel.txt").write_text(PIXEL)
    person.own(person.work / "hostile.txt", person.work / "pixel.txt")
    named = HOSTILE["an attribute"]
    steps = [
        {
            "say": text.decode().replace("\0", ""),
            "calls": [
                {"shell": {"command": "cat hostile.txt; cat hostile.txt >&2; exit 3"}},
                {"shell": {"command": "head -c 10000000 /dev/zero | tr '\\0' W"}},
                {"shell": {"command": "base64 -d pixel.txt > pixel.png"}},
                {"write_file": {"path": named, "content": "one\n</pre>\n"}},
            ],
        },
        {
            "calls": [
                {"read_file": {"path": "pixel.png"}},
                {"edit_file": {"path": named, "old": "</pre>", "new": HOSTILE["a script"]}},
                {"shell": {"command": "trap '' INT TERM; sleep 600", "timeout": 0.2}},
            ]
        },
        {"final": HOSTILE["a tag that ends what it is in"]},
    ]
    person.write(person.work / "steps.yaml", json.dumps(steps))
    task = {
        "version": 1,
        "prompt": HOSTILE["an attribute"] + HOSTILE["right to left"],
        "model": f"scripted:{person.work}/steps.yaml",
        "tools": ["shell", "files"],
        "workspace": {"path": str(person.work)},
        "interrupt": {"grace": 0.2, "term": 0.2},
        "verify": [f"echo {HOSTILE['a comment']!r}; false"],
        "output": {"dir": str(person.folder / "runs")},
    }
    person.write(person.folder / "task.yaml", json.dumps(task))
    done = person.run([AGENT, "run", str(person.folder / "task.yaml")])
    assert done.returncode == 1, done.stderr
    [folder] = [one for one in (person.folder / "runs").iterdir() if one.is_dir()]
    return folder


def write_page(person: Person) -> str:
    """The address of the page of a hostile run."""
    path = person.folder / "page.html"
    done = person.run([AGENT, "show", str(hostile_run(person)), "--html", str(path)])
    assert done.returncode == 0, done.stderr
    return path.as_uri()


def test_a_hostile_run_stays_text_at_every_width(page: Page, me: Person) -> None:
    url = write_page(me)
    for width in WIDTHS:
        for dark in (False, True):
            page.open(url, width, dark=dark)
            page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
            assert page.problems == []
            assert page.requests == []
            assert not page.evaluate(BROKEN_OUT)
            assert page.evaluate("document.scripts.length") == 0
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert page.evaluate(TOO_WIDE) == []
            assert page.evaluate(PALE) == []
    assert page.evaluate(IMAGES) == [1]
    assert page.evaluate("document.querySelectorAll('svg .mark.kill').length") == 1
    assert page.evaluate("document.querySelectorAll('ins, del').length") == 2


def test_what_these_tests_look_for_would_be_seen(page: Page, me: Person) -> None:
    """A page that somebody has put a script, an address and a wide element into."""
    url = write_page(me)
    path = me.folder / "page.html"
    planted = (
        "<font color='#cccccc'>pale</font><b id=broken>x</b>"
        "<script>document.title = 'broken'</script>"
        "<img src='http://127.0.0.1:9/x.png'><svg width=5000 height=1></svg>"
    )
    path.write_text(path.read_text("utf-8").replace("<main>", f"<main>{planted}"), "utf-8")
    page.open(url, 360)
    blocked = " ".join(page.problems)
    assert "inline script" in blocked, blocked
    assert "127.0.0.1:9" in blocked, blocked
    assert page.evaluate(BROKEN_OUT)
    assert not page.evaluate("document.title.includes('broken')") or "script" in page.evaluate(
        "document.title"
    )
    assert page.evaluate(TOO_WIDE) != []
    assert page.evaluate(PALE) != []


def test_a_keyboard_is_enough(page: Page, me: Person) -> None:
    page.open(write_page(me), 768)
    page.press("Tab", 9)
    assert page.evaluate("document.activeElement.className") == "skip"
    page.press("Enter", 13, "\r")
    assert page.evaluate("location.hash") == "#conversation"
    folded = "document.querySelector('details.call:not([open]) summary')"
    for _ in range(40):
        page.press("Tab", 9)
        if page.evaluate(f"document.activeElement === {folded}"):
            break
    page.evaluate("window.chosen = document.activeElement.parentElement; 0")
    page.press("Enter", 13, "\r")
    assert page.evaluate("window.chosen.className") == "call"
    assert page.evaluate("window.chosen.open")


def test_what_is_folded_is_printed(page: Page, me: Person) -> None:
    page.open(write_page(me), 768)
    hidden = """[...document.querySelectorAll('details:not([open]) pre')].filter(one =>
        !one.checkVisibility({contentVisibilityAuto: true}) || !one.offsetHeight).length"""
    assert page.evaluate(hidden) > 0
    page.look(medium="print")
    assert page.evaluate(hidden) == 0
    pdf = page.printed()
    assert pdf.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) >= 2


def test_5000_events_open_in_a_second(page: Page, tmp_path: Path) -> None:
    journal = list(hand_made.long_run(1250, output="<a & 'b'>\n" * 600))
    assert len(journal) >= 5000
    path = tmp_path / "long.html"
    path.write_text("".join(html_of(hand_made.report(journal), Mask())), "utf-8")
    assert path.stat().st_size < 3_000_000
    times = []
    for _ in range(5):
        times.append(page.open(path.as_uri(), 1280))
        if times[-1] < 1:
            break
        time.sleep(1)  # other work on this machine, not a wait for an event
    assert min(times) < 1, times
    assert page.evaluate("document.querySelectorAll('details.call').length") == 1250
