"""Images that a tool hands back for the model to look at.

Looked at on both sides of the wall: a worker says what was wrong in words that the model reads,
the host believes nothing that it has not seen itself.
"""

from __future__ import annotations

from collections.abc import Sequence

from sandbox_agent_ipc.messages import Image

MOST_IMAGES = 8
MOST_BYTES = 1 << 20
"""Of all images of one result."""

_SIGNATURES = {
    "image/png": (b"\x89PNG\r\n\x1a\n",),
    "image/jpeg": (b"\xff\xd8\xff",),
    "image/gif": (b"GIF87a", b"GIF89a"),
}


def media_type_of(data: bytes) -> str | None:
    """The type of an image that providers take, by its first bytes; None for anything else."""
    for name, signatures in _SIGNATURES.items():
        if data.startswith(signatures):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return None


def acceptable(images: Sequence[Image]) -> tuple[tuple[Image, ...], str]:
    """Those that may be shown to a model, and a line about those that may not."""
    taken: list[Image] = []
    left_out: list[str] = []
    room = MOST_BYTES
    for number, image in enumerate(images, 1):
        why = ""
        if media_type_of(image.data) != image.media_type:
            why = "it is no PNG, JPEG, GIF or WebP, or not what it is said to be"
        elif len(taken) == MOST_IMAGES:
            why = f"a result has {MOST_IMAGES} images at most"
        elif len(image.data) > room:
            why = f"{len(image.data)} bytes; a result has {MOST_BYTES} at most"
        if why:
            left_out.append(f"image {number}: {why}")
            continue
        taken.append(image)
        room -= len(image.data)
    return tuple(taken), f"[left out: {'; '.join(left_out)}]" if left_out else ""
