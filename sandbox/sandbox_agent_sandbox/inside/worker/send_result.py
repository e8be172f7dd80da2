"""Sends the result of a call. A long one goes in parts."""

from __future__ import annotations

import fcntl
from contextlib import suppress

import msgspec
from sandbox_agent_ipc.channel import Outbox
from sandbox_agent_ipc.messages import Part, Result

PIECE = 64 * 1024
"""Characters, of at most 4 bytes each. A frame has room for that and for images. Memory for pieces
of twice the size would come from the kernel each time, page by page. See mallopt(3)."""

_PIPE = 1 << 20
"""Bytes. What any user may enlarge a pipe to, with the defaults of Linux. pipe(7)"""


def send_result(outbox: Outbox, result: Result) -> None:
    """Send it, its text in several messages if one has no room for it. Raises as `Outbox.send`."""
    text = result.content
    if len(text) <= PIECE:
        outbox.send(result)
        return
    with suppress(OSError):  # the user has no room for such pipes: it takes longer
        fcntl.fcntl(outbox.fd, fcntl.F_SETPIPE_SZ, _PIPE)
    for start in range(0, len(text), PIECE):
        outbox.send(Part(text[start : start + PIECE].encode()))
    outbox.send(msgspec.structs.replace(result, content=""))
