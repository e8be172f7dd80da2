"""Errors of the sandbox."""

from sandbox_agent_ipc.errors import SandboxAgentError


class SandboxError(SandboxAgentError):
    """Root of the errors of this package."""


class PolicyError(SandboxError):
    """A policy that cannot be right on any host: names a path that is not there, for instance."""


class SandboxUnavailable(SandboxError):
    """This host cannot enforce the policy, or refused a step of building the sandbox."""


class SandboxBroken(SandboxError):
    """The sandbox died or stopped answering while it was in use."""


class CellClosed(SandboxError):
    """A call on a sandbox that was closed or never opened."""
