"""What the code of a tool may know about the call that it serves. A worker serves one."""

from __future__ import annotations

import os

import msgspec

from sandbox_agent_sandbox.capture import MODEL_BYTES


class CallFacts(msgspec.Struct, frozen=True):
    """Facts of one call.

    room: bytes of the result that the model gets; a longer text is cut in the middle. kept: the
    files and folders of the host that are visible inside. All other places are the sandbox's own,
    in memory, and end with it. None outside a sandbox, as in a test: then every place is kept.
    """

    room: int = MODEL_BYTES
    kept: tuple[str, ...] | None = None

    def is_private(self, path: str) -> bool:
        """Whether what is written at this real path is lost with the sandbox."""
        if self.kept is None:
            return False
        return not any(
            path == folder or path.startswith(folder.rstrip("/") + "/") for folder in self.kept
        )


_current = CallFacts()


def current() -> CallFacts:
    """The facts of this worker's call."""
    return _current


def set_facts(facts: CallFacts) -> None:
    """Say what `current` returns from now on."""
    global _current
    _current = facts


def workspace() -> str:
    """The working folder, for a message."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        return "which was removed"


def expand_home(path: str) -> str:
    """A path with a leading `~` replaced by the home folder inside, as a shell does it.

    Also `~USER`, for a user that exists inside; any other name that begins with `~` stays.
    """
    return os.path.expanduser(path) if path.startswith("~") else path
