"""The project's own tests of `ipc` pass inside the project's own sandbox."""

from __future__ import annotations

import json
import re

import pytest
from identity import BIN, CHECKOUT, Person


@pytest.mark.timeout(300)
def test_own_tests_pass_inside(person: Person) -> None:
    runs = person.folder / "runs"
    task = CHECKOUT / "tests" / "support" / "own_tests.yaml"
    argv = [str(BIN / "sandbox-agent"), "run", str(task), "--out", str(runs)]
    done = person.run(argv, timeout=280)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "The tests of ipc pass."

    (run,) = (path for path in runs.iterdir() if path.is_dir())
    lines = (run / "journal.jsonl").read_text().splitlines()
    ended = [event for event in map(json.loads, lines) if event["event"] == "ended"]
    assert re.search(r"\d+ passed", ended[0]["content"])
    assert "failed" not in ended[0]["content"]
