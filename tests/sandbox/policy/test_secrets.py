"""Values with the name or the shape of a secret are recognised, and refused in a policy."""

from __future__ import annotations

import pytest
from pydantic import ValidationError
from sandbox_agent_sandbox.policy.fields.secrets import looks_secret
from sandbox_agent_sandbox.policy.policy import Policy

VALUE = "s3cr3t-v4lue"


@pytest.mark.parametrize(
    "name",
    [
        "KEY", "API_KEY", "OPENAI_API_KEY", "apiKey", "AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN",
        "token", "npm_config__auth", "DB_PASSWORD", "PGPASSWORD", "MYSQL_PWD_PASSWD", "SMTP_PASS",
        "CREDENTIALS", "GIT_CREDENTIAL", "clientSecret", "SSH_PASSPHRASE", "SIGNING_KEYS",
        "GH-TOKEN", "GITHUB_PAT", "MYSQL_PWD", "DBPASS", "SECRET_KEY_BASE", "X-Api-Key", "PGPASS",
        "SESSION_COOKIE", "API_KEY_2", "access_tokens", "TOKEN_PER_USER", "JWT",
    ],
)  # fmt: skip
def test_names_of_secrets_are_known(name: str) -> None:
    assert looks_secret(name, VALUE) == "is called like a secret"
    # Nothing to hide: unset, a number, a switch.
    for harmless in ("", "4096", "true", "None"):
        assert looks_secret(name, harmless) is None


@pytest.mark.parametrize(
    "name",
    [
        "PATH", "LANG", "TOKENIZERS_PARALLELISM", "MONKEY", "KEYBOARD", "AUTHOR", "KEYMAP_NAME",
        "POSTGRES_PASSWORD_FILE", "SSH_AUTH_SOCK", "SECRET_DIR", "BYPASS", "COMPASS", "SECRETARY",
        "DATABASE_URL", "A", "_", "PASSENGERS", "input_cost_per_token", "max_tokens", "AUTH_TYPE",
        "prompt_cache_key", "primary_key", "TOKEN_URL", "PASSWORD_LENGTH", "PUBLIC_KEY", "PWD",
        "OLDPWD", "COOKIES", "PAT", "PATTERN", "first_pass", "AUTH_ENABLED", "KEY_SIZE",
    ],
)  # fmt: skip
def test_other_names_are_left_alone(name: str) -> None:
    assert looks_secret(name, VALUE) is None


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("postgres://me:pw@db/x", "holds a password in a URL"),
        ("see https://:t0ken@host/", "holds a password in a URL"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nabc", "holds a private key"),
        ("-----BEGIN PGP PRIVATE KEY BLOCK-----", "holds a private key"),
        ("https://host/x?access_token=abcdefgh123", "holds a secret in the query of a URL"),
        ("https://host/x?sv=1&sig=abcdefgh123", "holds a secret in the query of a URL"),
        ("sk-proj-" + "a1B2" * 8, "has the form of a key or token"),
        ("ghp_" + "a1B2" * 9, "has the form of a key or token"),
        ("export K=AKIA" + "A1B2" * 4, "has the form of a key or token"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJtZSJ9.abc", "has the form of a key or token"),
        ("task-" + "a1B2" * 8, None),
        ("https://host/x?page_token=1&key=2", None),
        ("risk-" + "a" * 30, None),
        ("postgres://me@db/x", None),
        ("http://host:80/a:b@c", None),
        ("-----BEGIN PUBLIC KEY-----\nabc", None),
    ],
)
def test_shapes_of_secrets_are_known(value: str, why: str | None) -> None:
    assert looks_secret("X", value) == why


def test_a_folder_is_no_password() -> None:
    assert looks_secret("PROJECT_PWD", "/home/me/project") is None
    assert looks_secret("PROJECT_PWD", "hunter22") == "is called like a secret"


def test_a_price_is_no_secret() -> None:
    for number in ("0.000001", "1e-06", "-1.5", "250000"):
        assert looks_secret("OUTPUT_TOKEN", number) is None


def test_a_policy_that_sets_a_secret_is_refused_without_showing_it() -> None:
    env = {"set": {"FINE": "1", "API_KEY": VALUE, "URL": f"http://me:{VALUE}@host/"}}
    with pytest.raises(ValidationError) as caught:
        Policy.model_validate({"env": env})
    assert VALUE not in str(caught.value)
    errors = caught.value.errors()
    assert [error["loc"] for error in errors] == [
        ("env", "set", "API_KEY"),
        ("env", "set", "URL"),
    ]
    assert all("env.pass" in error["msg"] for error in errors)
    # The hint.
    Policy.model_validate({"env": {"pass": ["API_KEY"], "set": {"FINE": "1", "MAX_TOKENS": "9"}}})
