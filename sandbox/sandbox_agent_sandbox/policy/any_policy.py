"""What planning takes for a policy: what people wrote, or plain data. For type checkers."""

from __future__ import annotations

from sandbox_agent_sandbox.policy.fields.plain import PlainLimits, PlainPolicy
from sandbox_agent_sandbox.policy.policy import Limits, Policy

AnyPolicy = Policy | PlainPolicy
AnyLimits = Limits | PlainLimits
