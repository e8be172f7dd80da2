"""Where the tests and their helpers lie. Standard library only."""

from __future__ import annotations

from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
CHECKOUT = TESTS.parent

IMPORT_PATHS = [
    str(TESTS / folder)
    for folder in (
        ".",
        "support",
        "promises",
        "promises/kills",
        "promises/stops",
        "benches",
        "peers",
    )
]
"""The folders that tests import their helpers from by name."""
