"""What looks like a secret. A guess from names and shapes, for saying so before it is written
down somewhere; it finds what people call by its name, and no more.
"""

from __future__ import annotations

import re

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_SECRET = re.compile(
    r"(KEY|PASS|AUTH|OAUTH|AUTHORIZATION|CREDS?|CREDENTIALS?"
    r"|(API|ACCESS|SECRET|PRIVATE|AUTH|MASTER|SERVICE|ACCOUNT|SUBSCRIPTION|LICEN[CS]E)KEY"
    r"|\w*(APIKEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE))S?"
)
_ABOUT = frozenset({"FILE", "PATH", "DIR", "SOCK", "SOCKET", "NAME"})
"""Last words of names that say where a secret is, or which, and not what."""
_HARMLESS = re.compile(r"[0-9]{0,6}|true|false|yes|no|on|off|none|null", re.IGNORECASE)
_PASSWORD_IN_URL = re.compile(r"://[^/\s:@]*:[^/\s@]+@")
_PRIVATE_KEY = "PRIVATE KEY-----"


def looks_secret(name: str, value: str) -> str | None:
    """Why the value of a variable looks like a secret, as words that go on after its name; None
    when it does not. Nothing of the value is in them."""
    if _PRIVATE_KEY in value:
        return "holds a private key"
    if _PASSWORD_IN_URL.search(value):
        return "holds a password in a URL"
    words = [word.upper() for word in _WORD.findall(name)]
    if _HARMLESS.fullmatch(value) or not words or words[-1] in _ABOUT:
        return None
    if any(_SECRET.fullmatch(word) for word in words):
        return "is called like a secret"
    return None
