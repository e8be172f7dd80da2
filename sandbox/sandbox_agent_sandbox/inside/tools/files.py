"""The tools that read a file and list a folder.

Of all file tools: the model reads their docstrings, and paths are relative to the workspace. The
walls decide what may be read and written, so these tools follow symbolic links and `..`. They do
not hang on a FIFO or read without a bound. A result is at most as long as what the model gets; what
is longer is cut here, at a line, with the way to go on. Each worker imports only the tool that it
runs, so there are four modules: this one, `finding`, `searching` and `writing`.
"""

from __future__ import annotations

import os
from itertools import islice
from typing import Annotated

import msgspec

from sandbox_agent_sandbox.images import MAX_IMAGE_BYTES, media_type_of
from sandbox_agent_sandbox.inside.tools.page import Page, listing
from sandbox_agent_sandbox.inside.tools.textfile import (
    check_text,
    explain_os_errors,
    is_binary,
    leads_to_folder,
    open_regular,
    shown,
)
from sandbox_agent_sandbox.inside.worker.call_facts import expand_home
from sandbox_agent_sandbox.inside.worker.tool_result import Image, ToolError, ToolResult

MAX_NAMES = 1000
"""Names that list_files returns."""
_MAX_COUNTED = 200_000
"""Names of a folder that list_files looks at."""

Positive = Annotated[int, msgspec.Meta(ge=1)]


def read_file(
    path: str,
    offset: Positive | None = None,
    limit: Positive | None = None,
    column: Positive | None = None,
) -> str | ToolResult:
    """Read a text file, or some lines of it. Of a long file you get whole lines, and the offset to
    go on at. An image (PNG, JPEG, GIF, WebP) is shown to you, if you can see.

    Args:
        path: The file. `~` is the home folder inside the sandbox.
        offset: Number of the first line to read; 1 is the file's first.
        limit: How many lines to read at most.
        column: Number of the first byte to read of that first line, for a line that is too long
            for one result; 1 is the line's first.
    """
    path = expand_home(path)
    fd = open_regular(path)
    with open(fd, "rb") as file, explain_os_errors("read", path):
        image = _image(fd)
        if image is not None:
            return ToolResult(f"[{image.media_type}, {len(image.data)} bytes]", images=(image,))
        check_text(path, fd)
        page = Page(path, file, offset or 1, column or 1)
        return page.text(limit)


def _image(fd: int) -> Image | None:
    """The file as an image for the model; None when it is not one. Raises ToolError for an image
    that is too large to be shown."""
    media_type = media_type_of(os.pread(fd, 16, 0))
    if media_type is None or not is_binary(fd):
        return None
    size = os.fstat(fd).st_size
    if size > MAX_IMAGE_BYTES:
        raise ToolError(
            f"this {media_type} has {size} bytes; images of at most {MAX_IMAGE_BYTES} are shown"
        )
    return Image(media_type, os.pread(fd, MAX_IMAGE_BYTES, 0))


def list_files(path: str = ".") -> str:
    """List a folder: one name a line, folders end in `/`. At most 1000 names are shown.

    Args:
        path: The folder. `~` is the home folder inside the sandbox.
    """
    path = expand_home(path)
    with explain_os_errors("list", path), os.scandir(path) as entries:
        found = sorted(
            shown(entry.name) + ("/" if leads_to_folder(entry) else "")
            for entry in islice(entries, _MAX_COUNTED)
        )
        more = "more than " if next(entries, None) else ""
    notices = []
    if len(found) > MAX_NAMES:
        notices.append(
            f"[{more}{len(found)} names, of which {MAX_NAMES} are shown; find_files finds by name]"
        )
    return listing(found[:MAX_NAMES], notices, "empty folder")
