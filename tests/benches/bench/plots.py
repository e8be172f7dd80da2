"""Draws figures of `scripts/bench` as SVG files for a README.

Plain bars and plain text. The colours follow the reader's light or dark scheme, and every picture
has a ground of its own, so that it can be read on any page.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from bench.results import Data

WIDTH = 760
ROW = 26
BAR = 16
EDGE = 16
TOP = 64
CHARACTER = 6.7
"""Pixels that a character of a label takes on average, at 12 pixels."""
VALUE = 90
"""Pixels that are kept for the number behind the longest bar."""

STYLE = """
  .ground { fill: #ffffff } .text { fill: #1f2328 } .faint { fill: #59636e }
  .ours { fill: #0969da } .others { fill: #9aa4af } .line { stroke: #d1d9e0 }
  text { font: 12px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif }
  .title { font-size: 15px; font-weight: 600 }
  @media (prefers-color-scheme: dark) {
    .ground { fill: #0d1117 } .text { fill: #e6edf3 } .faint { fill: #9198a1 }
    .ours { fill: #58a6ff } .others { fill: #5b6470 } .line { stroke: #3d444d }
  }
"""


@dataclass(frozen=True)
class Bar:
    """value: in the unit of its picture. ours: drawn in the colour of sandbox-agent."""

    label: str
    value: float
    ours: bool


@dataclass(frozen=True)
class Picture:
    """One file. bars: those of the results that are there; the picture is left out if there are
    fewer than two. mark: where a line is drawn across all bars."""

    file: str
    title: str
    subtitle: str
    bars: Callable[[Sequence[Data]], list[Bar]]
    unit: str
    mark: float | None = None


CALL = ": call to result, p50"
OURS = ("built-in tool", "user function", "shell")
BESIDE = ", beside "


def _bar(label: str, value: float, ours: bool) -> Bar:
    return Bar(f"sandbox-agent: {label}" if ours else label, value, ours)


def _calls(results: Sequence[Data]) -> list[Bar]:
    return [
        _bar(label, one["value"], label.startswith(OURS))
        for one in results
        if one["suite"] == "calls" and one["name"].endswith(CALL)
        for label in [one["name"].removesuffix(CALL)]
    ]


def _rates(results: Sequence[Data]) -> list[Bar]:
    return [
        _bar(label, one["value"], label.startswith(OURS))
        for one in results
        if one["suite"] == "calls" and one["name"].startswith("saturated, ")
        for label in [one["name"].removeprefix("saturated, ")]
        if BESIDE not in label
    ]


def _commands(results: Sequence[Data]) -> list[Bar]:
    return [
        _bar(label, one["value"], label.startswith("exec --"))
        for one in results
        if one["suite"] == "exec" and one["name"].endswith(", p50")
        for label in [one["name"].removesuffix(", p50")]
        if "processor time" not in label
    ]


def _memory(results: Sequence[Data]) -> list[Bar]:
    return [
        Bar(one["name"].removeprefix("PSS: "), one["value"], True)
        for one in results
        if one["suite"] == "memory"
        and one["name"].startswith("PSS: ")
        and BESIDE not in one["name"]
    ]


def _against(results: Sequence[Data]) -> list[Bar]:
    return [
        Bar(f"{one['suite']}: {one['name'].partition(BESIDE)[0]}", one["ratio"], True)
        for one in results
        if BESIDE in one["name"] and one["ratio"] is not None
    ]


PICTURES = (
    Picture(
        "calls.svg",
        "One call, to its result",
        "milliseconds, median; ProcessPoolExecutor, pebble, loky, anyio and Ray isolate nothing",
        _calls,
        "ms",
    ),
    Picture("rates.svg", "Eight calls at once, all the time", "calls a second", _rates, "/s"),
    Picture("commands.svg", "One command", "milliseconds, median", _commands, "ms"),
    Picture("memory.svg", "Memory of each process", "megabytes, its share (PSS)", _memory, "MB"),
    Picture(
        "against.svg",
        "This version beside the other commit",
        "ratio of the figures; 1 is as before",
        _against,
        "x",
        mark=1.0,
    ),
)


def draw(results: Sequence[Data], folder: Path) -> list[Path]:
    """Draws all pictures that there are figures for. Returns the files. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    for picture in PICTURES:
        bars = picture.bars(results)
        if len(bars) >= 2:
            path = folder / picture.file
            path.write_text(svg(picture, bars))
            drawn.append(path)
    return drawn


def svg(picture: Picture, bars: Sequence[Bar]) -> str:
    """The picture as a document."""
    left = EDGE + max(len(bar.label) for bar in bars) * CHARACTER + 8
    room = max(WIDTH - left - VALUE - EDGE, 120)
    most = max([bar.value for bar in bars] + [picture.mark or 0.0]) or 1.0
    width, height = left + room + VALUE + EDGE, TOP + len(bars) * ROW + EDGE
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height}"'
        f' viewBox="0 0 {width:.0f} {height}" role="img" aria-labelledby="title">',
        f'<title id="title">{escape(picture.title)}: {escape(picture.subtitle)}</title>',
        f"<style>{STYLE}</style>",
        f'<rect class="ground" width="{width:.0f}" height="{height}" rx="6"/>',
        f'<text class="text title" x="{EDGE}" y="28">{escape(picture.title)}</text>',
        f'<text class="faint" x="{EDGE}" y="47">{escape(picture.subtitle)}</text>',
    ]
    for number, bar in enumerate(bars):
        y = TOP + number * ROW
        length = max(1.0, room * bar.value / most)
        base = y + BAR - 4
        lines += [
            f'<text class="text" x="{left - 8:.0f}" y="{base}" text-anchor="end">'
            f"{escape(bar.label)}</text>",
            f'<rect class="{"ours" if bar.ours else "others"}" x="{left:.0f}" y="{y}"'
            f' width="{length:.1f}" height="{BAR}" rx="2"/>',
            f'<text class="text" x="{left + length + 6:.1f}" y="{base}">'
            f"{_number(bar.value)} {picture.unit}</text>",
        ]
    if picture.mark is not None:
        x = left + room * picture.mark / most
        down = height - EDGE + 4
        lines.append(f'<line class="line" x1="{x:.1f}" y1="{TOP - 6}" x2="{x:.1f}" y2="{down}"/>')
    return "\n".join([*lines, "</svg>"]) + "\n"


def _number(value: float) -> str:
    """Three digits, and no more."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
