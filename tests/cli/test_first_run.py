"""The first thing that anybody does, where the sandbox is not a full one."""

from __future__ import annotations

from identity import BIN, Person

PERSONS = ["user in docker-filter", "user in masked-proc"]

AGENT = str(BIN / "sandbox-agent")


def test_the_project_of_init_is_done_and_verified(person: Person) -> None:
    """Its `tests` are protected, and Python would like to keep its byte code there."""
    assert person.run([AGENT, "init", "demo"]).returncode == 0
    done = person.run([AGENT, "run", "demo"])
    assert done.returncode == 0, done.stderr
    assert "restored     " not in done.stderr
    assert not list((person.work / "demo" / "tests").rglob("__pycache__"))


def test_a_verify_command_that_changes_what_it_judges_by_is_named(person: Person) -> None:
    assert person.place is not None
    assert person.run([AGENT, "init", "demo"]).returncode == 0
    command = "echo pass >> tests/test_count.py || exit 3"
    done = person.run([AGENT, "run", "demo", "--set", f"verify=['{command}']"])
    assert done.returncode == 1, done.stderr
    if person.place.plan(root=False) == "no_namespaces":  # elsewhere it fails by itself
        assert "(it changed tests/test_count.py, which is protected)" in done.stderr
        kept = (person.work / "demo" / "tests" / "test_count.py").read_text()
        assert not kept.endswith("pass\n")
