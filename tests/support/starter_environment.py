"""The variables of whoever starts the tests that change what the product does. No test inherits
them: a test that means one sets it.
"""

from __future__ import annotations

from collections.abc import MutableMapping

_NAMES = frozenset(
    {"CI", "COLUMNS", "LINES", "NO_COLOR", "SANDBOX_AGENT_DEBUG", "SANDBOX_AGENT_MODEL"}
)
_BEGINNINGS = ("BUILDKITE", "CI_", "GITHUB_", "GITLAB_", "TEAMCITY_", "TF_BUILD", "TRAVIS")
"""Of the variables that CI systems set for a job."""


def forget(environ: MutableMapping[str, str]) -> None:
    """Removes those variables from `environ`."""
    for name in list(environ):
        if name in _NAMES or name.startswith(_BEGINNINGS):
            del environ[name]
