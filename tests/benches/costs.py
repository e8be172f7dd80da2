"""What a command costs: wall time, and the peak memory of its own process. Tests and bench."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from identity import BIN, Person

AGENT = str(BIN / "sandbox-agent")
PYTHON = str(BIN / "python")

# What the entry point `sandbox-agent` does, and at its end a look at itself. From inside, because
# rusage (wait4(2)) counts reaped children in, and after fork the parent's peak as well.
LOOK_AT_ITSELF = """
import atexit, sys
try:
    from sandbox_agent.command import command
except ImportError:  # of an earlier commit
    from sandbox_agent.cli import main
    command = lambda: sys.exit(main())

report = sys.argv.pop(1)

@atexit.register
def look():
    import json
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    found = {"peak_kib": int(status["VmHWM"].split()[0]), "modules": sorted(sys.modules)}
    with open(report, "w") as file:
        json.dump(found, file)

command()
"""


@dataclass(frozen=True)
class Look:
    """peak: bytes resident at most. modules: all that were imported."""

    peak: int
    modules: frozenset[str]


def one_call_task(folder: Path) -> Path:
    """The smallest task with a tool call: one `true` in a shell."""
    steps = [{"calls": [{"shell": {"command": "true"}}]}, {"final": "Done."}]
    (folder / "steps.yaml").write_text(json.dumps(steps))
    (folder / "workspace").mkdir(exist_ok=True)
    task = {
        "version": 1,
        "prompt": "Say true.",
        "model": "scripted:steps.yaml",
        "workspace": {"path": "workspace"},
        "tools": ["shell"],
        "output": {"dir": str(folder / "runs")},
    }
    path = folder / "task.yaml"
    path.write_text(json.dumps(task))
    return path


def seconds(person: Person, argv: Sequence[str]) -> float:
    """Wall time of a command that must end 0."""
    begin = time.monotonic()
    done = subprocess.run(argv, cwd=person.work, env=person.environment(), capture_output=True)
    taken = time.monotonic() - begin
    assert done.returncode == 0, done.stderr.decode()
    return taken


def look(person: Person, arguments: Sequence[str], code: int = 0) -> Look:
    """Runs `sandbox-agent ARGUMENTS`, which must end with this code, and reports what it was at its
    end."""
    report = person.folder / "look.json"
    argv = [PYTHON, "-c", LOOK_AT_ITSELF, str(report), *arguments]
    done = subprocess.run(argv, cwd=person.work, env=person.environment(), capture_output=True)
    assert done.returncode == code, done.stderr.decode()
    found = json.loads(report.read_text())
    os.unlink(report)
    return Look(found["peak_kib"] * 1024, frozenset(found["modules"]))


def bare_peak(person: Person) -> int:
    """Bytes resident at most in a Python that does nothing."""
    code = "print([line.split()[1] for line in open('/proc/self/status') if 'VmHWM' in line][0])"
    argv = [PYTHON, "-c", code]
    done = subprocess.run(argv, cwd=person.work, env=person.environment(), capture_output=True)
    return int(done.stdout) * 1024
