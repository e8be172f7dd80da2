"""Commands in the log of a CI job. GitHub Actions, Azure Pipelines, GitLab, TeamCity, Travis and
Buildkite read the log of a job and act on some of its lines.

So a text of a model or a tool could hide lines, mask words, set variables, or stop our own commands
from being read. `disarm` changes such a text so that it has no effect and can still be read.
"""

from __future__ import annotations

import re
from functools import cache

from sandbox_agent.reports.escape import escape_text

_HINTS = r"::|##|section_|travis_|--- |\+\+\+ |~~~ |\^\^\^ "
"""Nearly every text has none of these, and this search is quick."""
_COMMANDS = (
    # GitHub Actions: `::name …::` at the beginning of a line, behind white space of any kind. A
    # carriage return ends a line there.
    r"(?:^|(?<=\r))[^\S\r\n]*:(?=:)"
    # GitHub and Azure: `##[name …]` and `##vso[name …]` anywhere. TeamCity: `##teamcity[`.
    r"|#(?=#(?:\[|vso\[|teamcity\[))"
    # GitLab and Travis: `section_start:…`, `travis_fold:…`.
    r"|(?:section_(?:start|end)|travis_(?:fold|time)):"
    # Buildkite: a line that begins with `--- `, `+++ `, `~~~ ` or `^^^ +++`.
    r"|(?:^|(?<=\r))(?:-(?=-- )|\+(?=\+\+ )|~(?=~~ )|\^(?=\^\^ ))"
)
_IN_JSON = rb"#(?=#(?:\[|vso\[|teamcity\[))"


@cache
def _pattern(source: str) -> re.Pattern[str]:
    """Compiled at the first use: `--help` has none."""
    return re.compile(source, re.MULTILINE | re.IGNORECASE)


def disarm(text: str) -> str:
    """`text` without commands to a CI system: one character of each is written as its code, such as
    `\\x3a` for a colon."""
    if _pattern(_HINTS).search(text) is None:
        return text
    return _pattern(_COMMANDS).sub(_disarmed, text)


def _disarmed(found: re.Match[str]) -> str:
    return f"{found[0][:-1]}\\x{ord(found[0][-1]):02x}"


def disarm_json(line: bytes) -> bytes:
    """As `disarm`, for a line of JSON, whose meaning stays. No line of JSON begins with a command,
    so only those count that have an effect anywhere."""
    return re.sub(_IN_JSON, rb"\\u0023", line, flags=re.IGNORECASE) if b"##" in line else line


def github_command(name: str, text: str = "", **properties: str) -> str:
    """A line that GitHub Actions acts on, such as `::error title=…::…`. The texts may come from
    inside: they are escaped, also as GitHub's toolkit escapes them."""
    given = ",".join(f"{key}={_property(value)}" for key, value in properties.items() if value)
    return f"::{name}{' ' if given else ''}{given}::{_data(text)}\n"


def _data(text: str) -> str:
    shown = disarm(escape_text(text))
    return shown.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
