"""What `scripts/test --coverage` rests on: a line is marked in whatever process executes it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import line_marks

PROGRAM = """
import os, signal, sys, threading

def ran_by_a_child():
    return 1

def ran_by_a_thread():
    return 2

def ran_by_nobody():
    return 3

child = os.fork()
if child == 0:
    ran_by_a_child()
    os.kill(os.getpid(), signal.SIGKILL)
os.waitpid(child, 0)
thread = threading.Thread(target=ran_by_a_thread)
thread.start()
thread.join()
os._exit(0)
"""


def test_lines_of_children_and_threads_are_marked_and_sigkill_loses_none(tmp_path: Path) -> None:
    program, marks = tmp_path / "program.py", tmp_path / "marks"
    program.write_text(PROGRAM)
    count = len(PROGRAM.splitlines()) + 1
    marks.write_bytes(bytes(count))
    start = (
        f"import sys; sys.path.append({str(Path(line_marks.__file__).parent)!r}); "
        f"import line_marks; line_marks.start({str(marks)!r}, {{{str(program)!r}: 0}}); "
        f"exec(compile(open({str(program)!r}).read(), {str(program)!r}, 'exec'))"
    )
    subprocess.run([sys.executable, "-I", "-S", "-c", start], check=True, timeout=60)
    lines = PROGRAM.splitlines()
    executed = {lines[number - 1].strip() for number, mark in enumerate(marks.read_bytes()) if mark}
    assert {"return 1", "return 2", "os._exit(0)"} <= executed
    assert "return 3" not in executed


def test_a_process_that_cannot_write_marks_runs_on(tmp_path: Path) -> None:
    before = sys.gettrace()
    line_marks.start(str(tmp_path / "missing"), {})
    assert sys.gettrace() is before
