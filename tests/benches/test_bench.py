"""`scripts/bench`: that every figure can be taken. How large they are says a quiet machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import observer
import pytest
from bench import command
from bench.peers import INSTALLERS, Peers
from paths import CHECKOUT

FIELDS = {"suite", "name", "value", "unit", "baseline", "ratio", "target", "met"}


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, str(CHECKOUT / "scripts" / "bench"), *arguments]
    return subprocess.run(argv, capture_output=True, text=True, timeout=600)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "suites",
    [("calls", "open", "exec", "journal", "memory"), ("interrupt", "load"), ("turns", "start")],
    ids=" ".join,
)
def test_every_figure_of_the_default_suites_can_be_taken(
    suites: tuple[str, ...], tmp_path: Path
) -> None:
    done = bench("--quick", "--json", str(tmp_path / "kept.json"), *suites)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "kept.json").read_text())["results"]
    assert {one["suite"] for one in found} == set(suites)
    names = [(one["suite"], one["name"]) for one in found]
    assert len(set(names)) == len(names)
    for one in found:
        assert set(one) == FIELDS
        assert one["met"] is None  # a smoke run judges nothing
        if one["unit"] in ("ms", "µs", "calls/s") and not one["name"].startswith("what fdatasync"):
            assert one["value"] > 0, one
        assert one["name"].split(",")[0] in done.stdout


def test_the_groups_are_all_default_suites() -> None:
    [mark] = [
        one
        for one in test_every_figure_of_the_default_suites_can_be_taken.pytestmark
        if one.name == "parametrize"
    ]
    assert sorted(name for group in mark.args[1] for name in group) == sorted(command.DEFAULT)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["cals"], "there is no suite 'cals'; the suites are calls, open,"),
        (["--rounds", "0"], "--rounds 0: it must be 1 or more"),
        (["--rounds", "many"], "invalid int value: 'many'"),
        (["--against", "no-such-commit"], "no such commit in"),
        (["--against", "--all"], "expected one argument"),
        (["walls"], "walls needs --against REF"),
        (["--peer", "nobody"], "there is no peer 'nobody'; the peers are pebble,"),
        (["--from", "x.json"], "--from needs --plots DIR"),
        (["--from", "/no/such/file", "--plots", "/no/such"], "/no/such/file"),
        (["--json", "/no/such/folder/file"], "its folder is not there"),
    ],
    ids=" ".join,
)
def test_bad_input_ends_with_2_and_says_why(arguments: list[str], said: str) -> None:
    done = bench(*arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_bench_that_is_ended_leaves_nothing_behind(tmp_path: Path) -> None:
    """conftest.py looks for processes; all files of the bench are in its temporary folder."""
    argv = [sys.executable, str(CHECKOUT / "scripts" / "bench"), "--quick", "calls"]
    environ = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(argv, stdout=subprocess.PIPE, env=environ) as process:
        assert process.stdout is not None
        while not (line := process.stdout.readline()).startswith(b"calls"):
            assert line, "it ended before it began with the calls"
        # Below it are the program with the sandbox, its spawner, the sandbox's init, …
        observer.eventually(lambda: len(observer.descendants(process.pid)) >= 3, 60)
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(30) == 143
    assert list(tmp_path.iterdir()) == []


def test_a_peer_that_cannot_be_had_is_skipped_with_one_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(name: str, folder: Path) -> None:
        from bench.errors import CannotMeasure

        raise CannotMeasure(f"{name} cannot be installed: no such package")

    notes: list[str] = []
    monkeypatch.setattr("bench.peers.KEPT", tmp_path)
    monkeypatch.setattr("bench.peers.INSTALLERS", {**INSTALLERS, "pebble": refuses})
    peers = Peers(["pebble"], notes.append)
    assert peers.get("pebble") is None
    assert peers.get("pebble") is None
    assert peers.get("loky") is None  # it was not asked for
    assert notes == ["skipped: pebble cannot be installed: no such package"]
    assert list(tmp_path.iterdir()) == []
