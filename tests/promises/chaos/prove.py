"""`scripts/chaos --prove`: who checks the checker? Broken variants, every one of which must be
caught, and the product itself, which must not be."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

from chaos.runner import Runner, say
from chaos.sabotage import ROOT, USER, VARIANTS, Sabotage

SEED = 1
MOST = 3000
"""Rounds of the plan that a variant is looked for in; of those, the ones that its focus picks."""

MINUTES = 1.5
CONTROL = 40
"""Rounds against an unbroken copy."""


def prove(kind: str, posts: int, names: list[str] | None, out: Path | None) -> int:
    """Returns 0 when every variant was caught by the check that is meant to."""
    variants = [one for one in VARIANTS if names is None or one.name in names]
    other = {ROOT: USER, USER: ROOT}.get(kind)
    for variant in [one for one in variants if one.needs == other]:
        print(f"left out: {variant.name}: only --as {variant.needs} can show it")
        variants.remove(variant)
    rows = [_control(kind, posts)] if names is None else []
    rows += [_one(variant, kind, posts) for variant in variants]
    missed = [row["variant"] for row in rows if not row["as_it_should"]]
    print(f"{len(variants)} sabotaged variants, {len(missed)} not as it should be: {missed}")
    if out is not None:
        out.write_text(json.dumps({"as": kind, "seed": SEED, "variants": rows}, indent=1) + "\n")
    return 1 if missed or not variants else 0


def _one(variant: Sabotage, kind: str, posts: int) -> dict[str, object]:
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        Path(name).chmod(0o755)
        runner = Runner(
            SEED,
            kind,
            posts,
            most=MOST,
            minutes=MINUTES,
            environment=variant.apply(Path(name)),
            stop_at=variant.caught_by,
            focus=variant.focus,
        )
        report = runner.run()
    seconds = time.monotonic() - begin
    print(
        f"{'caught' if runner.found else 'MISSED'}: {variant.name}:"
        f" {report.rounds} rounds, {seconds:.0f} s: {(runner.found or '-')[:160]}",
        flush=True,
    )
    for violation in [] if runner.found else report.violations[:5]:
        say(f"    other violations: {violation['violations']}")
    return {
        "variant": variant.name,
        "as_it_should": runner.found is not None,
        "rounds": report.rounds,
        "seconds": round(seconds, 1),
        "violation": runner.found,
    }


def _control(kind: str, posts: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        Path(name).chmod(0o755)
        environment = Sabotage("none", (), "").apply(Path(name))
        report = Runner(SEED, kind, posts, most=CONTROL, environment=environment).run()
    good = not report.violations and report.rounds > 0
    print(
        f"{'clean' if good else 'NOT CLEAN'}: nothing sabotaged: {report.rounds} rounds", flush=True
    )
    for violation in report.violations:
        say(f"    {violation['violations']}")
    return {"variant": "nothing", "as_it_should": good, "rounds": report.rounds}
