"""Makes the pictures of the README from one real run: `scripts/pictures`.

The run is a coding task: real tools in a real sandbox, and a model that answers over HTTP from a
script (`tests/provider`). Its terminal is that of tmux(1); the page is looked at in Chromium.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import browser
from provider import Answer, Stub, ToolCall, Usage

BIN = Path(sys.prefix) / "bin"
LARGEST = 150_000
"""Bytes of a picture."""
SHAPES = (
    ("page-360", 360, 780, True),
    ("page-768", 768, 960, False),
    ("page-1280", 1280, 900, True),
)
"""(name, width, height, dark)."""
SHOW_THE_EDIT = """(() => {
    document.querySelectorAll('details.call').forEach(one => {
        one.open = one.open || one.querySelector('.diff') !== null });
    document.getElementById('t2').scrollIntoView();
})()"""
COLUMNS, ROWS = 80, 24
JOURNAL = ".local/state/sandbox-agent/*/journal.jsonl"
PATIENCE = 90.0

MODULE = """\
def mean(numbers):
    return sum(numbers) / len(numbers)


def median(numbers):
    ordered = sorted(numbers)
    return ordered[len(ordered) // 2]
"""
WRONG = "    return ordered[len(ordered) // 2]\n"
RIGHT = """\
    middle = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[middle]
    return mean(ordered[middle - 1 : middle + 1])
"""
CHECKS = """\
import time
import unittest

from averages import mean, median


class Averages(unittest.TestCase):
    def test_mean(self):
        time.sleep(0.4)
        self.assertEqual(mean([1, 2, 6]), 3)

    def test_median_of_an_even_number(self):
        time.sleep(0.4)
        self.assertEqual(median([4, 1, 2, 3]), 2.5)

    def test_median_of_an_odd_number(self):
        time.sleep(0.4)
        self.assertEqual(median([3, 1, 2]), 2)
"""
TESTS = "python3 -m unittest -v test_averages"
STUBBORN = "trap '' INT TERM; for n in $(seq 99); do echo request $n; sleep 0.3; done"

ANSWERS = (
    Answer(
        text="I read the module, and run its tests.",
        calls=(
            ToolCall("read_file", {"path": "averages.py"}),
            ToolCall("shell", {"command": TESTS}),
        ),
        usage=Usage(prompt=1240, completion=62),
        delay=0.8,
        pause=0.05,
        pieces=8,
    ),
    Answer(
        text="The median of an even number of values is the mean of the two in the middle.",
        calls=(ToolCall("edit_file", {"path": "averages.py", "old": WRONG, "new": RIGHT}),),
        usage=Usage(prompt=1810, completion=118, cached=1152),
        delay=0.9,
        pause=0.05,
        pieces=12,
    ),
    Answer(
        text="I run the tests again, and try the server for two seconds.",
        calls=(
            ToolCall("shell", {"command": TESTS}),
            ToolCall("shell", {"command": STUBBORN, "timeout": 2}),
        ),
        usage=Usage(prompt=2170, completion=96, cached=1792),
        delay=0.7,
        pause=0.05,
        pieces=12,
    ),
    Answer(
        text="The median of an even number of values was that of the upper two. It is their mean "
        "now, and all tests pass. The server did not stop by itself.",
        usage=Usage(prompt=2460, completion=48, cached=2048),
        delay=0.8,
        pause=0.05,
        pieces=20,
    ),
)
TASK = {
    "version": 1,
    "name": "averages",
    "prompt": "Make the tests pass.",
    "tools": ["shell", "files"],
    "interrupt": {"grace": "400ms", "term": "400ms"},
    "budgets": {"turns": 6, "tokens": "12k", "cost_usd": 0.05, "time": "40s"},
    "verify": ["python3 -m unittest -q test_averages"],
}

SVG = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">
<style>
.{unique_id}-matrix {{
  font: {char_height}px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  line-height: {line_height}px;
  font-variant-east-asian: full-width;
}}
.{unique_id}-title {{ font: bold 18px system-ui, sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""
"""As rich exports a console, without the font that it loads from the network."""


@dataclass(frozen=True)
class Tmux:
    """A terminal of its own server. folder: for its socket."""

    folder: Path

    def __call__(self, *argv: str) -> str:
        command = ["tmux", "-S", str(self.folder / "tmux"), "-f", os.devnull, *argv]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        return done.stdout

    def screen(self) -> str:
        """What is on the screen, with colours."""
        return self("capture-pane", "-e", "-p")


def until(found: Callable[[], bool], what: str) -> None:
    """Wait for something that is to come."""
    deadline = time.monotonic() + PATIENCE
    while not found():
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        time.sleep(0.05)


def is_over(home: Path) -> bool:
    """Whether the run has ended."""
    return any(b'"segment_ended"' in path.read_bytes() for path in home.glob(JOURNAL))


def run_in_a_terminal(folder: Path, base: str) -> tuple[str, Path]:
    """The screen while two calls are going, and the folder of the run."""
    home, project = folder / "home", folder / "averages"
    home.mkdir()
    project.mkdir()
    (project / "averages.py").write_text(MODULE)
    (project / "test_averages.py").write_text(CHECKS)
    task = {**TASK, "model": {"name": "openai/gpt-4o", "api_base": base}}
    (project / "task.yaml").write_text(json.dumps(task))
    env = {
        "HOME": str(home),
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "LANG": "C.UTF-8",
        "COLORTERM": "truecolor",
        "OPENAI_API_KEY": "sk-not-a-real-one",
    }
    words = [f"{name}={value}" for name, value in env.items()]
    tmux = Tmux(folder)
    size = ("-x", str(COLUMNS), "-y", str(ROWS))
    line = "sandbox-agent run task.yaml; sleep 600"
    tmux("new-session", "-d", *size, "-c", str(project), "env", *words, "sh", "-c", line)
    try:
        until(lambda: "request 5" in tmux.screen(), "the calls of the third turn")
        screen = tmux.screen()
        until(lambda: is_over(home), "the end of the run")
    except TimeoutError as error:
        raise SystemExit(f"{error} did not come; the screen was:\n{tmux.screen()}") from None
    finally:
        tmux("kill-server")
    (journal,) = home.glob(JOURNAL)
    return screen, journal.parent


def terminal_picture(screen: str, path: Path) -> None:
    """The screen as SVG, by rich."""
    from rich.console import Console
    from rich.text import Text

    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(screen.rstrip("\n")), soft_wrap=True)
    svg = console.export_svg(title="sandbox-agent run task.yaml", code_format=SVG, unique_id="run")
    path.write_text(svg, "utf-8")


def page_pictures(run: Path, work: Path, out: Path) -> None:
    """The page of the run, at each width."""
    page = work / "page.html"
    argv = [str(BIN / "sandbox-agent"), "show", str(run), "--html", str(page)]
    subprocess.run(argv, check=True, timeout=60)
    with browser.opened(work / "profile") as opened:
        for name, width, height, dark in SHAPES:
            opened.open(page.as_uri(), width, dark=dark, height=height)
            if name == "page-768":
                opened.evaluate(SHOW_THE_EDIT)
            assert opened.problems == [], opened.problems
            opened.picture(out / f"{name}.png")


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/pictures", description=__doc__)
    parser.add_argument("out", type=Path, help="the folder for the pictures")
    out = parser.parse_args().out
    if browser.executable() is None:
        raise SystemExit(
            "scripts/pictures: no Chromium is here\n  hint: run scripts/real page as root"
        )
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="pictures-") as name, Stub(ANSWERS) as stub:
        screen, run = run_in_a_terminal(Path(name), stub.openai_base)
        terminal_picture(screen, out / "terminal.svg")
        page_pictures(run, Path(name), out)
    for picture in sorted(out.iterdir()):
        size = picture.stat().st_size
        print(f"{picture}: {size} bytes")
        if size > LARGEST:
            raise SystemExit(f"{picture} is larger than {LARGEST} bytes")


if __name__ == "__main__":
    main()
