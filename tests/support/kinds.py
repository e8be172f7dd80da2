"""The kind of plan that tests build their sandboxes by, where they do not name one."""

from __future__ import annotations

import os

from sandbox_agent_sandbox.plan import PlanKind

IN_FORCE = PlanKind(os.environ.get("SANDBOX_AGENT_TEST_PLAN") or PlanKind.FULL)
"""`full`; in an environment (tests/support/environments) what is chosen there. So the same tests
say of each kind what they say of the first: `scripts/test --in NAME`."""
