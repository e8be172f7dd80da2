"""`doctor` in hosts that refuse something: it names the one cause and the plan that is left."""

from __future__ import annotations

import json
import os

import pytest
from environments import ENVIRONMENTS
from identity import BIN, Person, someone

AGENT = str(BIN / "sandbox-agent")

NAMESPACES = ("a filter of system calls", "seccomp")
MASKED = ("parts of /proc are masked", "systempaths=unconfined")
NO_MAPS = ("for want of capabilities", "ordinary user")

CAUSES = {
    "root in no-user-namespaces": ("user.max_user_namespaces", "sysctl -w user.max_user"),
    "user in no-user-namespaces": ("user.max_user_namespaces", "sysctl -w user.max_user"),
    "root in docker-filter": NAMESPACES,
    "user in docker-filter": NAMESPACES,
    "root in no-id-maps": ("/proc is read-only", "remount,rw"),
    "user in no-id-maps": ("/proc is read-only", "remount,rw"),
    "root in no-map-capabilities": NO_MAPS,
    "root in masked-proc": MASKED,
    "user in masked-proc": MASKED,
    "root in no-sys-admin": ("", ""),
    "root in runc": ("for want of capabilities", "--user 1000"),
    "user in runc": MASKED,
    "root in runc-docker": NAMESPACES,
    "user in runc-docker": NAMESPACES,
    "root in runc-restricted": NAMESPACES,
    "user in runc-restricted": NAMESPACES,
    "user in runc-stranger": MASKED,
}
"""Words of the cause, and of the hint; "" where there is none."""

PERSONS = list(CAUSES)

OPEN_TO_ALL = (
    "metadata of files outside",
    "names of processes",
    "names of the host",
    "names of changing files",
    "devices",
)
"""Without namespaces, under the default policy, which has no loopback."""

LOOK = """
import msgspec
from sandbox_agent_sandbox.diagnosis.plans import diagnosed
print(msgspec.json.encode(diagnosed()).decode())
"""


def test_a_place_has_one_cause_with_one_hint(person: Person) -> None:
    """Without the trials of `doctor`, which take seconds."""
    done = person.run([str(BIN / "python"), "-I", "-c", LOOK])
    assert done.returncode == 0, done.stderr
    check_host(person, json.loads(done.stdout))


def check_host(person: Person, host: dict[str, str]) -> None:
    assert person.place is not None
    kind = "root" if person.uid == 0 else "user"
    cause, hint = CAUSES[f"{kind} in {person.place.name}"]
    assert cause in host["cause"] and bool(cause) == bool(host["cause"]), host
    assert hint in host["hint"] and bool(hint) == bool(host["hint"]), host
    assert host["stronger"] in (("full", "shared_proc") if cause else ("",))


@pytest.mark.parametrize("kind", ["root in docker-filter", "user in no-id-maps"])
def test_doctor_says_it_with_the_plan_that_is_left(kind: str) -> None:
    if kind.startswith("root") and os.geteuid() != 0:
        pytest.skip("needs root")
    for person in someone(kind):
        assert person.place is not None
        if why := person.place.missing():
            pytest.skip(f"needs {person.place.name}: {why}")
        done = person.run([AGENT, "doctor", "--json"], timeout=120)
        assert done.stderr == ""
        found = json.loads(done.stdout)
        tried = [one for one in found["fields"] if one["why"].startswith("tried")]
        assert (done.returncode, found["error"], tried) == (0, None, [])
        check_host(person, found["host"])
        assert [one["plan"] for one in found["plans"]] == ["full", "shared_proc", "no_namespaces"]
        assert all(one["works"] or one["why"] for one in found["plans"])
        assert found["plan"] == person.place.plan(root=person.uid == 0), found["error"]
        assert {one["plan"]: one["works"] for one in found["plans"]}[found["plan"]]
        levels = {fact["name"]: fact["level"] for fact in found["fields"]}
        assert {name for name, level in levels.items() if level == "missing"} <= {"hide"}
        layers = {fact["name"] for fact in found["layers"] if fact["level"] == "missing"}
        assert layers <= {"namespaces", "other processes"}
        assert [one.partition(":")[0] for one in found["left_open"]] == [
            *OPEN_TO_ALL,
            *(["root's files"] if person.uid == 0 else []),
            "shared counts",
            "processes after three kills at once",
        ]


@pytest.mark.parametrize("kind", ["user in docker-filter"])
def test_why_says_what_can_be_opened_where_landlock_is_the_view(kind: str) -> None:
    """access(2) asks the modes alone, and Landlock lets it pass."""
    for person in someone(kind):
        person.write(person.folder / "outside", "content")
        person.write(person.work / "file", "content")
        expected = {
            person.folder / "outside": (False, False),
            "/tmp": (False, False),
            "/usr": (True, False),
            person.work: (True, True),
            person.work / "file": (True, True),
            "/dev/null": (True, True),
        }
        for path, ways in expected.items():
            done = person.run([AGENT, "doctor", "--json", "--why", str(path)])
            inside = json.loads(done.stdout)["inside"]
            assert (inside["read"], inside["write"]) == ways, (path, inside)
        assert [one.name for one in person.work.iterdir()] == ["file"]


def test_every_environment_that_refuses_a_plan_is_diagnosed() -> None:
    named = {
        f"{kind} in {one.name}"
        for one in ENVIRONMENTS.values()
        for kind in ("root", "user")
        if one.plan(root=kind == "root")
    }
    assert set(CAUSES) == named
