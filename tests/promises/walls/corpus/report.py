"""The table of the corpus: how many attempts each sandbox stops, of those that succeed without."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from identity import someone

from . import known, scenes, table, trial, verdict


@dataclass
class Column:
    """One sandbox as one person. of: by class, how many attempts succeed without a sandbox."""

    stopped: dict[str, int] = field(default_factory=dict)
    of: dict[str, int] = field(default_factory=dict)
    through: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)


def measure(
    kind: str, boxes: dict[str, trial.Sandbox], classes: list[str], say: Callable[[str], None]
) -> dict[str, Column]:
    """Tries the classes in each sandbox, as root or an ordinary user."""
    columns = {name: Column() for name in boxes}
    for name in classes:
        with contextlib.contextmanager(someone)(kind) as person:
            attempts = table.possible(name, person)
            module = table.module(name)
            plain = trial.try_all(person, module, attempts, trial.no_sandbox)
            attempts = [one.attempt for one in plain if one.succeeded]
        for box, sandbox in boxes.items():
            with contextlib.contextmanager(someone)(kind) as person:
                try:
                    results = trial.try_all(person, module, attempts, sandbox)
                except Exception as error:  # a peer that hangs is not the end of the table
                    say(f"{kind}, {name}, {box}: {error}")
                    continue
            column = columns[box]
            untried = [one for one in results if one.wrong.startswith("never tried")]
            if untried:
                say(f"{kind}, {name}, {box}: {len(untried)} not tried: {untried[0].wrong[-300:]}")
                results = [one for one in results if one not in untried]
            if not results:
                continue
            column.of[name] = len(results)
            column.stopped[name] = sum(not one.succeeded for one in results)
            column.through += [table.full(name, one) for one in results if one.succeeded]
            column.broken += [
                f"{table.full(name, one)}: {one.wrong}" for one in results if one.wrong
            ]
            say(f"{kind}, {name}, {box}: {column.stopped[name]} of {len(results)}")
    return columns


def measure_verdicts(kind: str) -> Column:
    """The class that only our sandbox has: without it, there is nothing to forge."""
    column = Column()
    with contextlib.contextmanager(someone)(kind) as person:
        played = [scenes.play(person, one, {}) for one in verdict.SCENES if kind in one.persons]
    column.of["verdict"] = len(played)
    column.stopped["verdict"] = sum(not one.succeeded for one in played)
    column.through = [f"verdict.{one.scene.name}" for one in played if one.succeeded]
    column.broken = [f"verdict.{one.scene.name}" for one in played if not one.works]
    return column


def markdown(all_columns: dict[str, dict[str, Column]]) -> str:
    """all_columns: for "root" and "user", the column of each sandbox."""
    kinds = list(all_columns)
    boxes = list(all_columns[kinds[0]])
    lines = ["| Class | " + " | ".join(boxes) + " |", "|---|" + "---|" * len(boxes)]
    for name, title in [*table.CLASSES.items(), ("verdict", "the flag, the frames, the verdict")]:
        cells = [_cell([all_columns[kind][box] for kind in kinds], name) for box in boxes]
        if any(cell != "-" for cell in cells):
            lines.append(f"| {title} | " + " | ".join(cells) + " |")
    totals = [_total([all_columns[kind][box] for kind in kinds]) for box in boxes]
    lines.append("| **all, as " + " / as ".join(kinds) + "** | " + " | ".join(totals) + " |")
    return "\n".join(lines)


def _cell(columns: list[Column], name: str) -> str:
    parts = [f"{one.stopped[name]} of {one.of[name]}" if name in one.of else "-" for one in columns]
    return " / ".join(parts) if set(parts) != {"-"} else "-"


def _total(columns: list[Column]) -> str:
    sums = [(sum(one.stopped.values()), sum(one.of.values())) for one in columns]
    return " / ".join(f"**{stopped}** of {tried}" if tried else "-" for stopped, tried in sums)


def unknown(column: Column, more: Mapping[str, str]) -> list[str]:
    """What got through and is not known to. more: what is known of this kind of plan."""
    listed = known.NO_WALL | known.OPEN | more
    return [name for name in column.through if name not in listed]


def progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
