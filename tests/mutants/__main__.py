"""`scripts/check --mutants`: is each wrong change of a fixed list caught by a test?"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator

import broken_copy

from mutants.all import MUTANTS
from mutants.runner import Verdict, judge_all


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/check --mutants", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="mutants with this in their name")
    parser.add_argument("--jobs", type=int, default=min(os.cpu_count() or 1, 4), metavar="N")
    options = parser.parse_args()
    chosen = [
        one
        for one in MUTANTS
        if not options.names or any(name in one.name for name in options.names)
    ]
    if not chosen:
        parser.error(f"no mutant has {' or '.join(options.names)} in its name")
    begin = time.monotonic()
    try:
        control, *verdicts = _shown(judge_all(chosen, options.jobs))
    except broken_copy.DoesNotFit as error:
        print(f"{error}\n  hint: bring tests/mutants up to date with the source")
        return 2
    missed = [one.mutant.name for one in verdicts if not one.caught]
    seconds = time.monotonic() - begin
    print(f"{len(verdicts)} mutants in {seconds:.0f} s, {len(missed)} not caught: {missed}")
    return 1 if missed or control.code else 0


def _shown(verdicts: Iterator[Verdict]) -> Iterator[Verdict]:
    """Prints each as it comes. The first is of the unchanged product."""
    for n, one in enumerate(verdicts):
        if n or one.code:
            print(one if n else f"the product itself fails these tests:\n{one.output}", flush=True)
        yield one


if __name__ == "__main__":
    raise SystemExit(main())
