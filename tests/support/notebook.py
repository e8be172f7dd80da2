"""The notebook cell and the web server of runtime/README.md, and the steps that their agents take.
Imported by name."""

from __future__ import annotations

from pathlib import Path

import markdown
import observer
from paths import CHECKOUT

SECTION = "In a notebook and in a web server"
CELL, SERVER = (
    block.text
    for block in markdown.blocks(CHECKOUT / "runtime" / "README.md")
    if block.section == SECTION and block.language == "python"
)
STEPS = "slow.steps.yaml"
"""What the cell names."""


def write_steps(folder: Path) -> str:
    """An agent whose tool does not end, and leaves its session. Returns a mark of its processes."""
    mark = observer.new_mark()
    command = f"setsid sleep 300.{mark} & trap '' INT TERM; sleep 300.{mark}"
    (folder / STEPS).write_text(f'- calls:\n    - shell: {{command: "{command}"}}\n- final: "no"\n')
    return mark


def write_quick_steps(folder: Path) -> None:
    (folder / STEPS).write_text('- calls:\n    - shell: {command: "true"}\n- final: "yes"\n')
