"""The descriptors between the host and one worker, made in one place."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass

from sandbox_agent_ipc.channel import call_socketpair

from sandbox_agent_sandbox.host.descriptors import Descriptor, pipe


@dataclass(frozen=True)
class Channels:
    """The host's ends, and in `worker` the ends that go to init, in the order of NewCall.

    outputs: read ends by name; "stderr" only where it is kept apart.
    """

    inbox: socket.socket
    outbox: Descriptor
    wake: Descriptor
    status: Descriptor
    outputs: tuple[tuple[str, Descriptor], ...]
    worker: list[Descriptor]


def make_channels(*, separate_output: bool = False) -> Channels:
    """Raises OSError."""
    inbox_host, inbox_worker = call_socketpair()
    outbox_read, outbox_write = pipe()
    wake_read, wake_write = wake_pipe()
    status_read, status_write = pipe()
    # The host waits on neither. Each end of a pipe is non-blocking for itself alone.
    os.set_blocking(status_read.number, False)
    stdout_read, stdout_write = pipe()
    stderr_write = stdout_write
    outputs = [("stdout", stdout_read)]
    if separate_output:
        stderr_read, stderr_write = pipe()
        outputs.append(("stderr", stderr_read))
    worker = [
        Descriptor(inbox_worker.detach()),
        outbox_write,
        wake_read,
        status_write,
        stdout_write,
        stderr_write,
    ]
    return Channels(inbox_host, outbox_read, wake_write, status_read, tuple(outputs), worker)


def wake_pipe() -> tuple[Descriptor, Descriptor]:
    """A wake pipe, (read end, write end); writing never blocks."""
    read, write = pipe()
    os.set_blocking(write.number, False)
    return read, write
