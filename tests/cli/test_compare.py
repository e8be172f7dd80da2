"""`sandbox-agent compare`: two runs beside each other."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import identity
import made_runs
import pytest
from identity import BIN, Person
from made_runs import Clock


@pytest.fixture
def me() -> Iterator[Person]:
    yield from identity.someone("root")  # whoever runs the tests


def compare(me: Person, *argv: str) -> subprocess.CompletedProcess[str]:
    runs = str(me.folder / "runs")
    return me.run([str(BIN / "sandbox-agent"), "compare", "--out", runs, *argv])


def test_two_runs_are_compared_as_text_and_as_json(me: Person) -> None:
    clock = Clock()
    base = me.folder / "runs"
    made_runs.write(base / "20261128T100000000-aaaaaa", made_runs.failed_run(name="before"))
    good = [made_runs.opened(clock, "after"), made_runs.begun(clock, parallel=3)]
    good.append(made_runs.ended(clock, 2.0))
    made_runs.write(base / "20261128T110000000-bbbbbb", good)
    done = compare(me, "before", "after")
    assert (done.returncode, done.stderr) == (0, "")
    rows = [line.split() for line in done.stdout.splitlines()]
    assert ["*", "status", "failed", "done"] in rows and ["*", "calls", "1", "0"] in rows
    assert "* parallel: - -> 3" in done.stdout
    assert '- shell command="ls -la" [ok]' in done.stdout
    found = json.loads(compare(me, "before", "bbb", "--json").stdout)
    assert found["left"].endswith("aaaaaa") and found["right"].endswith("bbbbbb")
    results = {one["field"]: (one["left"], one["right"]) for one in found["results"]}
    assert results["status"] == ("failed", "done")
    assert found["settings"] == [{"field": "parallel", "left": None, "right": 3}]


def test_a_run_that_is_not_there_is_refused(me: Person) -> None:
    made_runs.write(me.folder / "runs" / made_runs.ID, made_runs.failed_run())
    done = compare(me, "last", "other")
    assert (done.returncode, done.stdout) == (2, "")
    assert "there is no run other" in done.stderr
