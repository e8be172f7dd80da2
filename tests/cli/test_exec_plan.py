"""`exec` says in one line that its sandbox is not a full one, and not in what a program reads."""

from __future__ import annotations

from identity import BIN, Person

PERSONS = ["user", "user in masked-proc", "root in docker-filter"]

AGENT = str(BIN / "sandbox-agent")


def test_a_weaker_plan_is_said_once_on_standard_error(person: Person) -> None:
    kind = "full" if person.place is None else person.place.plan(root=person.uid == 0)
    line = "" if kind == "full" else f"sandbox-agent: plan {kind}: "
    ran = person.run([AGENT, "exec", "--", "sh", "-c", "echo out; echo err >&2"])
    assert (ran.returncode, ran.stdout) == (0, "out\n"), ran.stderr
    *said, last = ran.stderr.splitlines()
    assert last == "err" and len(said) == bool(line)
    assert all(one.startswith(line) for one in said)
    ran = person.run([AGENT, "exec", "--quiet", "--", "echo", "out"])
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "out\n", "")
    # One pipe for both streams: whoever reads it wants what the command writes.
    ran = person.run(["sh", "-c", f"{AGENT} exec -- echo out 2>&1"])
    assert (ran.returncode, ran.stdout) == (0, "out\n"), ran.stderr
