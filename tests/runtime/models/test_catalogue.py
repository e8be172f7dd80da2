"""What is said of a model's name before litellm is imported: only what is certain, and at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from sandbox_agent.errors import ConfigError
from sandbox_agent.models import catalogue
from sandbox_agent.models.catalogue import context_window, problem_with
from sandbox_agent.models.provider import ProviderModel
from sandbox_agent_ipc.model_messages import FailureKind

KEY = {"OPENAI_API_KEY": "sk-1", "ANTHROPIC_API_KEY": "sk-2"}
LOCAL = "http://127.0.0.1:8000/v1"


@pytest.mark.parametrize(
    "name",
    [
        "openai/gpt-4o",
        "openai/not-heard-of-yet",
        "gpt-4o",
        "claude-sonnet-4-5",
        "anthropic/claude-sonnet-4-5",
        "ollama/llama3",
        "hosted_vllm/anything",
        "bedrock/anthropic.claude-3-haiku-20240307-v1:0",
        "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
        "vertex_ai/gemini-2.5-pro",
        "ft:gpt-4o:ours",
        "claude-newfamily-7",
    ],
)
def test_nothing_is_said_of_names_that_litellm_may_take(name: str) -> None:
    assert problem_with(name, None, KEY) is None


@pytest.mark.parametrize(
    ("name", "variables"),
    [
        ("openai/gpt-4o", "OPENAI_API_KEY"),
        ("gpt-4o", "OPENAI_API_KEY"),
        ("anthropic/claude-sonnet-4-5", "ANTHROPIC_API_KEY or ANTHROPIC_AUTH_TOKEN"),
        ("claude-sonnet-4-5", "ANTHROPIC_API_KEY or ANTHROPIC_AUTH_TOKEN"),
        ("gemini/gemini-2.5-pro", "GEMINI_API_KEY or GOOGLE_API_KEY"),
    ],
)
def test_a_missing_key_is_named(name: str, variables: str) -> None:
    for environ in ({}, {variables.split(" or ")[0]: ""}):
        problem = problem_with(name, None, environ)
        assert problem is not None
        kind, what, hint = problem
        assert kind is FailureKind.MISSING_KEY
        assert name in what
        assert variables in hint
    assert problem_with(name, None, {variables.split(" or ")[-1]: "a-key"}) is None


def test_a_server_of_ones_own_needs_no_key() -> None:
    assert problem_with("openai/anything", LOCAL, {}) is None
    assert problem_with("openai/anything", None, {"OPENAI_BASE_URL": LOCAL}) is None


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("gpt-40-mini", "openai/gpt-4o-mini"),
        ("claud-sonnet-4-5", "anthropic/claude-sonnet-4-5"),
        ("opnai/gpt-4o", "openai/gpt-4o"),
        ("anthropc/claude-sonnet-4-5", "anthropic/claude-sonnet-4-5"),
        ("zzzzzz", ""),
    ],
)
def test_an_unknown_name_is_reported_with_the_most_similar(name: str, meant: str) -> None:
    problem = problem_with(name, None, KEY)
    assert problem is not None
    kind, what, hint = problem
    assert kind is FailureKind.UNKNOWN_MODEL
    assert repr(name) in what
    assert (f"did you mean {meant}?" if meant else "PROVIDER/MODEL") in hint


def test_a_bare_name_with_an_address_gets_a_hint() -> None:
    problem = problem_with("my-model", LOCAL, {})
    assert problem is not None
    assert problem[0] is FailureKind.UNKNOWN_MODEL
    assert "openai/my-model" in problem[2]
    # Of this address litellm knows whose it is.
    assert problem_with("my-model", "https://api.groq.com/openai/v1", {}) is None


@pytest.mark.parametrize("address", ["127.0.0.1:8000", "ftp://host/v1", "http://", "http://[", ""])
def test_a_malformed_address_is_reported(address: str) -> None:
    problem = problem_with("openai/gpt-4o", address, KEY)
    assert problem is not None
    assert problem[0] is FailureKind.BAD_REQUEST
    assert "http://HOST:PORT/v1" in problem[2]


@pytest.mark.parametrize(
    "address",
    [
        "https://host/v1?api-key=pl4nted",
        "https://host/v1#pl4nted",
        "https://me:pl4nted@host/v1",
        "https://pl4nted@host/v1",
        "me:pl4nted@host/v1",
        "http://me:pl4nted@host:port/v1",
    ],
)
def test_an_address_with_room_for_a_key_is_refused_and_not_repeated(address: str) -> None:
    problem = problem_with("openai/gpt-4o", address, KEY)
    assert problem is not None
    kind, what, hint = problem
    assert kind is FailureKind.BAD_REQUEST
    assert "api_base" in what and "environment" in hint
    assert "pl4nted" not in what + hint


@pytest.mark.parametrize("value", ["sk-pl4nted\n", "sk-\x1bpl4nted", "\rsk-pl4nted", "sk-pl4ntéd"])
@pytest.mark.parametrize("base", [None, LOCAL])
def test_a_key_that_does_not_fit_a_header_is_named_and_not_shown(
    value: str, base: str | None
) -> None:
    environ = {"OPENAI_API_KEY": "sk-1", "GEMINI_API_KEY": value}
    problem = problem_with("gemini/gemini-2.5-pro", base, environ)
    assert problem is not None
    kind, what, hint = problem
    assert kind is FailureKind.AUTHENTICATION
    assert "GEMINI_API_KEY" in what and "GEMINI_API_KEY" in hint
    assert "pl4nt" not in what + hint
    assert problem_with("openai/gpt-4o", base, environ) is None  # it is not sent there


@pytest.mark.parametrize("name", ["openai/", "openrouter/meta/", "/", "azure/"])
def test_a_provider_without_a_model_is_no_name(name: str) -> None:
    for base in (None, LOCAL):
        problem = problem_with(name, base, KEY)
        assert problem is not None
        kind, what, hint = problem
        assert kind is FailureKind.UNKNOWN_MODEL
        assert repr(name) in what and "PROVIDER/MODEL" in hint


def test_windows_and_prices_are_those_of_litellms_list() -> None:
    assert context_window("openai/gpt-4o") == context_window("gpt-4o") == 128_000
    assert context_window("anthropic/claude-sonnet-4-5") == 200_000
    assert context_window("openai/not-heard-of-yet") is None


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """litellm's folder is this one."""
    monkeypatch.setattr(catalogue, "_folder", lambda: tmp_path)
    for cached in (catalogue._prices, catalogue._providers, catalogue._lists):
        monkeypatch.setattr(catalogue, cached.__name__, cached.__wrapped__)
    return tmp_path


def test_a_litellm_that_looks_different_makes_nothing_certain(elsewhere: Path) -> None:
    (elsewhere / "types").mkdir()
    (elsewhere / "types" / "utils.py").write_text("class LlmProviders:\n    ONE = 'one'\n")
    (elsewhere / catalogue._PRICES).write_text("[]")
    for name in ("nosuch", "nosuch/model", "gpt-4o"):
        assert problem_with(name, None, {}) is None
        assert context_window(name) is None
    # Keys of the well-known ones are known without it.
    assert problem_with("openai/gpt-4o", None, {}) is not None


def test_without_litellm_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "_folder", lambda: None)
    problem = problem_with("openai/gpt-4o", None, KEY)
    assert problem is not None
    assert "not installed" in problem[1]
    assert "pip install" in problem[2]


def test_a_program_gets_the_error_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.delenv("OPENAI_API_BASE", raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ConfigError, match="OPENAI_API_KEY is not set") as caught:
        ProviderModel("openai/gpt-4o")
    assert caught.value.hint == "set OPENAI_API_KEY in the environment"
    ProviderModel("openai/gpt-4o", api_base=LOCAL)
    with pytest.raises(ConfigError, match="has a query"):
        ProviderModel("openai/gpt-4o", api_base=f"{LOCAL}?key=1")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
    ProviderModel("openai/gpt-4o")
    with pytest.raises(ConfigError, match="PROVIDER/MODEL"):
        ProviderModel("openai/")


def test_litellm_is_not_imported_for_any_of_it() -> None:
    code = (
        "import sys; from sandbox_agent.models import catalogue as c\n"
        "assert 'litellm' not in sys.modules and 'httpx' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
