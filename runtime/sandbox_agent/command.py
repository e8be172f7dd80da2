"""The command `sandbox-agent`, from its first moment to its last.

Nothing but the standard library's smallest modules is imported before a sandbox's first process is
started: from then on this process and that one import what they need at the same time.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
from _signal import (  # type: ignore[import-not-found] # `signal` imports enum
    SIG_BLOCK,
    SIGINT,
    SIGTERM,
    pthread_sigmask,
)
from contextlib import suppress


def command() -> None:
    """Runs `sandbox_agent.cli.main`, and exits at once.

    Everything is written when `main` returns. To take the interpreter apart, module by module,
    would cost another 30 to 60 ms; of that, only what `atexit` was given is done.
    """
    # What is imported stays, so looking for garbage meanwhile costs some ms and finds none.
    gc.disable()
    _use_utf_8()
    # Until there is somebody who takes them, they wait: there is no traceback of half an import.
    pthread_sigmask(SIG_BLOCK, {SIGINT, SIGTERM})
    has_sandbox = sys.argv[1:2] in (["exec"], ["run"], ["resume"])
    if has_sandbox:
        # Here, since no other verb needs it.
        from sandbox_agent_sandbox.host.spawner.early import end_early, start_early

        start_early(forked=sys.argv[1] == "exec")
    try:
        # Imported here: what it imports takes longer than all else.
        from sandbox_agent.cli import main

        code = main()
    finally:
        if has_sandbox:
            end_early()
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):  # None, broken or closed
            stream.flush()
    atexit._run_exitfuncs()
    os._exit(code)


def _use_utf_8() -> None:
    """Starts this process anew in Python's UTF-8 mode (PEP 540) if the locale has another encoding.

    The journal is UTF-8. Paths that were decoded in another way could not be written there, or
    would name other files when the run is resumed. The process keeps its id.
    """
    if sys.getfilesystemencoding() == "utf-8" or not sys.executable:
        return
    with suppress(OSError):
        os.execv(sys.executable, [sys.orig_argv[0], "-X", "utf8", *sys.orig_argv[1:]])
