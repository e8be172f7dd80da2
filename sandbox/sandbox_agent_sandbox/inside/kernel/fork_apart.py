"""A fork whose child, if it is stopped, goes on when its parent dies."""

from __future__ import annotations

import os
from contextlib import suppress


def fork_apart() -> int:
    """fork(2), with the child in a process group of its own. Returns as os.fork().

    Between the fork and the child's first prctl(2) nothing ties the child to its parent. A child
    that is stopped there, and whose parent dies, would stay for ever. But the kernel sends SIGHUP
    and SIGCONT to a stopped process group that becomes an orphan: its parent was of another group
    of the same session (the caller has called setsid(2)), and the process that adopts it is not.
    So the child goes on, reads an end of file where it waits for its parent, and exits.
    setpgid(2), _exit(2).

    That is not so for a SIGSTOP that takes effect only after the parent's end. So a child sets its
    parent-death signal before anything else.
    """
    child = os.fork()
    with suppress(OSError):  # the child has ended meanwhile
        os.setpgid(child, child)  # on both sides, since either may come first; 0 is the caller
    return child
