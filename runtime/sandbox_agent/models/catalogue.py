"""Checks a model's name before litellm is imported, with data files from litellm's folder.

Only certain problems are reported: litellm accepts more than its lists hold. The model process
reports the rest.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
from sandbox_agent_ipc.model_messages import FailureKind
from sandbox_agent_sandbox.nearest import nearest

from sandbox_agent.config.model_settings import check_address
from sandbox_agent.models.process.inside import keys

_FORM = "PROVIDER/MODEL, such as openai/gpt-4o"

Problem = tuple[FailureKind, str, str]
"""The kind of problem, what is wrong, and the hint."""

_PRICES = "model_prices_and_context_window_backup.json"
_PROVIDERS = "types/utils.py"
_MORE_PROVIDERS = "llms/openai_like/providers.json"
_LISTS = "constants.py"
_FEWEST_PROVIDERS = 50
"""If fewer are found in litellm's file, its form has changed, and nothing is certain."""


class _Entry(msgspec.Struct):
    """A model's entry in litellm's price list, as far as it is used. rules: in the one entry that
    is not a model but assigns forms of names to providers."""

    litellm_provider: Any = None
    mode: Any = None
    max_input_tokens: Any = None
    rules: Any = None


def problem_with(name: str, api_base: str | None, environ: Mapping[str, str]) -> Problem | None:
    """Why this model cannot answer here; None if no problem is known.

    name: litellm's. environ: the variables that may hold the key.
    """
    if _folder() is None:
        what = "litellm, which asks the model, is not installed"
        return (
            FailureKind.UNKNOWN_MODEL,
            what,
            "pip install litellm, or install sandbox-agent-runtime again",
        )
    if api_base is not None:
        try:
            check_address(api_base)
        except ValueError as error:
            hint = "write it as http://HOST:PORT/v1, and put a key into the environment"
            return FailureKind.BAD_REQUEST, f"api_base {error}", hint
    if name.endswith("/"):
        what = f"{name!r} names a provider but no model"
        return FailureKind.UNKNOWN_MODEL, what, f"write {_FORM}"
    provider = _provider(name)
    if provider is None:
        return _unknown(name, api_base) if _is_unknown(name, api_base, environ) else None
    if malformed := keys.malformed(provider, environ):
        what = (
            f"the key in {malformed} has a line break or another character that a key cannot have"
        )
        return (
            FailureKind.AUTHENTICATION,
            what,
            f"set {malformed} to the key and nothing else",
        )
    missing = keys.missing(provider, environ)
    if missing and not keys.is_elsewhere(provider, api_base, environ):
        what = f"{name} needs a key, and {' and '.join(missing)} {_are(missing)} not set"
        hint = f"set {' or '.join(missing)} in the environment"
        return FailureKind.MISSING_KEY, what, hint
    return None


def key_variables(name: str) -> tuple[str, ...]:
    """The environment variables that may hold this model's key, as far as is known."""
    return keys.KEYS.get(_provider(name) or "", ())


def context_window(name: str) -> int | None:
    """The model's context window in tokens; None if it is not known."""
    entry = _entry(name)
    window = entry.max_input_tokens if entry else None
    return window if isinstance(window, int) and window > 0 else None


# --- names -----------------------------------------------------------------------------------


def _provider(name: str) -> str | None:
    """litellm's name of the provider; None if it is not certain."""
    prefix, slash, _ = name.partition("/")
    if slash and (prefix in keys.KEYS or prefix in _providers()):
        return prefix
    entry = _prices().get(name)
    if entry is not None:
        return entry.litellm_provider if isinstance(entry.litellm_provider, str) else None
    for rule in _rules():
        info = rule.get("model_info")
        provider = info.get("litellm_provider") if isinstance(info, dict) else None
        if isinstance(provider, str) and _matches(rule.get("pattern"), name):
            return provider
    return None


def _is_unknown(name: str, api_base: str | None, environ: Mapping[str, str]) -> bool:
    """Whether litellm certainly knows no provider for this name."""
    if not _prices() or not _providers() or not _lists() or environ.get("USE_LITELLM_PROXY"):
        return False
    host = urlsplit(api_base or "").hostname
    if host and host not in _LOCAL and host in _lists():
        return False  # litellm knows the addresses of some providers
    # ":" is in names of fine-tuned models, and of versions at Replicate. More names stand in
    # litellm's source.
    return not (":" in name or f'"{name}"' in _lists() or name.startswith(_ALSO))


_LOCAL = ("localhost", "127.0.0.1", "::1")
_ALSO = ("amazon_nova", "gdc/", "gpt-image")


def _matches(pattern: Any, name: str) -> bool:
    try:
        return isinstance(pattern, str) and re.search(pattern, name, re.IGNORECASE) is not None
    except re.error:
        return False


def _unknown(name: str, api_base: str | None) -> Problem:
    what = f"litellm knows no provider for a model named {name!r}"
    hint = f"names have the form {_FORM}"
    if api_base is not None:
        hint += f"; for a server with OpenAI's API, write openai/{name}"
    elif near := _nearest(name):
        hint = f"did you mean {near}? {hint}"
    return FailureKind.UNKNOWN_MODEL, what, hint


def _nearest(name: str) -> str:
    """The most similar known name; "" if none is similar."""
    prefix, slash, model = name.partition("/")
    if slash:
        known = nearest(prefix, _providers(), cutoff=0.75)
        return f"{known}/{model}" if known else ""
    chats = {key for key, entry in _prices().items() if entry.mode in ("chat", "responses")}
    # By the name without its provider, because a bare name lacks it.
    bare = {key.rpartition("/")[2]: key for key in sorted(chats, key=len, reverse=True)}
    found = nearest(name, bare)
    if found is None:
        return ""
    key = bare[found]
    provider = _prices()[key].litellm_provider
    return key if "/" in key else f"{provider}/{key}"


def _entry(name: str) -> _Entry | None:
    prices = _prices()
    prefix, slash, model = name.partition("/")
    found = prices.get(name)
    if found is None and slash:
        bare = prices.get(model)
        if bare is not None and str(bare.litellm_provider).startswith(prefix):
            return bare
    return found


def _are(names: tuple[str, ...]) -> str:
    return "is" if len(names) == 1 else "are"


# --- litellm's files -------------------------------------------------------------------------


@cache
def _folder() -> Path | None:
    """litellm's folder. It is found, not imported: the import would take seconds."""
    try:
        spec = importlib.util.find_spec("litellm")
    except (ImportError, ValueError):
        return None
    return Path(spec.origin).parent if spec and spec.origin else None


@cache
def _prices() -> Mapping[str, _Entry]:
    """litellm's list of models; empty if it cannot be read."""
    try:
        return msgspec.json.decode(_read(_PRICES), type=dict[str, _Entry])
    except (OSError, msgspec.MsgspecError):
        return {}


def _rules() -> list[dict[str, Any]]:
    entry = _prices().get("fallback_generalizations")
    rules = entry.rules if entry else None
    return [rule for rule in rules if isinstance(rule, dict)] if isinstance(rules, list) else []


@cache
def _lists() -> str:
    """The source with litellm's lists of names and addresses; "" if it cannot be read."""
    try:
        return _read(_LISTS).decode()
    except (OSError, ValueError):
        return ""


@cache
def _providers() -> frozenset[str]:
    """The providers that litellm knows; empty if that is not certain."""
    try:
        source = _read(_PROVIDERS).decode()
        more = msgspec.json.decode(_read(_MORE_PROVIDERS), type=dict[str, Any])
    except (OSError, ValueError, msgspec.MsgspecError):
        return frozenset()
    body = re.search(r"^class LlmProviders\(.*\n((?:    .*\n|\s*\n)*)", source, re.MULTILINE)
    found = re.findall(r'^    [A-Z0-9_]+ = "([^"]+)"', body[1], re.MULTILINE) if body else []
    return frozenset([*found, *more]) if len(found) >= _FEWEST_PROVIDERS else frozenset()


def _read(path: str) -> bytes:
    folder = _folder()
    if folder is None:
        raise FileNotFoundError(path)
    return (folder / path).read_bytes()
