"""The walks of `runtime/README.md` name functions that exist and lead from one to the next."""

from __future__ import annotations

from pathlib import Path

import pytest
from paths import CHECKOUT
from sources import OURS, Module, Sources
from walks import TOPICS, complaints


def test_every_walk_leads_through_functions_that_exist() -> None:
    readme = CHECKOUT / "runtime" / "README.md"
    wrong = complaints(OURS, readme.read_text())
    assert not wrong, "\n".join(wrong)


CODE = '''
class Run:
    """Names nothing: fifth."""

    def __init__(self):
        """Nor does this: fifth."""
        self.second(Message())

    def second(self, message):
        if message:
            def third():
                return fourth
        Thread(target=self.third)

def fourth(value: Message) -> None:
    if isinstance(value, Message):
        Run()

def fifth(value):
    decode("Message")
'''
SMALL = Sources({"small": Module("small", Path("runtime/sandbox_agent/run/small.py"), CODE)})
STEPS = (
    "1. `run/small.py:Run.__init__` — begins",
    "2. `small.py:Run.second` — sends",
    "3. `run/small.py:Run.second.third` — is the thread's target",
    "4. `run/small.py:fourth` — receives",
    "5. `run/small.py:fifth` — decodes,\n   via `Message`",
)


def readme(*steps: str, titles: tuple[str, ...] = TOPICS) -> str:
    walks = [f"### One {title}\n\n" + "\n".join(steps) + "\n" for title in titles]
    return (
        "# Manual\n\n1. no step\n\n## Walks\n\nHow.\n\n" + "\n".join(walks) + "\n## More\n\n- x\n"
    )


def test_walks_that_are_right_get_no_complaint() -> None:
    assert complaints(SMALL, readme(*STEPS)) == []


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("Run.second`", "Run.seventh`", "has no function Run.seventh"),
        ("small.py:fourth", "large.py:fourth", "large.py is the end of 0 paths"),
        ("Run.second.third", "third", "has no function third"),
        ("via `Message`", "", "no earlier step names run/small.py:fifth"),
        ("via `Message`", "via `value`", ""),
        ("via `Message`", "via `Thread`", "no earlier step names Thread in both"),
        ("4. `run", "4. run", "not a step of a walk"),
        ("4. `run", "5. `run", "not the number of this step"),
        ("### One resume", "### Two of them", "0 walks of one resume"),
        ("## Walks", "## Ways", "0 walks of one tool call"),
        ("5. `run/small.py:fifth` — decodes,\n   via `Message`", "", "4 steps"),
    ],
)
def test_walks_that_are_wrong_get_one(old: str, new: str, complaint: str) -> None:
    text = readme(*STEPS).replace(old, new)
    found = complaints(SMALL, text)
    assert any(complaint in one for one in found) if complaint else not found, found
