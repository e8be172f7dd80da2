"""Errors. `SandboxAgentError` is the root of every error that this distribution raises."""


class SandboxAgentError(Exception):
    """Root of all errors of sandbox-agent. The message says what happened, where, and the hint."""


class IpcError(SandboxAgentError):
    """Root of the errors of this package."""


class ProtocolError(IpcError):
    """The other side sent bytes that the protocol does not allow at this point."""


class DescriptorsLost(ProtocolError):
    """Of a message, not all descriptors arrived: more were sent than are allowed; or this process
    has too many open, then the cause is EMFILE. message: the message; None if it is none."""

    def __init__(self, what: str, message: object = None) -> None:
        super().__init__(what)
        self.message = message


class TornFrame(ProtocolError):
    """The stream ended inside a frame: its writer died, or stopped on purpose."""


class HandshakeError(ProtocolError):
    """The two sides speak different versions, usually an upgrade under a running program."""


class ChannelClosed(IpcError):
    """The other side is gone: end of file where a message was due."""


class BoardFull(IpcError):
    """Every slot of the cancel board is taken; wait for a call to end."""
