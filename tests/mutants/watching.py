"""What a person sees of a run: the live view, and the lines without it."""

from __future__ import annotations

from mutants.mutant import RUNTIME, mutant

_FRAME = f"{RUNTIME}/reports/terminal/frame.py"
_FRAME_TEST = "runtime/reports/terminal/test_frame.py"
_SCREEN = f"{RUNTIME}/cli/terminal/screen.py"
_SCREEN_TEST = "cli/terminal/test_screen.py"

MUTANTS = (
    mutant(
        "a second interrupt leaves the grace period on the screen",
        _FRAME_TEST,
        _FRAME,
        "        over = min(over, run.hurried)\n",
        "        pass\n",
    ),
    mutant(
        "a frame is drawn though the terminal has not taken the one before",
        _SCREEN_TEST,
        _SCREEN,
        "not (at_once or self._stream.is_idle)",
        "False",
    ),
    mutant(
        "a signal after a cancel from outside counts as the first interrupt",
        _SCREEN_TEST,
        _SCREEN,
        "            self._needed = 1 if by_cancel else 2\n",
        "            self._needed = 2\n",
    ),
    mutant(
        "of a call that ran out of time no output is shown",
        "runtime/reports/test_lines.py",
        f"{RUNTIME}/reports/lines.py",
        "frozenset({Outcome.ERROR, Outcome.TIMEOUT, Outcome.CRASHED})",
        "frozenset({Outcome.ERROR, Outcome.CRASHED})",
    ),
)
