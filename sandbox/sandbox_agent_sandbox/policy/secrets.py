"""Values that look like secrets, by the name of their variable or by their shape.

It is a guess: it finds secrets that have a telling name or shape, and no others.
"""

from __future__ import annotations

import re

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_SECRET_WORD = re.compile(
    r"(KEY|PASS|AUTH|OAUTH|AUTHORIZATION|CREDS?|CREDENTIALS?"
    r"|(API|ACCESS|SECRET|PRIVATE|AUTH|MASTER|SERVICE|ACCOUNT|SUBSCRIPTION|LICEN[CS]E)KEY"
    r"|\w*(APIKEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE))S?"
)
_HARMLESS_ENDINGS = frozenset({"FILE", "PATH", "DIR", "SOCK", "SOCKET", "NAME"})
"""Last words of names of variables that say where a secret is, or which one, and do not hold it."""
_HARMLESS_VALUE = re.compile(r"[0-9]{0,6}|true|false|yes|no|on|off|none|null", re.IGNORECASE)
_PASSWORD_IN_URL = re.compile(r"://[^/\s:@]*:[^/\s@]+@")
_PRIVATE_KEY = "PRIVATE KEY-----"


def looks_secret(name: str, value: str) -> str | None:
    """Why a variable looks like a secret, as the end of a sentence that its name begins; None when
    it does not. The text holds nothing of the value."""
    if _PRIVATE_KEY in value:
        return "holds a private key"
    if _PASSWORD_IN_URL.search(value):
        return "holds a password in a URL"
    words = [word.upper() for word in _WORD.findall(name)]
    if _HARMLESS_VALUE.fullmatch(value) or not words or words[-1] in _HARMLESS_ENDINGS:
        return None
    if any(_SECRET_WORD.fullmatch(word) for word in words):
        return "is called like a secret"
    return None
