"""`sandbox.plan`: a kind that the host cannot do is refused with its reason; a host without any
wall with all of them."""

from __future__ import annotations

import json

import struck
from identity import BIN, Person

AGENT = str(BIN / "sandbox-agent")
PERSONS = ["root in no-walls", "user in no-walls", "root in docker-filter", "user in docker-filter"]


def plan(kind: str, person: Person) -> tuple[int, str]:
    """The exit code of a run with this plan, and what it says. No tool may have run."""
    task, marker = person.folder / "task" / "task.yaml", person.work / "marker"
    if not task.exists():
        calls = [{"shell": {"command": f"touch {marker}"}}]
        struck.write_task(person, [{"calls": calls}, {"final": "done"}])
    done = person.run([AGENT, "run", str(task), "--set", f"sandbox.plan={kind}"])
    assert "Traceback" not in done.stderr
    assert not marker.exists() or done.returncode == 0
    return done.returncode, done.stderr


def test_a_kind_that_is_named_and_cannot_be_done_is_refused_with_its_reason(person: Person) -> None:
    code, said = plan("full", person)
    assert code == 5
    assert "cannot " in said and said.count("hint: ") == 1
    code, said = plan("shared_proc", person)
    assert code == 5
    assert "the plan shared_proc cannot be done here: " in said


def test_a_host_without_any_wall_is_refused_with_all_reasons(person: Person) -> None:
    assert person.place is not None
    if person.place.name != "no-walls":
        return
    code, said = plan("no_namespaces", person)
    assert (code, "the plan no_namespaces cannot be done here: " in said) == (5, True)
    code, said = plan("auto", person)
    assert code == 5
    assert "the sandbox cannot be built: cannot " in said
    for kind in ("shared_proc", "no_namespaces"):
        assert f"the plan {kind} cannot be done here: " in said
    assert said.count("hint: ") == 1
    records = [*(person.folder / "runs").glob("*/result.json")]
    assert {json.loads(record.read_text())["exit_code"] for record in records} == {5}
