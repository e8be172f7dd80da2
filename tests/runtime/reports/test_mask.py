"""Secrets do not get into reports: values of variables, and what has the form of a key."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path
from typing import Any

import pytest
from sandbox_agent.journal.events import JournalOpened, RecordedSettings
from sandbox_agent.reports.mask import MASKED, Mask, mask_for
from sandbox_agent.reports.report import HEAD, TAIL, Report, Text, report_of

SECRET = 'p\\ss "w0rd"\nsecond line of it'
TOKEN = "ghp_" + "a1B2" * 9
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJtZSJ9.abc-d_e"
KEY = "\n".join(["-----BEGIN RSA PRIVATE KEY-----", *["MIIabc+/" * 8] * 3])
KEY_END = "-----END RSA PRIVATE KEY-----"


def report(env: Any) -> Report:
    settings = RecordedSettings("scripted:x", {}, {"sandbox": {"env": env}})
    opened = JournalOpened(
        at="2026-11-28T00:00:00.000Z", monotonic=0, version=2, run="r", settings=settings
    )
    return report_of("r", Path("r"), [opened])


def test_a_variable_that_tools_get_is_masked_in_every_form() -> None:
    mask = mask_for(report({"pass": ["DEPLOY"]}), {"DEPLOY": SECRET})
    first, second = SECRET.split("\n")
    for form in (
        SECRET,
        json.dumps({"a": SECRET}),
        repr(SECRET),
        base64.b64encode(SECRET.encode()).decode(),
        f"only {first} here",
        f"only {second} here",
    ):
        shown = mask.apply(form)
        assert MASKED in shown
        assert "w0rd" not in shown and "second" not in shown, shown


def test_a_short_value_is_masked_where_it_is_a_word() -> None:
    mask = mask_for(report({"pass": ["PIN", "TINY"]}), {"PIN": "abcd", "TINY": "ab"})
    assert mask.apply("abcd=abcd, abcdef, ab") == "***=***, abcdef, ab"


def test_numbers_switches_and_paths_stay(tmp_path: Path) -> None:
    env = {"PORT": "8080", "CI": "true", "JAVA_HOME": str(tmp_path), "SECRET": "/not/there"}
    mask = mask_for(report({"pass": list(env)}), env)
    assert mask.apply(f"8080 true {tmp_path} /not/there") == f"8080 true {tmp_path} ***"


def test_keys_in_the_environment_are_masked_though_no_tool_gets_them() -> None:
    environ = {"OPENAI_API_KEY": "local-key-1", "WHATEVER_PASSWORD": "hunter2hunter2", "A": "plain"}
    mask = mask_for(report({}), environ)
    assert mask.apply("local-key-1 hunter2hunter2 plain") == "*** *** plain"
    # A placeholder for a key that is not needed is a word like any other.
    assert mask_for(report({}), {"OPENAI_API_KEY": "EMPTY"}).apply("EMPTY") == "EMPTY"


def test_what_the_policy_sets_and_looks_secret_is_masked() -> None:
    mask = mask_for(report({"set": {"DB_PASSWORD": "hunter2hunter2", "MODE": "fast-mode"}}), {})
    assert mask.apply("hunter2hunter2 fast-mode") == "*** fast-mode"


@pytest.mark.parametrize("env", [None, [], "x", {"pass": 1, "set": [1]}, {"pass": [1, None]}])
def test_a_damaged_journal_is_no_reason_to_fail(env: Any) -> None:
    assert mask_for(report(env), {"X": "y"}).apply("text") == "text"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"token {TOKEN}.", "token ***."),
        (f"({JWT})", "(***)"),
        ("postgres://me:p@ss:w@db/x and", "postgres://me:***@db/x and"),
        ("https://h/x?access_token=abcdefgh123&b=1", "https://h/x?access_token=***&b=1"),
        ("Authorization: Bearer abc.def-ghi_j", "Authorization: Bearer ***"),
        ("{'authorization': 'Basic YWJjOmRlZg=='}", "{'authorization': 'Basic ***'}"),
        ("GITHUB_TOKEN=abcdefgh1", "GITHUB_TOKEN=***"),
        ("export DB_PASSWORD='abcdefgh1'", "export DB_PASSWORD='***'"),
        ('{"api_key": "abcdefgh1"}', '{"api_key": "***"}'),
        (f"{KEY}\n{KEY_END}\nend", f"-----BEGIN RSA PRIVATE KEY-----***{KEY_END}\nend"),
        (KEY, "-----BEGIN RSA PRIVATE KEY-----***"),
        (f"some text\n{KEY[32:]}\n{KEY_END}\nend", f"some text\n***{KEY_END}\nend"),
        ("-----BEGIN PUBLIC KEY-----\nabc", None),
        ("token = get_token()", None),
        ("MAX_TOKENS=123456", None),
        ("PASSWORD_FILE=/run/secrets/password", None),
        ("TOKEN=$(cat token.txt)", None),
        ('{"primary_key": "customer-id"}', None),
        ("http://localhost:8080/a@b", None),
        ("risk-" + "a" * 30, None),
    ],
)
def test_what_looks_like_a_key_is_masked(text: str, shown: str | None) -> None:
    once = Mask().apply(text)
    assert once == (text if shown is None else shown)
    assert Mask().apply(once) == once


def test_half_a_secret_beside_a_cut_is_masked() -> None:
    secret = "s3cret-value-of-some-length"
    cut = "\n[... 12345 bytes left out ...]\n"
    mask = Mask([secret])
    assert mask.apply(f"a {secret[:9]}{cut}{secret[-7:]} b") == f"a ***{cut}*** b"
    assert mask.apply(f"a ghp_abc{cut}b") == f"a ***{cut}b"
    assert mask.apply(f"plain{cut}text") == f"plain{cut}text"


def test_a_long_text_is_cut_between_words() -> None:
    words = "".join(f"word-{number:06d}\n" for number in range(5000))
    text = Text.of(words)
    assert HEAD - 12 <= len(text.head) <= HEAD and TAIL - 12 <= len(text.tail) <= TAIL
    assert text.head.endswith(f"word-{text.head.count(chr(10)):06d}")
    assert text.tail.startswith("word-")
    assert len(text.head) + len(text.tail) + text.left_out == len(words)
    solid = Text.of("x" * 20_000)
    assert (len(solid.head), len(solid.tail), solid.left_out) == (HEAD, TAIL, 20_000 - HEAD - TAIL)


@pytest.mark.parametrize(
    "piece",
    [
        "plain words and numbers 123\n", "x", "sk-", "eyJ", "eyJaaaaaaaa.", "eyJaaaaaaaa.eyJ", "://a:",
        "://", "?api_", "?apiapi", "&key=", '"a', '"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa": ',
        "A", "A=", "KEY=abcdefgh ", "Authorization: ", "authorization",
        "-----BEGIN PRIVATE KEY-----\n", "-----END PRIVATE KEY-----\n", "aGVsbG8=\n",
        "\n[... 1 bytes left out ...]\n", "s3cr", "s3cret-value-of-some-lengt", "\0\x1b[", "é",
    ],
)  # fmt: skip
def test_the_time_is_linear_in_the_length(piece: str) -> None:
    mask = Mask([f"s3cret-value-of-some-length-{number}" for number in range(10)], ["abcd"])
    text = piece * (400_000 // len(piece))
    begun = time.process_time()
    mask.apply(text)
    assert time.process_time() - begun < 1.5, "some 0.05 s; quadratic, it would be minutes"


def test_ten_megabytes_are_masked() -> None:
    text = f"{TOKEN} and words\n" * (10_000_000 // 51)
    begun = time.process_time()
    assert TOKEN not in Mask(["words-of-some-length"]).apply(text)
    assert time.process_time() - begun < 10
