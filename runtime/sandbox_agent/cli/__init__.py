"""The command line. Each verb is a module that is imported when it is used.

`main` raises nothing. An error of sandbox-agent becomes a message and its exit code; a bug becomes
a short message and 70. Before a run a signal ends the command at once; during a run it interrupts
the run (see `signals`).
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from sandbox_agent_ipc.shortage import MEMORY, shortage_of

from sandbox_agent.cli.signals import Signals
from sandbox_agent.exit_codes import ExitCode, by_signal
from sandbox_agent.lean_imports import import_argparse, put_off_metadata

if TYPE_CHECKING:
    from sandbox_agent.cli.console import Console
    from sandbox_agent.cli.stream import GiveUp

_LAST_WORDS_SECONDS = 0.5
"""What a signal that ends the command leaves to the readers of what was said before."""


_NEEDED = 8
"""Descriptors of two event loops and of the files of a run, at their beginning."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code. argv: without the program's name."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    signals = Signals()
    try:
        # First, so that no import is interrupted by KeyboardInterrupt.
        signals.install()
        from sandbox_agent.cli.console import Console, fill_standard_descriptors, patience

        console = Console(fill_standard_descriptors())
    except Exception as error:
        return _without_console(arguments, error)
    signals.on_leave = partial(_last_words, console, patience)
    warnings.showwarning = console.warn
    # Ours are said, whatever PYTHONWARNINGS or -W hide.
    warnings.simplefilter("always", UserWarning)
    try:
        code = _run(arguments, console, signals)
    except Exception as error:
        code = _without_console(arguments, error)
    signals.end(code)
    code = _finish(code, console, signals)
    signals.end(code)
    _leave_no_thread_waiting(code)
    if console.memory_is_short:
        # The interpreter ends its other threads by pthread_exit(3), for which glibc loads a
        # library. Where that fails it aborts.
        os._exit(code)
    signals.close()
    return code


def _finish(code: int, console: Console, signals: Signals) -> int:
    """Waits until all output is written, or until a signal comes. Returns the exit code."""
    loss = console.finish(lambda: signals.late is not None)
    if code or loss is None:
        return code
    if loss.is_failure:
        return ExitCode.OUTPUT_LOST
    return by_signal(signal.SIGPIPE if signals.late is None else signals.late)


def _run(argv: list[str], console: Console, signals: Signals) -> int:
    # The search for pydantic's plugins reads the metadata of every installed package: 30 ms.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    put_off_metadata()
    import_argparse()
    failed, own_bug = None, int(ExitCode.INTERNAL)
    try:
        from sandbox_agent.cli.argument_parser import UsageError
        from sandbox_agent.cli.parser import parse

        try:
            arguments = parse(argv)
        except UsageError as error:
            console.out(error.text) if error.code == 0 else console.err(error.text)
            return error.code
        failed, own_bug = arguments.failed_code, arguments.bug_code
        verb = arguments.verb()
        gc.freeze()
        gc.enable()
        _look_for_descriptors()
        return verb(arguments.values, console, signals)
    except Exception as error:
        return _report(error, console, failed, own_bug)


def _last_words(console: Console, patience: Callable[[float], GiveUp], words: str) -> None:
    """Called in the thread of `signals`, before it ends the process. Imports nothing: the import
    that the main thread is in may hang."""
    if words:
        console.error(words)
    console.finish(patience(_LAST_WORDS_SECONDS))


def _without_console(argv: list[str], error: Exception) -> int:
    """Says what the host has run out of, without the threads and imports that usually do."""
    short = shortage_of(error)
    if short is None:
        raise error
    with suppress(OSError):
        os.write(2, f"sandbox-agent: {short.what}\n  hint: {short.hint}\n".encode())
    code = int(ExitCode.EXEC_FAILED if argv[:1] == ["exec"] else ExitCode.SANDBOX)
    if short is MEMORY:
        os._exit(code)  # see `main`
    return code


def _report(error: Exception, console: Console, failed: int | None, own_bug: int) -> int:
    from sandbox_agent_ipc.errors import SandboxAgentError

    if isinstance(error, SandboxAgentError):
        from sandbox_agent.errors import exit_code_of

        console.error(str(error))
        return exit_code_of(error) if failed is None else failed
    short = shortage_of(error)
    if short is not None:
        # Of the host, wherever it struck: a thread, an import, a file.
        console.error(f"{short.what}\n  hint: {short.hint}")
        console.memory_is_short = short is MEMORY
        return ExitCode.SANDBOX if failed is None else failed
    if isinstance(error, FileNotFoundError) and _has_no_current_folder():
        console.error("the current folder does not exist any more\n  hint: cd to another folder")
        return ExitCode.USAGE if failed is None else failed
    from sandbox_agent.cli.bug import report

    report(error, console, getattr(error, "run_dir", None))
    return own_bug


def _look_for_descriptors() -> None:
    """Raises OSError if there are not even the descriptors that an event loop begins with. Here
    that is one message; in the middle of a run it would be many."""
    found: list[int] = []
    try:
        for _ in range(_NEEDED):
            found.append(os.dup(2))
    finally:
        for number in found:
            os.close(number)


def _has_no_current_folder() -> bool:
    """Whether the current folder was removed, so that relative paths fail: getcwd(3)."""
    try:
        os.getcwd()
    except FileNotFoundError:
        return True
    return False


def _leave_no_thread_waiting(code: int) -> None:
    """Exits even if a thread hangs: the interpreter waits for every thread that is not a daemon.

    What a sandbox had on the disk is waited for: removing it may take seconds. A signal ends that.
    """
    import threading

    for thread in threading.enumerate():
        if thread is not threading.main_thread() and not thread.daemon:
            thread.join(None if thread.name == "sandbox-agent removal" else 1.0)
            if thread.is_alive():
                os._exit(code)
