"""The command line. Thin: each verb is a module that is imported when it is asked for.

`main` never lets an exception out: an error of ours is a message and its exit code, a bug of ours
a short message and 70. Until a run is going a signal ends the command at once; from then on it
is the run's to handle (see `signals`).
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sandbox_agent.cli.signals import Signals, Stopped
from sandbox_agent.exit_codes import ExitCode, by_signal

if TYPE_CHECKING:
    from sandbox_agent.cli.console import Console


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code. `argv`: without the program's name.

    A signal waits for the end of imports: the exception of its handler would be another one where
    a class body meets it (`__set_name__`), and none where msgspec's C part imports datetime, which
    then crashes at its first use.
    """
    signals, console = Signals(), None
    try:
        # First of all, so that nothing later meets KeyboardInterrupt in the middle of an import.
        signals.install()
        with signals.later:
            from sandbox_agent.cli.console import Console, fill_standard_descriptors

            fill_standard_descriptors()
            console = Console(signals.later)
            warnings.showwarning = console.warn
        try:
            code = _run(sys.argv[1:] if argv is None else list(argv), console, signals)
        finally:
            signals.end()
    except Stopped as stopped:
        signals.end()
        code = by_signal(stopped.signum)
    finally:
        if console is not None:
            console.close()
    _leave_no_thread_waiting(code)
    return code


def _run(argv: list[str], console: Console, signals: Signals) -> int:
    # Looking for pydantic's plugins reads the metadata of every installed package: 30 ms.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    failed, own_bug = None, int(ExitCode.INTERNAL)
    try:
        with signals.later:
            from sandbox_agent.cli.parser import UsageError, parse

            try:
                arguments = parse(argv)
            except UsageError as error:
                console.out(error.text) if error.code == 0 else console.err(error.text)
                return error.code
            failed, own_bug = arguments.failed_code, arguments.bug_code
            verb = arguments.verb()
        return verb(arguments.values, console, signals)
    except Exception as error:
        with signals.later:
            signals.check()
            return _report(error, console, failed, own_bug)


def _report(error: Exception, console: Console, failed: int | None, own_bug: int) -> int:
    from sandbox_agent_ipc.errors import SandboxAgentError

    from sandbox_agent.errors import exit_code_of

    if isinstance(error, SandboxAgentError):
        console.error(str(error))
        return exit_code_of(error) if failed is None else failed
    if isinstance(error, FileNotFoundError) and _is_nowhere():
        console.error(
            "the folder that this was started in is not there any more\n  hint: cd to another"
        )
        return ExitCode.USAGE if failed is None else failed
    from sandbox_agent.cli.bug import report

    report(error, console, getattr(error, "run_dir", None))
    return own_bug


def _is_nowhere() -> bool:
    """Whether there is no current folder, so that no relative path leads anywhere: getcwd(3)."""
    try:
        os.getcwd()
    except FileNotFoundError:
        return True
    return False


def _leave_no_thread_waiting(code: int) -> None:
    """The interpreter joins every thread that is no daemon; one that hangs must not hold us."""
    import threading

    for thread in threading.enumerate():
        if thread is not threading.main_thread() and not thread.daemon:
            thread.join(1.0)
            if thread.is_alive():
                os._exit(code)
