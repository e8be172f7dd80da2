"""What a run says while it goes: plain lines, or a live view where there is a terminal."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from sandbox_agent.cli.console import Console, is_on
from sandbox_agent.cli.signals import Signals
from sandbox_agent.journal import events
from sandbox_agent.reports.lines import Progress

if TYPE_CHECKING:
    from sandbox_agent.cli.signals import Freezer
    from sandbox_agent.reports.mask import Mask


class RunProgress(Protocol):
    """Hears what happens in a run, and shows it. is_live: to a person who watches."""

    is_live: bool

    def on_event(self, event: events.AnyEvent) -> None:
        """The next event. In the thread of the run; must not block."""

    def listeners(self) -> dict[str, Any]:
        """What else it wants to hear, as options of a conversation."""

    def start(self) -> None:
        """The run is about to begin."""

    def stop(self) -> None:
        """The run is over. Harmless when that is known."""

    def around(self, freezer: Freezer) -> Freezer:
        """What Ctrl-Z freezes: `freezer`, and the view."""


def progress_of(arguments: argparse.Namespace, console: Console, signals: Signals) -> RunProgress:
    """The progress that the arguments ask for, and the terminal can show."""
    console.colour = _wants_colour(arguments.color, console)
    if not arguments.quiet and _can_draw(arguments, console):
        from sandbox_agent.cli.terminal.view import LiveView

        return LiveView(console, lambda: signals.received, verbose=arguments.verbose)
    return PlainProgress(console, quiet=arguments.quiet, verbose=arguments.verbose)


def _wants_colour(option: str, console: Console) -> bool:
    """https://no-color.org: any value but an empty one turns colours off. An option counts more."""
    if option != "auto":
        return option == "always"
    dumb = os.environ.get("TERM", "dumb") in ("", "dumb")
    return console.stderr.is_terminal and not dumb and not os.environ.get("NO_COLOR")


def _can_draw(arguments: argparse.Namespace, console: Console) -> bool:
    """Whether a view can be drawn on standard error. CI systems that give a job a terminal keep a
    log of it, which is for lines. Events on the same terminal are lines, too."""
    if not console.stderr.is_terminal or os.environ.get("TERM", "dumb") in ("", "dumb"):
        return False
    return not is_on("CI") and not (arguments.json and console.one_file)


class PlainProgress:
    """One line an event, and the end of the output of what failed."""

    is_live = False

    def __init__(self, console: Console, *, quiet: bool, verbose: bool) -> None:
        self._console = console
        self._quiet = quiet
        self._progress = Progress(verbose=verbose)
        self._settings: list[events.AnyEvent] = []
        self._mask: Mask | None = None

    def on_event(self, event: events.AnyEvent) -> None:
        if self._quiet:
            return
        if isinstance(event, events.JournalOpened | events.SegmentStarted):
            self._settings.append(event)
            self._mask = None
        if isinstance(event, events.Ended) and self._progress.shows_output(event):
            event = msgspec.structs.replace(event, content=self._masked(event.content))
        line = self._progress.line(event)
        if line is not None:
            self._console.progress(line + "\n", _colour_of(event))

    def _masked(self, text: str) -> str:
        """The output of a tool, for the log of a CI job."""
        if self._mask is None:
            # Here, since most runs end without it.
            from sandbox_agent.reports.mask import mask_for
            from sandbox_agent.reports.report import report_of

            self._mask = mask_for(report_of("", Path(), self._settings), os.environ)
        return self._mask.apply(text)

    def listeners(self) -> dict[str, Any]:
        return {}

    def start(self) -> None:
        pass

    def stop(self) -> None:
        pass

    def around(self, freezer: Freezer) -> Freezer:
        return freezer


def _colour_of(event: events.AnyEvent) -> str:
    match event:
        case events.Ended():
            return "" if event.outcome.value == "ok" else "red"
        case events.Verified():
            return "green" if event.passed else "red"
        case events.CancelRequested():
            return "yellow"
    return ""
