"""Descriptors with an owner, and the channels between the host and one worker."""

from __future__ import annotations

import os
import socket
from contextlib import suppress

import msgspec
from sandbox_agent_ipc.after_fork import call_after_fork
from sandbox_agent_ipc.channel import call_socketpair


class Descriptor:
    """A descriptor that is closed when its last reference is gone, and not before.

    Other threads and signal handlers write to wake pipes at any moment. If the descriptor were
    closed meanwhile, its number could mean another file by the time of the write. So the writer
    holds a reference to this object, and CPython closes the descriptor with the last reference.

    In a forked child it is closed at once. The child's writes would wake workers or give commands
    in the name of this process, and a socket that the child holds open has no end of file.
    """

    __slots__ = ("__weakref__", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        call_after_fork(self)

    def detach(self) -> int:
        """Return the number. This object will not close the descriptor any more."""
        number, self.number = self.number, -1
        return number

    def close(self) -> None:
        """Close it now, also where others refer to this object. Idempotent."""
        # The number is forgotten first, for a fork while another thread is in close(2).
        number = self.detach()
        if number >= 0:
            with suppress(OSError):
                os.close(number)

    after_fork_in_child = close

    def __del__(self) -> None:
        self.close()


def pipe() -> tuple[Descriptor, Descriptor]:
    """A pipe, (read end, write end), both close-on-exec. pipe2(2)."""
    read, write = os.pipe2(os.O_CLOEXEC)
    return Descriptor(read), Descriptor(write)


class Channels(msgspec.Struct, frozen=True):
    """The host's ends, and in `worker` the ends that init gets, in the order of NewCall.

    outputs: read ends with their names; "stderr" only where it is kept apart.
    """

    inbox: socket.socket
    outbox: Descriptor
    wake: Descriptor
    status: Descriptor
    outputs: tuple[tuple[str, Descriptor], ...]
    worker: list[Descriptor]

    def host_ends(self) -> list[Descriptor]:
        """The host's ends but for the inbox."""
        return [self.outbox, self.wake, self.status, *(read for _, read in self.outputs)]


def make_channels(
    *, separate_output: bool = False, owner: tuple[int, int] | None = None, ahead: bool = False
) -> Channels:
    """All channels of a new worker. separate_output: keep standard error apart. owner: the uid and
    gid, outside, of the tools that write to the outputs. ahead: have what the host reads ready for
    its readers (O_NONBLOCK). Raises OSError."""
    inbox_host, inbox_worker = call_socketpair()
    outbox_read, outbox_write = pipe()
    wake_read, wake_write = wake_pipe()
    status_read, status_write = pipe()
    # The host never blocks on it. O_NONBLOCK holds for this end of the pipe alone.
    os.set_blocking(status_read.number, False)
    stdout_read, stdout_write = pipe()
    stderr_write = stdout_write
    outputs = [("stdout", stdout_read)]
    if separate_output:
        stderr_read, stderr_write = pipe()
        outputs.append(("stderr", stderr_read))
    if ahead:
        for read in (outbox_read, stdout_read):
            os.set_blocking(read.number, False)
    if owner is not None:
        for end in {stdout_write.number, stderr_write.number}:
            give(end, owner)
    worker = [
        Descriptor(inbox_worker.detach()),
        outbox_write,
        wake_read,
        status_write,
        stdout_write,
        stderr_write,
    ]
    return Channels(inbox_host, outbox_read, wake_write, status_read, tuple(outputs), worker)


def give(pipe_end: int, owner: tuple[int, int]) -> None:
    """Give a pipe to the tools' user, who may then open it by /dev/stderr and the like.

    These lead to /proc/self/fd, where the owner and mode of the pipe decide; proc_pid_fd(5). A host
    that may not do it (fchown(2)) leaves it as it is.
    """
    if owner[0] != os.geteuid():
        with suppress(OSError):
            os.fchown(pipe_end, *owner)


def wake_pipe() -> tuple[Descriptor, Descriptor]:
    """A wake pipe, (read end, write end); writing never blocks."""
    read, write = pipe()
    os.set_blocking(write.number, False)
    return read, write
