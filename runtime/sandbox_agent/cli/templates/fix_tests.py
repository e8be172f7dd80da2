"""The files of the demo: a small package with a bug, its tests, and a task that fixes it."""

from __future__ import annotations

import json

_CODE = '''"""Counts the words of a text."""

from collections import Counter


def words(text: str) -> list[str]:
    """The words of `text`, without the punctuation around them."""
    stripped = (word.strip(".,;:!?\\"'()") for word in text.split())
    return [word for word in stripped if word]


def top(text: str, count: int) -> list[tuple[str, int]]:
    """The `count` most frequent words of `text`, ignoring case."""
    return Counter(words(text)).most_common(count)
'''

_OLD = "return Counter(words(text)).most_common(count)"
_NEW = "return Counter(word.casefold() for word in words(text)).most_common(count)"

_TESTS = """import unittest

from wordcount import top, words


class CountTest(unittest.TestCase):
    def test_words_are_stripped_of_punctuation(self) -> None:
        self.assertEqual(words("Stop, look: listen!"), ["Stop", "look", "listen"])

    def test_punctuation_alone_is_not_a_word(self) -> None:
        self.assertEqual(words("one ... two !"), ["one", "two"])

    def test_top_ignores_case(self) -> None:
        text = "The cat saw the other cat. THE END"
        self.assertEqual(top(text, 2), [("the", 3), ("cat", 2)])

    def test_top_of_nothing_is_nothing(self) -> None:
        self.assertEqual(top("", 3), [])
"""

_README = """# wordcount
A demo project of sandbox-agent: a test in `tests/` fails, and `task.yaml` fixes the code.

    sandbox-agent run task.yaml
"""

MODEL = """\
# The model: a list of turns in a file. It needs no key and no network. Another one, for example:
#   model: openai/gpt-4o      (with OPENAI_API_KEY set)
model: scripted:steps.yaml
"""
"""The lines of a task that name the model."""


def files(python: str) -> dict[str, str]:
    """Text by path, relative to the project. python: the interpreter, as a shell names it."""
    tests = f"{python} -m unittest -q"
    command = json.dumps(tests, ensure_ascii=False)
    in_task = json.dumps(tests.replace("${", "$${"), ensure_ascii=False)
    return {
        "wordcount/__init__.py": 'from wordcount.count import top, words\n\n__all__ = ["top", '
        '"words"]\n',
        "wordcount/count.py": _CODE,
        "tests/__init__.py": "",
        "tests/test_count.py": _TESTS,
        "README.md": _README,
        ".gitignore": "__pycache__/\n",
        "task.yaml": f"""\
# Run it:            sandbox-agent run task.yaml
# Check it:          sandbox-agent validate task.yaml
# All of its fields: sandbox-agent schema
version: 1
name: demo
prompt: "The tests fail. Find out why, and fix the code, not the tests."

{MODEL}
# The agent works in this folder, and what its tools write is written there at once.
workspace: {{path: ., mode: direct}}

# What the model may call: shell commands, and tools for files such as read_file and edit_file.
tools: [shell, files]

# The tools see the system, this folder, and nothing else; they have no network.
sandbox:
  protect: [tests/, task.yaml, steps.yaml]   # readable, not writable: the tests decide
  network: none
  limits: {{timeout: 60s, memory: 1GiB, processes: 256}}

# After an interrupt (Ctrl-C) a tool has `grace` to stop by itself, then SIGTERM and `term`.
interrupt: {{grace: 2s, term: 1s}}
budgets: {{turns: 20, time: 5m}}

# Runs in the sandbox when the agent says that it is done, and decides whether it is.
verify:
  - {in_task}
""",
        "steps.yaml": f"""\
# The turns of the scripted model, in order. The calls of one turn run in parallel.
- say: "Let me look at the project and run its tests."
  calls:
    - list_files: {{path: .}}
    - shell: {{command: {command}}}
  expect: ["failures=1"]      # regular expressions that the results must match

- say: "top() does not ignore case. Let me see the code and the test."
  calls:
    - read_file: {{path: wordcount/count.py}}
    - search_files: {{pattern: "test_top_ignores_case", path: tests}}
  expect: ["def top"]

- calls:
    - edit_file:
        path: wordcount/count.py
        old: {json.dumps(_OLD)}
        new: {json.dumps(_NEW)}

- calls:
    - shell: {{command: {command}}}
  expect: ["Ran 4 tests", "OK"]

- final: "top() now ignores case; all 4 tests pass."
""",
    }
