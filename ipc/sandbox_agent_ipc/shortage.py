"""What to say of an OSError that means that the host has run out of something."""

from __future__ import annotations

import errno

_HINTS = {
    errno.EMFILE: "raise the limit of this process (ulimit -n), or close some",
    errno.ENFILE: "the machine has no more of them (sysctl fs.file-max)",
}


def is_shortage(error: OSError) -> bool:
    """Whether it is for want of descriptors, and not of anything that the host cannot do."""
    return error.errno in _HINTS


def explained(error: OSError) -> str:
    """The error in words, with the hint where it is for want of descriptors. open(2)."""
    hint = _HINTS.get(error.errno or 0)
    return f"too many open files: {hint}" if hint else str(error)
