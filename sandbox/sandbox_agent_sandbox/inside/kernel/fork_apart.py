"""Forking so that nobody can be left behind stopped."""

from __future__ import annotations

import os
from contextlib import suppress


def fork_apart() -> int:
    """fork(2), with the child in a process group of its own. Returns as os.fork().

    Between its birth and its first prctl(2) nothing ties a child to its parent. If it is stopped
    just there, and the parent dies, it would stay for ever. But the kernel sends SIGHUP and SIGCONT
    to a stopped process group that becomes an orphan: when its parent is of another group of the
    same session (the caller has called setsid(2)), and whoever adopts it is not. So it goes on,
    reads an end of file where it waits for its parent, and exits. setpgid(2), _exit(2).
    """
    child = os.fork()
    with suppress(OSError):  # it has ended meanwhile
        os.setpgid(child, child)  # on both sides, since either may come first; 0 is the caller
    return child
