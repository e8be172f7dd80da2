"""msgspec, without what it imports for type hints of older Pythons.

msgspec asks typing_extensions for functions that Python 3.11 has itself. Where that package is
installed, its import takes as long as msgspec's own, because it draws `inspect` in. What needs it
later, such as pydantic, imports it then.
"""

from __future__ import annotations

import sys


def import_msgspec() -> None:
    """Import msgspec, unless that is done."""
    if "msgspec" in sys.modules or "typing_extensions" in sys.modules:
        return
    sys.modules["typing_extensions"] = None  # type: ignore[assignment]  # "there is none"
    try:
        import msgspec  # noqa: F401
    finally:
        del sys.modules["typing_extensions"]
