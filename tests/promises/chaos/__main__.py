"""Strikes runs at random instants, and checks every promise after each.

The plan follows from the seed; what it strikes is the real thing, so instants differ by noise.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import leaks
import paths
from environments import ENVIRONMENTS

from chaos.report import ENOUGH, FULL
from chaos.runner import BOTH, ROOT, USER, Runner, say

if TYPE_CHECKING:
    from pipelines.many import Many


def main() -> int:
    # Commands that we strike with SIGHUP would inherit nohup's "ignored", and rightly keep to it.
    # What a shell starts with `&` ignores SIGINT, and Python then raises no KeyboardInterrupt.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    parser = argparse.ArgumentParser(prog="scripts/chaos", description=__doc__)
    parser.add_argument("--rounds", type=int, metavar="N", help="300; with --ci 50 of each system")
    parser.add_argument("--seed", type=int, metavar="S", help="of the plan; a random one")
    parser.add_argument(
        "--as", dest="kind", choices=(ROOT, USER, BOTH), help="both; user, not root"
    )
    parser.add_argument(
        "--in",
        dest="place",
        default="",
        metavar="NAME",
        choices=[one.name for one in ENVIRONMENTS.values() if not one.in_container],
        help="a host of tests/support/environments",
    )
    parser.add_argument("--replay", metavar="SEED:ROUND", help="one round, and those it builds on")
    parser.add_argument("--minutes", type=float, metavar="M", help="begin nothing after so many")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the figures, as JSON")
    parser.add_argument(
        "--umpires", type=int, metavar="N", help="at once; one more than processors"
    )
    parser.add_argument("--prove", action="store_true", help="run against sabotaged variants")
    parser.add_argument("--only", metavar="NAME,...", help="with --prove: these variants")
    parser.add_argument("--ci", action="store_true", help="the cancels of CI systems instead")
    options = parser.parse_args()
    kind = options.kind or (BOTH if os.geteuid() == 0 else USER)
    if kind != USER and os.geteuid() != 0:
        parser.error("only root can make rounds as root; use --as user")
    if options.place and (why := cannot_be(options.place, kind)):
        parser.error(f"--in {options.place}: {why}")
    if options.place and (options.prove or options.ci):
        parser.error("--in goes with rounds and with --replay")
    leaks.become_subreaper()
    posts = options.umpires or len(os.sched_getaffinity(0)) + 1
    if options.prove:
        from chaos.prove import prove

        names = options.only.split(",") if options.only else None
        return prove(
            options.kind or (ROOT if os.geteuid() == 0 else USER), posts, names, options.out
        )
    if options.ci:
        return cancels(options, kind, posts)
    if options.replay:
        return replay(options.replay, kind, options.place)
    seed = options.seed if options.seed is not None else secrets.randbelow(10**6)
    options.rounds = options.rounds or 300
    where = f" in {options.place}" if options.place else ""
    say(f"chaos: seed {seed}, {options.rounds} rounds as {kind}{where}, {posts} umpires")
    begin = time.monotonic()
    more = {"minutes": options.minutes, "place": options.place}
    runner = Runner(seed, kind, posts, most=options.rounds, progress=True, **more)
    stopped_by = end_early(runner)
    report = runner.run()
    print(report.summary())
    seconds = time.monotonic() - begin
    print(f"\n{seconds:.0f} s, {seconds / max(1, report.rounds) * 1000:.0f} ms a round")
    early = report.rounds < options.rounds
    data = {
        **header(seed, kind, posts),
        "in": options.place,
        "asked": options.rounds,
        "ended_early": early,
    }
    data |= {"seconds": round(seconds, 1), **report.as_json()}
    if options.out is not None:
        options.out.write_text(json.dumps(data, indent=1) + "\n")
    thin = report.rounds >= FULL and min(least for least, _ in report.fewest().values()) < ENOUGH
    if thin:
        say(f"chaos: a legal pair has fewer than {ENOUGH} hits")
    if stopped_by and not report.violations:
        return 128 + stopped_by[0]
    return 1 if report.violations or thin or not report.rounds else 0


def cannot_be(place: str, kind: str) -> str:
    """Why no rounds can be made in this host as these users; "" if they can."""
    there = ENVIRONMENTS[place]
    without = [
        one for one in (ROOT, USER) if kind in (one, BOTH) and not there.plan(root=one == ROOT)
    ]
    if without:
        return f"there is no sandbox for {' and '.join(without)}; use --as"
    return there.missing()


def cancels(options: argparse.Namespace, kind: str, posts: int) -> int:
    """--ci: plays the cancels of CI systems; see `pipelines`."""
    from pipelines import many

    seed, only = options.seed, None
    if options.replay:
        seed, only = map(int, options.replay.split(":"))
    if seed is None:
        seed = secrets.randbelow(10**6)
    plays = many.Many(seed, kind, options.rounds or many.ROUNDS)
    say(f"chaos: the cancels of CI systems, seed {seed}, as {kind}")
    stopped_by = end_early(plays)
    head = header(seed, kind, posts)
    code = many.main(plays, posts, only=only, out=options.out, header=head)
    return 128 + stopped_by[0] if stopped_by and not code else code


def end_early(runner: Runner | Many) -> list[int]:
    """At SIGINT or SIGTERM begin nothing more, so that the report tells of what was done.

    A second one ends us at once, without a report. Returns where the signal will be noted.
    """
    stopped_by: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        stopped_by.append(number)
        signal.signal(number, signal.SIG_DFL)
        runner.stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    return stopped_by


def replay(what: str, kind: str, place: str) -> int:
    seed, _, number = what.partition(":")
    runner = Runner(int(seed), kind, 1, most=1 << 40, progress=True, place=place)
    verdicts = runner.replay(int(number))
    for verdict in verdicts:
        print(json.dumps(verdict, indent=1))
    return 1 if runner.report.violations or not verdicts else 0


def header(seed: int, kind: str, posts: int) -> dict[str, Any]:
    """What the figures are of."""
    return {
        "seed": seed,
        "commit": commit(),
        "plan": {
            "as": kind,
            "umpires": posts,
            "grace_ms": 100,
            "term_ms": 100,
            "defaults": "1 in 50",
        },
        "host": {"kernel": os.uname().release, "cpus": os.cpu_count(), "python": sys.version},
    }


def commit() -> str:
    """Of the checkout; with a plus where something in it differs."""
    git = ["git", "-C", str(paths.CHECKOUT)]
    try:
        name = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True)
        if name.returncode:
            return "unknown"
        clean = subprocess.run([*git, "diff", "--quiet", "HEAD"]).returncode == 0
    except OSError:
        return "unknown"
    return name.stdout.strip() + ("" if clean else "+")


if __name__ == "__main__":
    sys.exit(main())
