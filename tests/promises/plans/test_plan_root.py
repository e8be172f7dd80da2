"""Root without CAP_SYS_ADMIN, as in a container without a seccomp profile, has a full plan."""

from __future__ import annotations

import signal

import struck
from identity import BIN, Person
from test_interrupts import assert_complete_record, assert_nothing_left

PERSONS = ["root in no-sys-admin"]


def test_tools_are_neither_root_inside_nor_have_its_capabilities(person: Person) -> None:
    secret = person.folder / "secret"
    secret.write_text("secret")
    secret.chmod(0o600)
    text = f"id -u; grep CapEff /proc/self/status; cat {secret}; touch /usr/x; echo made > made"
    argv = [str(BIN / "sandbox-agent"), "exec", "--out", str(person.folder / "runs")]
    ran = person.run([*argv, "--", "sh", "-c", text])
    assert ran.stdout.split() == ["1000", "CapEff:", "0" * 16], ran
    assert "Read-only file system" in ran.stderr
    assert (person.work / "made").read_text() == "made\n"
    assert (person.work / "made").stat().st_uid == 0


def test_an_interrupted_run_leaves_nothing(person: Person) -> None:
    with struck.task_at_work(person, 2, struck.STUBBORN) as run:
        after = run.strike(signal.SIGINT)
    assert after.code == 130, after.stderr
    assert_nothing_left(after)
    assert_complete_record(run, 130, 2)
    segment = next(event for event in run.journal() if event["event"] == "segment")
    assert segment["plan"]["kind"] == "full"
