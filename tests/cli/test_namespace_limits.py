"""A host that allows a few namespaces only: user_namespaces(7), /proc/sys/user."""

from __future__ import annotations

import subprocess

import pytest
from identity import BIN, CHECKOUT, Person

AGENT = str(BIN / "sandbox-agent")
REFUSE = [str(BIN / "python"), "-I", str(CHECKOUT / "tests" / "support" / "refuse.py")]

PERSONS = ["user"]
"""Root in a user namespace may not copy mounts, so it is refused before any limit strikes."""


@pytest.mark.parametrize(
    ("kind", "count", "step"),
    [
        ("mnt", 0, "make the namespaces"),
        ("mnt", 1, "copy the mounts of the plan"),  # open_tree(2) makes one for each copy
        ("pid", 0, "make the namespaces"),
        ("pid", 1, "make the call's namespaces"),
        ("ipc", 1, "make the call's namespaces"),
        ("net", 0, "make the namespaces"),
    ],
)
def test_a_limit_of_namespaces_is_called_that_wherever_it_strikes(
    person: Person, kind: str, count: int, step: str
) -> None:
    limited = [*REFUSE, f"--{kind}={count}"]
    policy = person.write(person.folder / "p.yaml", "plan: full\n")
    words = ["exec", "--policy", str(policy), "--out", "../runs", "--", "sh", "-c", "exit 5"]
    done = person.run([*limited, AGENT, *words])
    assert done.returncode == 125, done.stderr
    assert f"cannot {step}: too many namespaces; hint: " in done.stderr
    assert f"user.max_{kind}_namespaces" in done.stderr or "user.max_*_namespaces" in done.stderr
    assert not [word for word in ("5.12", "CAP_SYS_ADMIN", "space") if word in _spaceless(done)]
    assert done.stderr.count("hint:") == 1


def _spaceless(done: subprocess.CompletedProcess[str]) -> str:
    return done.stderr.replace("namespace", "")
