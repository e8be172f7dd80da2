"""The logger of the package. It prints nothing unless the embedding program configures logging."""

from __future__ import annotations

import logging

LOGGER = logging.getLogger("sandbox_agent")
LOGGER.addHandler(logging.NullHandler())  # without one, Python prints warnings to standard error
