"""For the tests of conversations."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

if (_here := str(Path(__file__).parent)) not in sys.path:
    sys.path.append(_here)

from talking import Watch


@pytest.fixture
def watch() -> Watch:
    return Watch()
