"""Masks secrets in the texts of a report. A report is uploaded, mailed and published; the journal,
which stays with its owner, is not masked.

It knows the values of some variables, and the look of keys. It cannot find a secret that a tool has
encoded in its own way, or a value that is no longer in the environment and looks like any word.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any
from urllib.parse import quote

from sandbox_agent_sandbox.policy.fields.secrets import SHAPES, is_harmless, looks_secret

from sandbox_agent.models.process.inside.keys import KEYS
from sandbox_agent.reports.report import Report

MASKED = "***"

_SHORTEST_KEY = 8
"""Characters. Placeholders for a key that is not needed ("none", "EMPTY") are shorter."""
_SHORTEST = 4
"""Characters of a value that a policy names. A shorter one would be found everywhere."""
_MAX_LINES = 1000
_TORN = 512
_MAX_MARKS = 64

_MARK = re.compile(r"\n?\[\.\.\. \d{1,15} (bytes|characters) left out \.\.\.\]\n?")
"""Where a text was cut: half a secret may stand before it and the other half behind it."""
_BEGUN = re.compile(
    r"sk-|[sr]k_(live|test)_|gh[oprsu]_|github_pat_|glpat-|xox[abeprs]-|A(KIA|SIA)|AIza|hf_|gsk_"
    r"|npm_|pypi-AgE|eyJ"
)
"""How the shapes of keys begin."""

# The time for each of these is linear in the length of a text: no two attempts read the same part.
_PASSWORD_IN_URL = re.compile(r"(://[^/\s:@]*+:)[^/\s]+@")
_SECRET_IN_QUERY = re.compile(
    r"([?&;](?:(?:api|access|account|shared|auth)[-_]?)*+"
    r"(?:key|token|secret|password|sig|signature)=)[^&;\s\"'<>]{8,}",
    re.IGNORECASE,
)
_HEADER = re.compile(
    r"(\bauthorization[\"']?\s{0,4}[:=]\s{0,4}[\"']?(?:(?:bearer|basic|token)\s{1,4})?)"
    r"[A-Za-z0-9._~+/=-]{8,}",
    re.IGNORECASE,
)
_ASSIGNED = re.compile(
    r"(?<![A-Za-z0-9_])([A-Z][A-Z0-9_]{1,80})(=[\"']?)([^\s\"'`$(){}<>|;&,]{8,})"
)
_QUOTED = re.compile(r"([\"'])([A-Za-z][\w-]{1,80})\1(\s{0,4}:\s{0,4}[\"'])([^\s\"'`$(){}]{8,})")
"""Of JSON, YAML and Python: "api_key": "..."."""
_KEY_BEGINS = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY( BLOCK)?-----")
_KEY_ENDS = re.compile(r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY( BLOCK)?-----")
_KEY_LINE = re.compile(r"[A-Za-z0-9+/=]{1,80}\r?")
_KEY_LENGTH = 16384


class Mask:
    """Replaces secrets by `***`. values: replaced wherever they stand. words: replaced where no
    letter and no digit is beside them.

    Time and memory are linear in the length of a text; 10 MB take about a second.
    """

    def __init__(self, values: Iterable[str] = (), words: Iterable[str] = ()) -> None:
        found = {form for value in values for form in _forms(value)}
        # The longest first: a secret may contain another one.
        self._values = sorted(found, key=lambda value: (-len(value), value))
        self._words = [
            (word, re.compile(rf"(?<![A-Za-z0-9]){re.escape(word)}(?![A-Za-z0-9])"))
            for word in sorted(set(words))
        ]

    def apply(self, text: str) -> str:
        """`text` without secrets. Apply it before you escape: an escaped secret looks different."""
        for value in self._values:
            text = text.replace(value, MASKED)
        for word, pattern in self._words:
            if word in text:
                text = pattern.sub(MASKED, text)
        if "PRIVATE KEY" in text:
            text = _without_private_keys(text)
        text = SHAPES.sub(MASKED, text)
        if "://" in text:
            text = _PASSWORD_IN_URL.sub(rf"\1{MASKED}@", text)
        text = _SECRET_IN_QUERY.sub(rf"\1{MASKED}", text)
        text = _HEADER.sub(rf"\1{MASKED}", text)
        text = _ASSIGNED.sub(_assigned, text)
        text = _QUOTED.sub(_quoted, text)
        return self._without_halves(text) if " left out ...]" in text else text

    def _without_halves(self, text: str) -> str:
        """`text` without the two parts of a secret in whose middle it was cut."""
        parts: list[str] = []
        at = 0
        for mark in islice(_MARK.finditer(text), _MAX_MARKS):
            before = text[at : mark.start()]
            kept = self._begins_at(before)
            torn = self._ends_at(text[mark.end() : mark.end() + _TORN])
            parts += before[:kept], MASKED * (kept < len(before)), mark[0], MASKED * (torn > 0)
            at = mark.end() + torn
        return "".join([*parts, text[at:]])

    def _begins_at(self, before: str) -> int:
        """Where the beginning of a secret stands at the end of a text; its length, if nowhere."""
        start = max(0, len(before) - _TORN)
        word = before.rfind("\n", start), before.rfind(" ", start), before.rfind("=", start)
        first = max(start, max(word) + 1)
        if _BEGUN.match(before, first):
            return first
        for value in self._values:
            at = before.find(value[:_SHORTEST], start)
            while at >= 0:
                if value.startswith(before[at:]):
                    return at
                at = before.find(value[:_SHORTEST], at + 1)
        return len(before)

    def _ends_at(self, after: str) -> int:
        """How much of the beginning of a text is the end of a secret."""
        for value in self._values:
            at = after.find(value[-_SHORTEST:])
            if at >= 0 and value.endswith(after[: at + _SHORTEST]):
                return at + _SHORTEST
        return 0


def _assigned(match: re.Match[str]) -> str:
    name, between, value = match.groups()
    return f"{name}{between}{MASKED}" if looks_secret(name, value) else match[0]


def _quoted(match: re.Match[str]) -> str:
    quotes, name, between, value = match.groups()
    return f"{quotes}{name}{quotes}{between}{MASKED}" if looks_secret(name, value) else match[0]


def _without_private_keys(text: str) -> str:
    """`text` without what stands between the first and the last line of a private key. A key
    without a last line goes on to the end of the text. One without a first line has lines of
    base64."""
    parts: list[str] = []
    at = 0
    while (end := _KEY_ENDS.search(text, at)) is not None:
        begun = _KEY_BEGINS.search(text, at, end.start())
        start = begun.end() if begun is not None else _first_key_line(text, at, end.start())
        parts += text[at:start], MASKED, end[0]
        at = end.end()
    if (begun := _KEY_BEGINS.search(text, at)) is not None:
        return "".join([*parts, text[at : begun.end()], MASKED])
    return "".join([*parts, text[at:]])


def _first_key_line(text: str, start: int, end: int) -> int:
    """Where the lines of base64 begin that stand before `end`."""
    lines = text[max(start, end - _KEY_LENGTH) : end].split("\n")
    at = end - len(lines.pop())
    while lines and _KEY_LINE.fullmatch(lines[-1]):
        at -= len(lines.pop()) + 1
    return at


def _forms(value: str) -> Iterator[str]:
    """How a value is written in texts: as it is, in JSON, in Python, in a URL, in base64; and each
    of its lines."""
    raw = value.encode("utf-8", "surrogateescape")
    yield value
    yield json.dumps(value)[1:-1]
    yield json.dumps(value, ensure_ascii=False)[1:-1]
    yield repr(value)[1:-1]
    yield quote(raw, safe="")
    yield base64.b64encode(raw).decode().rstrip("=")
    lines = [line.strip() for line in value.splitlines()[:_MAX_LINES]]
    yield from (line for line in lines if len(line) >= _SHORTEST_KEY)


def mask_for(report: Report, environ: Mapping[str, str]) -> Mask:
    """The mask of a run's reports.

    It masks the values that variables have in `environ`: those that `env.pass` names, those of
    providers' keys, and those that look like a secret. It also masks what the policy sets and looks
    like a secret. A number of at most six digits, a switch (`true`), the path of a file that is
    there, and what is shorter than four characters, stays.
    """
    named: set[str] = set()
    for policy in _environments(report):
        names, given = policy.get("pass"), policy.get("set")
        if isinstance(names, list | tuple):
            passed = (environ.get(name, "") for name in names if isinstance(name, str))
            named.update(value for value in passed if not _is_plain(value))
        if isinstance(given, Mapping):
            named.update(
                value
                for name, value in given.items()
                if isinstance(value, str) and looks_secret(str(name), value)
            )
    known = {name for names in KEYS.values() for name in names}
    keys = {
        value
        for name, value in environ.items()
        if len(value) >= _SHORTEST_KEY
        and (looks_secret(name, value) or (name in known and not is_harmless(value)))
    }
    values = keys | {value for value in named if len(value) >= _SHORTEST_KEY}
    return Mask(values, {value for value in named - values if len(value) >= _SHORTEST})


def _is_plain(value: str) -> bool:
    """Whether a value that tools get is no secret, whatever the name of its variable."""
    return is_harmless(value) or (value.startswith("/") and os.path.lexists(value))


def _environments(report: Report) -> Iterator[Mapping[str, Any]]:
    """`sandbox.env` of all segments. The journal may be damaged."""
    settings = [segment.settings for segment in report.segments]
    if report.opened is not None:
        settings.append(report.opened.task)
    for one in settings:
        sandbox = one.get("sandbox")
        env = sandbox.get("env") if isinstance(sandbox, Mapping) else None
        if isinstance(env, Mapping):
            yield env
