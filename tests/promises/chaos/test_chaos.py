"""A short run of chaos, and what makes a failing one worth something: that it replays."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import broken_copy
import paths
import pytest
from environments import ENVIRONMENTS

from chaos.plan import (
    COMMAND,
    KILLS_MODEL,
    LEGAL,
    LEGAL_PHASES,
    UNDER_WAY,
    Cause,
    Phase,
    Round,
    Tool,
    sessions,
)
from chaos.report import ENOUGH, FULL
from chaos.runner import ROOT, USER, Runner
from chaos.sabotage import VARIANTS, Sabotage
from chaos.strikes import TOGETHER

SEED = 4
SHORT, ROUNDS = 6, 14
"""The seed of a short run, and how many rounds. None of them needs root, and a spare dies."""
PLACE = "docker-filter"
"""A host where sandboxes have no namespaces, for any user."""


def rounds(seed: int, count: int) -> list[Round]:
    every = itertools.chain.from_iterable(session.rounds for session in sessions(seed))
    return list(itertools.islice(every, count))


@pytest.mark.parametrize("kind", [ROOT, USER])
def test_every_promise_holds_in_a_short_run(kind: str) -> None:
    if kind == ROOT and os.geteuid() != 0:
        pytest.skip("needs root")
    report = Runner(SHORT, kind, 2, most=ROUNDS).run()
    assert [violation["violations"] for violation in report.violations] == []
    assert report.rounds == ROUNDS
    assert report.in_flight >= ROUNDS // 2


def test_every_promise_holds_while_a_provider_is_asked() -> None:
    """With a death of the model process among the rounds, and what came before it."""
    number = next(
        plan.number
        for session in sessions(SEED)
        if session.asks
        for plan in session.rounds[1:]
        if plan.cause in KILLS_MODEL
    )
    runner = Runner(SEED, USER, 1, most=0)
    verdicts = runner.replay(number)
    assert [violation["violations"] for violation in runner.report.violations] == []
    assert [verdict["phase"] for verdict in verdicts] == [Phase.MODEL] * len(verdicts)
    assert len(verdicts) >= 2


@pytest.mark.parametrize("cause", [Cause.SIGTERM, Cause.CTRL_Z, Cause.FREEZE_AND_KILL_AGENT])
def test_every_promise_holds_of_exec(cause: Cause) -> None:
    number = next(
        plan.number
        for session in sessions(SEED)
        for plan in session.rounds
        if (plan.cause, plan.phase, plan.lone) == (cause, Phase.IN_FLIGHT, True)
        and not plan.uses[0].brief
    )
    runner = Runner(SEED, USER, 1, most=0)
    [verdict] = runner.replay(number)
    assert [violation["violations"] for violation in runner.report.violations] == []
    assert (runner.report.lone, verdict["phase"]) == (1, Phase.IN_FLIGHT)
    assert verdict["hit"] == [Tool.SHELL]


def test_what_the_design_excepts_is_counted_apart_and_ended_by_the_next_start() -> None:
    """Without namespaces: an agent is killed, and in the same moment all that keep its calls."""
    if why := ENVIRONMENTS[PLACE].missing():
        pytest.skip(f"needs {PLACE}: {why}")
    number = next(
        plan.number
        for session in sessions(SEED)
        for plan in session.rounds[:1]
        if (plan.cause, plan.phase) == (Cause.KILL_AGENT, Phase.IN_FLIGHT)
        and not plan.choice % TOGETHER
        and plan.ready
        and Tool.DAEMONISER in {use.tool for use in plan.uses}
        and plan.parallel >= len(plan.uses)
    )
    runner = Runner(SEED, USER, 1, most=0, place=PLACE)
    runner.replay(number)
    assert [violation["violations"] for violation in runner.report.violations] == []
    assert runner.report.together == 1
    [exception] = runner.report.exceptions
    assert exception["left"], "somebody still ended what its keepers could not"


def test_a_round_replays_from_its_seed() -> None:
    wanted = next(
        (session, plan)
        for session in sessions(SEED)
        for plan in session.rounds[1:]
        if plan.phase is Phase.IN_FLIGHT and not session.user
    )
    session, plan = wanted
    runner = Runner(SEED, USER, 1, most=0)
    verdicts = runner.replay(plan.number)
    assert [violation["violations"] for violation in runner.report.violations] == []
    # With those that it builds on: they have made the sandbox what it was.
    assert [verdict["round"] for verdict in verdicts] == list(
        range(session.rounds[0].number, plan.number + 1)
    )
    last = verdicts[-1]
    assert (last["cause"], last["phase"]) == (plan.cause, plan.phase)
    assert last["tools"] == [use.tool for use in plan.uses]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_early_and_the_report_tells_of_the_rounds_done(
    number: signal.Signals, tmp_path: Path
) -> None:
    out = tmp_path / "chaos.json"
    argv = ["--rounds", "10000", "--seed", str(SEED), "--as", "user", "--umpires", "1"]
    chaos = subprocess.Popen(
        [sys.executable, "-m", "chaos", *argv, "--out", str(out)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths.IMPORT_PATHS)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    with chaos:
        assert chaos.stderr is not None
        for line in chaos.stderr:
            if " rounds, " in line and "violations" in line:  # the first session is over
                break
        if number is signal.SIGINT:  # as from a terminal: all who belong to it get it
            os.killpg(chaos.pid, number)
        else:
            chaos.send_signal(number)
        rest = chaos.stderr.read()
        assert chaos.wait() == 128 + number, rest
    report = json.loads(out.read_text())
    assert report["ended_early"] is True
    assert 0 < report["rounds"] < report["asked"] == 10_000
    assert report["violations"] == []


def test_the_plan_is_the_seeds_alone() -> None:
    assert rounds(SEED, 500) == rounds(SEED, 500)
    assert rounds(SEED, 500) != rounds(SEED + 1, 500)
    assert [plan.number for plan in rounds(SEED, 500)] == list(range(500))


def test_a_full_plan_strikes_every_legal_pair_often_enough_and_calls_in_flight_most() -> None:
    plans = rounds(SEED, FULL)
    pairs: Counter[tuple[str, str]] = Counter((plan.phase, plan.cause) for plan in plans)
    pairs.update((use.tool, plan.cause) for plan in plans for use in plan.uses)
    pairs.update((use.tool, plan.phase) for plan in plans for use in plan.uses)
    pairs.update((plan.waits, plan.cause) for plan in plans if plan.waits is not None)
    legal = set(itertools.chain.from_iterable(LEGAL.values()))
    assert min(pairs[pair] for pair in legal) > ENOUGH * 1.2  # some strikes come too late
    assert {pair for pair in pairs if pair[1] in set(Phase)} - legal == {
        (tool, phase) for tool in Tool for phase in (Phase.OPENING, Phase.MODEL)
    }
    running = sum(plan.phase in UNDER_WAY for plan in plans)
    assert running > 0.82 * FULL
    assert all(plan.command for plan in plans if plan.cause in COMMAND)
    assert all(plan.phase in LEGAL_PHASES[plan.cause] for plan in plans)
    assert abs(sum(plan.times == (2.0, 1.0) for plan in plans) - FULL // 50) <= 1


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: str(variant.name))
def test_every_sabotage_still_fits_the_source(variant: Sabotage) -> None:
    assert broken_copy.changed(variant.name, variant.changes)
