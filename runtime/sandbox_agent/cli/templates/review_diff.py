"""The template `review-diff`: a change of a small program, and a task that reviews it."""

from __future__ import annotations

from sandbox_agent.cli.templates.fix_tests import MODEL

_CODE = '''"""Prices in cents."""


def total(prices: list[int], discount: int = 0) -> int:
    """The sum of `prices`, less `discount` percent."""
    return sum(prices) - sum(prices) * discount // 100


def mean(prices: list[int]) -> int:
    """The mean of `prices`, rounded down."""
    return sum(prices) // len(prices)
'''

_DIFF = '''\
diff --git a/prices.py b/prices.py
--- a/prices.py
+++ b/prices.py
@@ -4,3 +4,8 @@
 def total(prices: list[int], discount: int = 0) -> int:
     """The sum of `prices`, less `discount` percent."""
     return sum(prices) - sum(prices) * discount // 100
+
+
+def mean(prices: list[int]) -> int:
+    """The mean of `prices`, rounded down."""
+    return sum(prices) // len(prices)
'''

_README = """# A review

`task.yaml` lets an agent review `change.diff` and write `review.md`. The agent can read the
code and cannot change it.

    sandbox-agent run task.yaml

To review a branch of your own, put `task.yaml` into your repository and make the diff first:

    git diff main... > change.diff
    sandbox-agent run task.yaml --model openai/gpt-4o
"""

_TASK = f"""\
# Run it:   sandbox-agent run task.yaml
# Your own: git diff main... > change.diff
version: 1
name: review
prompt: |
  Review the change in change.diff. Look at the code around it.
  Write review.md: one line for each finding, `- FILE:LINE what is wrong`, the worst one first.

{MODEL}
workspace: {{path: ., mode: direct}}
tools: [shell, files]

# A review changes nothing: all that is here now can be read, and only review.md is new.
sandbox:
  protect: [prices.py, change.diff, README.md, task.yaml, steps.yaml]
  network: none

interrupt: {{grace: 2s, term: 1s}}
budgets: {{turns: 20, time: 10m}}

# The review has findings, each with file and line.
verify:
  - "grep -E '^- [^ :]+:[0-9]+ .' review.md"
"""

_STEPS = """\
# The turns of the scripted model, in order. The calls of one turn run in parallel.
- say: "Let me read the change."
  calls:
    - read_file: {path: change.diff}
    - read_file: {path: prices.py}
  expect: ["def mean"]

- say: "What does mean() do with an empty list?"
  calls:
    - shell: {command: "grep -n 'len(prices)' prices.py"}
  expect: ["11:"]

- calls:
    - write_file:
        path: review.md
        content: "- prices.py:11 mean([]) raises ZeroDivisionError; total([]) is 0\\n"

- final: "One finding: prices.py:11, mean([]) raises ZeroDivisionError."
"""


def files() -> dict[str, str]:
    """Text by path, relative to the project."""
    return {
        "prices.py": _CODE,
        "change.diff": _DIFF,
        "README.md": _README,
        "task.yaml": _TASK,
        "steps.yaml": _STEPS,
    }
