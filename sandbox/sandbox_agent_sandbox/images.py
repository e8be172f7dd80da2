"""Images that a tool returns for the model to see.

Both sides of the walls check them. The worker's check tells the model what was wrong with an image.
The host checks again, because a worker that a tool has taken over may send anything.
"""

from __future__ import annotations

from collections.abc import Sequence

from sandbox_agent_ipc.messages import Image

MAX_IMAGES = 8
"""Images in one result."""
MAX_IMAGE_BYTES = 1 << 20
"""Bytes of all images in one result together."""

_SIGNATURES = {
    "image/png": (b"\x89PNG\r\n\x1a\n",),
    "image/jpeg": (b"\xff\xd8\xff",),
    "image/gif": (b"GIF87a", b"GIF89a"),
}


def media_type_of(data: bytes) -> str | None:
    """The type of an image that providers accept, by its first bytes; None for anything else."""
    for name, signatures in _SIGNATURES.items():
        if data.startswith(signatures):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return None


def select_images(images: Sequence[Image]) -> tuple[tuple[Image, ...], str]:
    """The images that a model may see, and a line about the others ("" when there are none)."""
    accepted: list[Image] = []
    left_out: list[str] = []
    room = MAX_IMAGE_BYTES
    for number, image in enumerate(images, 1):
        why = ""
        if media_type_of(image.data) != image.media_type:
            why = "it is not a PNG, JPEG, GIF or WebP, or not of the type that it names"
        elif len(accepted) == MAX_IMAGES:
            why = f"a result has {MAX_IMAGES} images at most"
        elif len(image.data) > room:
            why = f"{len(image.data)} bytes; a result has {MAX_IMAGE_BYTES} at most"
        if why:
            left_out.append(f"image {number}: {why}")
            continue
        accepted.append(image)
        room -= len(image.data)
    return tuple(accepted), f"[left out: {'; '.join(left_out)}]" if left_out else ""
