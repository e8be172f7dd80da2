"""Cuts the content of a call to the length that a model gets."""

from __future__ import annotations

import re

from sandbox_agent_sandbox.capture import MODEL_BYTES as MODEL_BYTES
from sandbox_agent_sandbox.capture import join

_NOTE = rb"\n\[\.\.\. (\d{1,15}) bytes left out \.\.\.\]\n"
_TORN = 8
"""Bytes by which an earlier note may be off the middle."""


def cut(data: bytes, limit: int = MODEL_BYTES, boundary: int = 0) -> bytes:
    """`data`, or its head and tail with a line between them if it is longer than `limit` bytes.

    boundary: where the second of two parts begins. What was left out of the middle of a part
    before, by the policy's limit, is counted too.
    """
    if len(data) <= limit:
        return data
    half = limit // 2
    left_out = len(data) - 2 * half
    for start, part in ((0, data[:boundary]), (boundary, data[boundary:])):
        middle = max(0, len(part) // 2 - 64)
        note = re.compile(_NOTE).search(part, middle, middle + 128)
        if note is None or abs(note.start() - (len(part) - note.end())) > _TORN:
            continue
        if half <= start + note.start() and start + note.end() <= len(data) - half:
            left_out += int(note[1]) - len(note[0])
    return join(data[:half], data[len(data) - half :], left_out)
