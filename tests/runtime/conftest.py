"""For the tests of conversations."""

from __future__ import annotations

import pytest
from talking import Watch


@pytest.fixture
def watch() -> Watch:
    return Watch()
