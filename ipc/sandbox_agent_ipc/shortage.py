"""Messages for an OSError that means that the host has no descriptors left."""

from __future__ import annotations

import errno

_HINTS = {
    errno.EMFILE: "raise the limit of this process (ulimit -n), or close some",
    errno.ENFILE: "the machine has no more of them (sysctl fs.file-max)",
}


def is_shortage(error: OSError) -> bool:
    """Whether the host has run out of descriptors, and not refused something else."""
    return error.errno in _HINTS


def explained(error: OSError) -> str:
    """The error as text, with a hint where descriptors have run out. open(2)."""
    hint = _HINTS.get(error.errno or 0)
    return f"too many open files: {hint}" if hint else str(error)
