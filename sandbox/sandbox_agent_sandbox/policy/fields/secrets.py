"""Values that look like secrets, by the name of their variable or by their shape.

It is a guess: it finds secrets that have a telling name or shape, and no others.

A name is read as words: `input_cost_per_token` is a price, `GITHUB_TOKEN` a secret. A value is
looked at as well: what is known to be the shape of a key is one under any name.
"""

from __future__ import annotations

import re

from sandbox_agent_sandbox.put_off import expression

_WORD = expression(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_SECRET_WORD = expression(
    r"(KEY|PASS|AUTH|OAUTH|AUTHORIZATION|CREDS?|CREDENTIALS?|BEARER|JWT|PSK"
    r"|(API|ACCESS|SECRET|PRIVATE|AUTH|MASTER|SERVICE|ACCOUNT|SUBSCRIPTION|LICEN[CS]E)KEY"
    r"|(DB|USER|ROOT|ADMIN|PG)PASS"
    r"|\w*(APIKEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE))S?"
)
_SECRET_LAST_WORD = frozenset({"PAT", "PWD", "COOKIE", "COOKIES"})
"""Words that mean a secret only at the end of a name, and not alone: GITHUB_PAT, MYSQL_PWD."""

_HARMLESS_ENDING = expression(
    r"(FILE|PATH|DIR|FOLDER|LOCATION|SOCK|SOCKET|URL|URI|ENDPOINT|HOST|PORT|SERVER|DOMAIN|REALM"
    r"|NAME|TYPE|MODE|METHOD|SCHEME|PROVIDER|ISSUER|AUDIENCE|ALGORITHM|VERSION|FORMAT|PREFIX"
    r"|SIZE|LENGTH|BIT|COUNT|LIMIT|BUDGET|TTL|TIMEOUT|LIFETIME|EXPIRY|RATE|RETRIES|ENABLED"
    r"|REQUIRED)S?"
)
"""Last words of names of variables that say something about a secret, and do not hold it."""

_HARMLESS_PAIR = expression(
    r"(PER|MAX|MIN|STOP|SPECIAL|PAD|EOS|BOS) TOKENS?"
    r"|(PUBLIC|CACHE|SORT|PRIMARY|FOREIGN|PARTITION|ROUTING|GROUP|INDEX|IDEMPOTENCY) KEYS?"
    r"|(BY|FIRST|ONE|TWO|SINGLE) PASS"
)
"""Two words of which the second one means no secret after the first."""

_HARMLESS_VALUE = expression(
    r"[0-9]{0,6}|[-+]?[0-9]{1,6}(\.[0-9]{0,6})?([eE][-+]?[0-9]{1,3})?|true|false|yes|no|on|off|none"
    r"|null",
    re.IGNORECASE,
)
_PASSWORD_IN_URL = expression(r"://[^/\s:@]*:[^/\s@]+@")
_SECRET_IN_QUERY = expression(
    r"[?&;]((api|access|account|shared|auth)[-_]?)*(key|token|secret|password|sig|signature)"
    r"=[^&;\s]{8}",
    re.IGNORECASE,
)
_PRIVATE_KEY = expression(r"PRIVATE KEY( BLOCK)?-----")
SHAPES = expression(
    r"(?<![A-Za-z0-9_-])("
    r"sk-[A-Za-z0-9_-]{20,}"  # OpenAI, Anthropic, OpenRouter
    r"|[sr]k_(live|test)_[A-Za-z0-9]{16,}"  # Stripe
    r"|gh[oprsu]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}|glpat-[A-Za-z0-9_-]{16,}"
    r"|xox[abeprs]-[A-Za-z0-9-]{10,}"  # Slack
    r"|A(KIA|SIA)[A-Z0-9]{16,}|AIza[A-Za-z0-9_-]{30,}"  # AWS, Google
    r"|hf_[A-Za-z]{30,}|gsk_[A-Za-z0-9]{20,}|npm_[A-Za-z0-9]{30,}|pypi-AgE[A-Za-z0-9_-]{20,}"
    r"|eyJ[A-Za-z0-9_-]{8,}+\.eyJ[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_-]*"  # a JSON Web Token, RFC 7519
    r")"
)
"""Keys and tokens as a whole. The time for a search is linear in the length of the text."""
TELLING_CHARACTERS = 65536
"""How much of a value is looked at for shapes."""


def looks_secret(name: str, value: str) -> str | None:
    """Why a variable looks like a secret, as the end of a sentence that its name begins; None when
    it does not. The text holds nothing of the value."""
    if (why := value_looks_secret(value)) is not None:
        return why
    if is_harmless(value):
        return None
    words = words_of(name)
    if words[-1:] == ["PWD"] and value.startswith("/"):
        return None  # a folder
    return "is called like a secret" if secret_words(words) else None


def is_harmless(value: str) -> bool:
    """Whether a value is a short number or a switch, which no one needs to hide."""
    return _HARMLESS_VALUE.fullmatch(value) is not None


def value_looks_secret(value: str) -> str | None:
    """As `looks_secret`, for the value alone."""
    value = value[:TELLING_CHARACTERS]
    if _PRIVATE_KEY.search(value):
        return "holds a private key"
    if _PASSWORD_IN_URL.search(value):
        return "holds a password in a URL"
    if _SECRET_IN_QUERY.search(value):
        return "holds a secret in the query of a URL"
    if SHAPES.search(value):
        return "has the form of a key or token"
    return None


def words_of(name: str) -> list[str]:
    """The words of a name, in capitals: `apiKey_2` is API, KEY, 2."""
    return [word.upper() for word in _WORD.findall(name)]


def secret_words(words: list[str]) -> list[str]:
    """Those of a name's words that tell of a secret."""
    if not words or _HARMLESS_ENDING.fullmatch(words[-1]):
        return []
    found = [
        word
        for before, word in zip(["", *words], words, strict=False)
        if _SECRET_WORD.fullmatch(word) and not _HARMLESS_PAIR.fullmatch(f"{before} {word}")
    ]
    last = words[-1]
    if len(words) > 1 and last in _SECRET_LAST_WORD and words != ["OLD", "PWD"]:
        found.append(last)
    return found
