"""Where parts of /proc are masked, a full plan is not built in order to see it fail."""

from __future__ import annotations

import json

from identity import BIN, Person

PERSONS = ["root in masked-proc", "user in masked-proc", "user in runc-docker", "root in runc"]

CHOOSE = """
import json
from sandbox_agent_sandbox.plan import PlanKind
from sandbox_agent_sandbox.policy.kinds import choose
from sandbox_agent_sandbox.policy.policy import Policy
from sandbox_agent_sandbox.policy.probe import host_facts
at_once = choose.choose_at_once(Policy())
chosen = choose.choose(Policy(), host_facts())
full = choose.found(PlanKind.FULL, host_facts())
print(json.dumps([at_once, chosen, full.works, full.why]))
"""


def test_one_child_finds_out_what_can_be_had(person: Person) -> None:
    done = person.run([str(BIN / "python"), "-I", "-c", CHOOSE])
    assert done.returncode == 0, done.stderr
    at_once, chosen, works, why = json.loads(done.stdout)
    assert person.place is not None
    assert (at_once, chosen) == (None, person.place.plan(root=person.uid == 0))
    assert not works and why


def test_the_named_plan_is_built_all_the_same(person: Person) -> None:
    """So its refusal has the words of what failed."""
    person.write(person.work / "p.yaml", "plan: full\n")
    done = person.run([str(BIN / "sandbox-agent"), "exec", "--policy", "p.yaml", "--", "true"])
    assert done.returncode == 125, done.stderr
    assert "cannot " in done.stderr and done.stderr.count("hint: ") == 1
