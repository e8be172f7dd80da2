"""`doctor` in hosts that refuse something: it names the one cause and the plan that is left."""

from __future__ import annotations

import json

import pytest
from environments import ENVIRONMENTS
from identity import BIN, Person

AGENT = str(BIN / "sandbox-agent")

CAUSES = {
    "no-user-namespaces": ("user.max_user_namespaces", "sysctl -w user.max_user_namespaces"),
    "docker-filter": ("a filter of system calls", "seccomp=unconfined"),
    "no-id-maps": ("/proc is read-only", "remount,rw"),
    "masked-proc": ("parts of /proc are masked", "systempaths=unconfined"),
}
"""Words of the cause, and of the hint."""

PERSONS = [f"{kind} in {name}" for name in CAUSES for kind in ("root", "user")]


@pytest.fixture
def found(person: Person) -> dict[str, object]:
    done = person.run([AGENT, "doctor", "--json"], timeout=120)
    assert done.stderr == "", done.stderr
    decoded: dict[str, object] = json.loads(done.stdout)
    return decoded


def test_it_names_one_cause_with_one_hint(person: Person, found: dict[str, object]) -> None:
    assert person.place is not None
    host = found["host"]
    assert isinstance(host, dict)
    cause, hint = CAUSES[person.place.name]
    assert cause in host["cause"], host
    assert hint in host["hint"], host
    assert host["stronger"] in ("full", "shared_proc")
    plans = found["plans"]
    assert isinstance(plans, list)
    assert [one["plan"] for one in plans] == ["full", "shared_proc", "no_namespaces"]
    works = {one["plan"]: one["works"] for one in plans}
    assert not works["full"]
    assert all(one["works"] or one["why"] for one in plans)
    if found["plan"]:
        assert found["plan"] == person.place.plan(root=person.uid == 0)
        assert works[found["plan"]]


def test_every_environment_that_refuses_a_plan_is_diagnosed() -> None:
    unasked = {"no-sys-admin", "no-walls"}
    named = {name for name in ENVIRONMENTS if not name.startswith("runc")}
    assert set(CAUSES) == named - unasked
