"""The command line of `scripts/bench`."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import alone
import leaks

from bench import plots, results
from bench.ending import end_all, on_signals, temporary_folder
from bench.errors import BadInput, CannotMeasure
from bench.peers import INSTALLERS, Peers
from bench.products import other, working_tree
from bench.results import Sheet
from bench.setting import Setting

DEFAULT = ("calls", "open", "exec", "interrupt", "journal", "turns", "memory", "load", "start")
SUITES = {
    "calls": "one call: to its result, to the proof of its end; many at once; requests; large ones",
    "open": "from nothing to the first call of an open sandbox",
    "exec": "`exec -- /bin/true` beside `python -c pass` and other sandboxes",
    "interrupt": "from the flag, a signal or an interrupt to the proof that all has ended",
    "journal": "what the record costs a call, without and with fdatasync(2); resume",
    "turns": "turns of a long conversation: the first ones and the last ones",
    "memory": "the agent and each process beside it; what many interrupted runs leave",
    "load": "1,000 calls in a turn, many turns, 100 conversations at once, 1 GiB of output",
    "start": "`--help`, a run of one call, the first request to a provider",
    "plans": "the three plans beside each other; takes some minutes",
    "walls": "what the walls cost more than at the commit of --against",
}
"""The last two run only when they are named."""


def options_of(arguments: Sequence[str], description: str) -> argparse.Namespace:
    """Parsed and checked. Ends the program with 2 for what makes no sense."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description=description.splitlines()[0],
        epilog="suites:\n" + "\n".join(f"  {name:10} {what}" for name, what in SUITES.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("suites", nargs="*", metavar="SUITE", help="default: all but the last two")
    parser.add_argument("--against", metavar="REF", help="measure this commit, too")
    parser.add_argument("--peers", action="store_true", help="install and measure other programs")
    parser.add_argument(
        "--peer", action="append", default=[], metavar="NAME", help=", ".join(INSTALLERS)
    )
    parser.add_argument("--rounds", type=int, metavar="N", help="of each figure")
    parser.add_argument("--quick", action="store_true", help="a smoke run; nothing is judged")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the figures")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="draw SVG files")
    parser.add_argument(
        "--from", dest="source", type=Path, metavar="FILE", help="draw the figures of this file"
    )
    options = parser.parse_args(arguments)
    unknown = [name for name in options.suites if name not in SUITES]
    if unknown:
        parser.error(f"there is no suite {unknown[0]!r}; the suites are {', '.join(SUITES)}")
    strange = [name for name in options.peer if name not in INSTALLERS]
    if strange:
        parser.error(f"there is no peer {strange[0]!r}; the peers are {', '.join(INSTALLERS)}")
    if options.rounds is not None and options.rounds < 1:
        parser.error(f"--rounds {options.rounds}: it must be 1 or more")
    if options.source and not options.plots:
        parser.error("--from needs --plots DIR")
    if options.source and (options.suites or options.against or options.json):
        parser.error("--from measures nothing, so it goes with --plots DIR only")
    if "walls" in options.suites and not options.against:
        parser.error("walls needs --against REF: the commit to compare with")
    if options.json and not options.json.absolute().parent.is_dir():
        parser.error(f"--json {options.json}: its folder is not there")
    return options


@contextlib.contextmanager
def own_folder() -> Iterator[Path]:
    """A temporary folder for everything."""
    with temporary_folder() as folder:
        folder.chmod(0o711)  # persons that change their uid pass through, and cannot list it
        (folder / "tmp").mkdir()
        (folder / "tmp").chmod(0o1777)
        before, tempfile.tempdir = tempfile.tempdir, str(folder / "tmp")
        try:
            yield folder
        finally:
            tempfile.tempdir = before
            end_all()


def measure(options: argparse.Namespace, sheet: Sheet) -> None:
    """Runs the suites. Raises BadInput."""
    wanted = list(INSTALLERS) if options.peers else options.peer
    with own_folder() as folder:
        setting = Setting(
            sheet,
            Peers(wanted, sheet.note),
            working_tree(folder),
            other(options.against, folder) if options.against else None,
            options.rounds,
            options.quick,
        )
        for name in options.suites or DEFAULT:
            sheet.begin(name)
            suite = importlib.import_module(f"bench.suites.{MODULES.get(name, name)}")
            try:
                suite.measure(setting)
            except (CannotMeasure, AssertionError, OSError) as error:
                # The others are measured all the same.
                sheet.fail(f"{name}: the rest cannot be measured: {error or type(error).__name__}")


MODULES = {"open": "opening", "exec": "execution"}
"""Suites whose modules have another name: theirs are functions of Python."""


def main(arguments: Sequence[str], description: str) -> int:
    """Returns the exit code: 0, 1 if a target was missed or something cannot be measured, 2 for
    bad input, 128 and the number of the signal that ended it."""
    options = options_of(arguments, description)
    if "plans" in options.suites:
        alone.enter(sys.argv)
    try:
        if options.source:
            return _draw(results.read(options.source), options.plots)
        leaks.become_subreaper()  # orphans come to us, not to pid 1: none is overlooked
        sheet = Sheet(judges=not options.quick)

        def keep() -> None:
            if options.json and sheet.results:
                sheet.write(options.json)

        on_signals(keep)
        try:
            measure(options, sheet)
        finally:
            keep()
        if options.plots:
            _draw([one.data() for one in sheet.results], options.plots)
    except BadInput as error:
        return _fail(str(error), 2)
    except (OSError, ValueError) as error:
        return _fail(str(error), 2 if options.source else 1)
    if sheet.failures:
        return _fail("\n".join(sheet.failures), 1)
    if sheet.missed:
        names = "\n  ".join(f"{one.suite}: {one.name}" for one in sheet.missed)
        return _fail(f"{len(sheet.missed)} of {len(sheet.results)} targets missed:\n  {names}", 1)
    return 0


def _draw(found: Sequence[results.Data], folder: Path) -> int:
    for path in plots.draw(found, folder):
        print(os.fspath(path))
    return 0


def _fail(text: str, code: int) -> int:
    print(f"scripts/bench: {text}", file=sys.stderr)
    return code
