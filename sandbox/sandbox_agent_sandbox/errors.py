"""Errors of the sandbox."""

from sandbox_agent_ipc.errors import SandboxAgentError


class SandboxError(SandboxAgentError):
    """Root of the errors of this package."""


class PolicyError(SandboxError):
    """A policy that no host can satisfy: it names a path that does not exist, for instance."""


class SandboxUnavailable(SandboxError):
    """This host cannot enforce the policy, or refused a step of building the sandbox."""


class SandboxBroken(SandboxError):
    """The sandbox died or stopped answering while it was in use."""


class CellClosed(SandboxError):
    """A call on a sandbox that is closed, or not open yet."""
