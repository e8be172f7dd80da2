"""Errors of the sandbox."""

from sandbox_agent_ipc.errors import SandboxAgentError


class SandboxError(SandboxAgentError):
    """Root of the errors of this package."""


class PolicyError(SandboxError):
    """A policy that no host can satisfy: it names a path that does not exist, for instance.

    what: what is wrong. field: of the policy, dotted, as in `limits.timeout`; None where no one
    field is at fault. hint: what to do about it, where `what` does not say so.
    """

    def __init__(self, what: str, *, field: str | None = None, hint: str | None = None) -> None:
        self.what = what
        self.field = field
        self.hint = hint
        head = f"{field}: {what}" if field else what
        super().__init__(f"{head}\n  hint: {hint}" if hint else head)


class SandboxUnavailable(SandboxError):
    """This host cannot enforce the policy, or refused a step of building the sandbox.

    step, number: of building it, the step that failed and its errno; "" and 0 for another reason.
    """

    def __init__(self, *message: object, step: str = "", number: int = 0) -> None:
        super().__init__(*message)
        self.step = step
        self.number = number


class NoPlan(SandboxUnavailable):
    """This host can do none of the plans that the policy allows."""


class SandboxBroken(SandboxError):
    """The sandbox died or stopped answering while it was in use."""


class CellClosed(SandboxError):
    """A call on a sandbox that is closed, or not open yet."""
