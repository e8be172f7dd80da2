"""Every exit code of the command line, each with the sentence that `--help` prints."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum


class ExitCode(IntEnum):
    """What `sandbox-agent` exits with. sentence: what the code means.

    A signal that ends a run gives 128 + its number: see `by_signal`. `exec` exits with the code of
    its command, and keeps 124 to 127 for itself, as docker-run(1), timeout(1) and sh(1) do.
    """

    sentence: str

    def __new__(cls, code: int, sentence: str) -> ExitCode:
        self = int.__new__(cls, code)
        self._value_ = code
        self.sentence = sentence
        return self

    DONE = 0, "the agent is done, and every verify command passed"
    FAILED = 1, "the agent failed, or a verify command failed"
    USAGE = 2, "the command line, the task file or the policy is wrong"
    BUDGET = 3, "a budget is spent"
    MODEL = 4, "the model or its provider failed"
    SANDBOX = (
        5,
        "the sandbox cannot be enforced, cannot start or breaks, or the run cannot be recorded",
    )
    DENIED = 6, "an approval was refused"
    SURVIVORS = 7, "a process could not be stopped; this code takes precedence over all others"
    INTERNAL = 70, "a bug in sandbox-agent"  # EX_SOFTWARE of sysexits.h
    OUTPUT_LOST = 74, "output could not be written"  # EX_IOERR
    COMMAND_TIMEOUT = 124, "the time limit of the command was reached"
    EXEC_FAILED = 125, "sandbox-agent could not run the command, or not pass its data on"
    NOT_EXECUTABLE = 126, "the command cannot be executed"
    NOT_FOUND = 127, "the command was not found"
    HUNG_UP = 129, "HUP, or the death of the parent process, interrupted the run"
    INTERRUPTED = 130, "INT (Ctrl-C) or `sandbox-agent cancel` interrupted the run"
    TERMINATED = 143, "TERM interrupted the run"


EXEC_CODES = (
    ExitCode.SURVIVORS,
    ExitCode.COMMAND_TIMEOUT,
    ExitCode.EXEC_FAILED,
    ExitCode.NOT_EXECUTABLE,
    ExitCode.NOT_FOUND,
)
"""What `exec` exits with beside the codes of its command."""

RUN_CODES = tuple(code for code in ExitCode if not 124 <= code <= 127)
"""What `run` and `resume` exit with."""

PRINT_CODES = (ExitCode.DONE, ExitCode.USAGE, ExitCode.INTERNAL, ExitCode.OUTPUT_LOST)
"""What a verb exits with that starts no run."""


def by_signal(signum: int) -> int:
    """The exit code of a process that signal `signum` ended, as a shell gives it: sh(1)."""
    return 128 + signum


def listing(codes: Iterable[ExitCode], done: str = ExitCode.DONE.sentence) -> str:
    """The codes with their sentences, one a line, for `--help`. done: the sentence of 0."""
    sentences = {code: code.sentence for code in codes}
    if ExitCode.DONE in sentences:
        sentences[ExitCode.DONE] = done
    return "\n".join(["exit codes:", *(f"  {code:<5d} {text}" for code, text in sentences.items())])
