"""Conversations with a scripted model, as anybody could have them.

Nothing is imported of a product but the names that `sandbox_agent` exports, and its command line.
So `scripts/bench --against` measures both products with the same programs.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parent.parent.parent / "support"))

FINAL = {"final": "Done."}


def conversation(folder: Path, steps: Sequence[dict[str, Any]], **options: Any) -> Any:
    """One that plays these steps in `folder / "work"`. steps: as a script of the model has them."""
    from sandbox_agent import Conversation, load_script

    (folder / "work").mkdir(parents=True, exist_ok=True)
    script = folder / "steps.yaml"
    script.write_text(json.dumps(list(steps)))
    options = {
        "tools": ["shell"],
        "workspace": folder / "work",
        "output_dir": folder / "runs",
        "budgets": {"turns": 1_000_000, "repeats": None},
        **options,
    }
    made = Conversation(model=load_script(str(script)), **options)
    made.send_message("go")
    return made


def shell(command: str) -> dict[str, Any]:
    """A turn with one call."""
    return {"calls": [{"shell": {"command": command}}]}


def memory(field: str) -> float:
    """Bytes of this process: VmRSS, or VmHWM for the most that it ever was. proc_pid_status(5)"""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return float(line.split()[1]) * 1024
    raise AssertionError(field)


def run(found: dict[str, Any]) -> None:
    """Calls the function of argv[1] with the folder of argv[2] and the count of argv[3], and prints
    its figures as JSON. found: globals of the program."""
    _, what, where, number = sys.argv
    figures = found[what](Path(where), int(number))
    print(json.dumps(figures), flush=True)
