"""Variables and signals as the starter of the tests has them, where they change what the product
does. Tests do not inherit them. A test that needs one sets it.
"""

from __future__ import annotations

import signal
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


def reset_signals() -> None:
    """Give every signal the disposition and the mask of a command at a terminal. A shell starts
    `command &` with SIGINT and SIGQUIT ignored, nohup(1) ignores SIGHUP, and commands under test
    would inherit that."""
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    for number in signal.valid_signals() - {signal.SIGPIPE, signal.SIGXFSZ}:  # Python ignores these
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
