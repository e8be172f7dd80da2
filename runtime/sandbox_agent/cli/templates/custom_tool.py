"""The template `custom-tool`: a function in the workspace that the model may call."""

from __future__ import annotations

from sandbox_agent.cli.templates.fix_tests import MODEL

_TOOL = '''"""A tool is a function. The model is told its name, its docstring and its parameters.
It runs in a sandboxed process of its own, once for each call."""

from pathlib import Path

from sandbox_agent import CancelToken


def count_words(folder: str, token: CancelToken) -> str:
    """Count the words of each text file in a folder."""
    lines = []
    for path in sorted(Path(folder).glob("*.txt")):
        token.raise_if_cancelled()  # an interrupt ends the call here
        lines.append(f"{path.name}: {len(path.read_text().split())} words")
    return "\\n".join(lines) or "no text files"
'''

_README = """# A tool of your own

`tools.py` has the function `count_words`, and `task.yaml` offers it to the agent.

    sandbox-agent run task.yaml

Change the function, then the turns in `steps.yaml`, or name another model in `task.yaml`.
"""

_TASK = f"""\
# Run it: sandbox-agent run task.yaml
version: 1
name: custom-tool
prompt: "Which text in texts/ is the longest?"

{MODEL}
workspace: {{path: ., mode: direct}}

# MODULE:FUNCTION of a module here or of an installed one. A tool may have a time limit of its own.
tools:
  - files
  - "tools:count_words": {{timeout: 10s}}

sandbox:
  protect: [tools.py, task.yaml, steps.yaml]
  network: none

# After an interrupt (Ctrl-C) the tool sees its cancel token, and has `grace` to stop by itself.
interrupt: {{grace: 2s, term: 1s}}
budgets: {{turns: 10, time: 5m}}
"""

_STEPS = """\
# The turns of the scripted model, in order. `expect`: what the results must match.
- calls:
    - count_words: {folder: texts}
  expect: ["long.txt: 9 words", "short.txt: 3 words"]

- final: "long.txt is the longest: 9 words."
"""


def files() -> dict[str, str]:
    """Text by path, relative to the project."""
    return {
        "tools.py": _TOOL,
        "texts/short.txt": "Three short words.\n",
        "texts/long.txt": "This text is a little longer than the other.\n",
        "README.md": _README,
        ".gitignore": "__pycache__/\n",
        "task.yaml": _TASK,
        "steps.yaml": _STEPS,
    }
