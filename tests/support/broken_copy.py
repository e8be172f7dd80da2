"""Copies of the product's sources with small changes, for tests that must notice them."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from paths import CHECKOUT

ROOTS = ("runtime", "sandbox", "ipc")

Change = tuple[str, str, str]
"""(file, what stands there once, what comes instead)."""


class DoesNotFit(Exception):
    """A change is about text that the source does not have, or has more than once."""


def changed(what: str, changes: Iterable[Change]) -> dict[str, str]:
    """The text of each changed file. Raises DoesNotFit; what: the changes' name, for that."""
    texts: dict[str, str] = {}
    for name, old, new in changes:
        if name not in texts:
            path = CHECKOUT / name
            if not path.is_file():
                raise DoesNotFit(f"{what}: there is no file {name}")
            texts[name] = path.read_text()
        count = texts[name].count(old)
        if count != 1 or old == new:
            raise DoesNotFit(f"{what} does not fit {name} ({count} times): {old!r}")
        texts[name] = texts[name].replace(old, new)
    for name, text in texts.items():
        compile(text, name, "exec")  # a copy that cannot be imported proves nothing
    return texts


def make(folder: Path, what: str, changes: Iterable[Change]) -> dict[str, str]:
    """Make the changed copy in `folder`. Returns the environment in which it is imported."""
    texts = changed(what, changes)
    for root in ROOTS:
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(CHECKOUT / root, folder / root, ignore=ignore)
    for name, text in texts.items():
        (folder / name).write_text(text)
    return {"PYTHONPATH": ":".join(str(folder / root) for root in ROOTS)}
