"""YAML is plain data with places; everything else is refused with file, line, column and hint."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sandbox_agent.config.yaml_source import MAX_BYTES, SourceMap, load, loads
from sandbox_agent.errors import ConfigError


def read(text: str | bytes) -> tuple[Any, SourceMap]:
    raw = text.encode() if isinstance(text, str) else text
    return loads(raw, "t.yaml", Path("/folder"))


def refusal(text: str | bytes) -> str:
    with pytest.raises(ConfigError) as caught:
        read(text)
    return str(caught.value)


def test_every_value_knows_its_line() -> None:
    _, source = read("a: 1\nb:\n  - x\n  - y: 2\n    z: 3\n")
    assert source.where(("a",)) == "t.yaml:1"
    assert source.where(("b",)) == "t.yaml:2"
    assert source.where(("b", 1)) == "t.yaml:4"
    assert source.where(("b", 1, "z")) == "t.yaml:5"


def test_what_was_not_written_is_placed_at_what_surrounds_it() -> None:
    _, source = read("a: 1\nb:\n  c: 1\n")
    assert source.where(("b", "missing", 0)) == "t.yaml:2"
    assert source.where(("missing",)) == "t.yaml:1"


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1", 1), ("-1_000", -1000), ("0x1f", 31), ("0o17", 15), ("1.5", 1.5), ("1.e+3", 1000.0),
        ("true", True), ("off", False), ("~", None), ("", None), ("text", "text"),
        ("2024-01-01", "2024-01-01"), ("12:30", "12:30"), ("1.2.3", "1.2.3"), ("'1'", "1"),
        ("0123", "0123"), ("-007", "-007"), ("12:30:45", "12:30:45"), ("1e3", 1000.0),
        ("1e-07", 1e-07), ("12e", "12e"), ("=", "="), ("<<", "<<"), ("2**3", "2**3"),
        ("!!str 1", "1"), ('"\\ud83d\\ude00"', "\U0001f600"), ("'\\ud83d'", "\\ud83d"),
        ("5s", "5s"), ("1e", "1e"), ("[1, a]", [1, "a"]), ("{k: v}", {"k": "v"}),
    ],
)  # fmt: skip
def test_values_are_what_they_look_like(written: str, value: Any) -> None:
    data, _ = read(f"a: {written}\n")
    assert data == {"a": value}
    assert type(data["a"]) is type(value)


def test_anchors_aliases_and_merge_keys_work() -> None:
    data, source = read("a: &x {p: 1, q: 2}\nb: *x\nc:\n  p: 3\n  <<: *x\n")
    assert data == {"a": {"p": 1, "q": 2}, "b": {"p": 1, "q": 2}, "c": {"p": 3, "q": 2}}
    assert source.where(("c", "p")) == "t.yaml:4"
    assert source.where(("c", "q")) == "t.yaml:1"


def test_a_byte_order_mark_is_no_part_of_the_text() -> None:
    assert read(b"\xef\xbb\xbfa: 1\n")[0] == {"a": 1}


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "t.yaml: is empty\n  hint: see `sandbox-agent init demo` for a start"),
        (
            "# a comment\n",
            "t.yaml: is empty\n  hint: see `sandbox-agent init demo` for a start",
        ),
        (
            "a: 1\nb: 2\na: 3\n",
            "t.yaml:3:1: a: the key 'a' is there twice, the first time in line 1\n"
            "  hint: remove one of them",
        ),
        (
            "x:\n  a: 1\n  a: 3\n",
            "t.yaml:3:3: x.a: the key 'a' is there twice, the first time in line 2\n"
            "  hint: remove one of them",
        ),
        ("a: &a [*a]\n", "t.yaml:1:4: contains itself by an alias\n  hint: remove the alias"),
        (
            BOMB,
            "t.yaml:1:34: stands for more than 20000 values, with aliases expanded\n"
            "  hint: use fewer aliases",
        ),
        (
            "a: b: c\n",
            "t.yaml:1:5: malformed YAML: mapping values are not allowed here\n"
            '  hint: put text that contains ": " in quotes, or fix the indentation',
        ),
        (
            "a:\n\tb: 1\n",
            "t.yaml:2:1: malformed YAML: a tab where only spaces are allowed\n"
            "  hint: indent with spaces",
        ),
        (
            "a: 'x\n",
            "t.yaml:2:1: malformed YAML: found unexpected end of stream\n  hint: close the quote",
        ),
        (
            "- a\nb: 1\n",
            "t.yaml:2:1: malformed YAML: this line does not fit under the one above it\n"
            "  hint: check the indentation and the quotes around here",
        ),
        (
            "a: @x\n",
            "t.yaml:1:4: malformed YAML: found character '@' that cannot start any token\n"
            "  hint: put text that starts with this character in quotes",
        ),
        (
            "a: *nope\n",
            "t.yaml:1:4: malformed YAML: found undefined alias 'nope'\n"
            "  hint: define it with & further up, or put the text in quotes",
        ),
        (
            "a: 1\n---\nb: 2\n",
            "t.yaml:2:1: malformed YAML: a second document starts here\n"
            "  hint: remove it: a file has one document",
        ),
        (
            b"a: 1\nb: caf\xe9\n",
            "t.yaml:2:7: byte 0xe9 is not UTF-8\n  hint: save the file as UTF-8",
        ),
        (
            "a: 1\nb: \x07\n",
            "t.yaml:2:4: the character U+0007 is not allowed in YAML\n  hint: remove it",
        ),
        (
            "a: !!python/object/apply:os.system [x]\n",
            "t.yaml:1:4: the tag !!python/object/apply:os.system is not allowed: plain data only\n"
            "  hint: remove the tag",
        ),
        ("on: 1\n", 't.yaml:1:1: the key on is not text here\n  hint: put it in quotes: "on"'),
        ("? [a]\n: 1\n", "t.yaml:1:3: a key must be text\n  hint: write `name: value`"),
        (
            "a: " + "[" * 70 + "]" * 70,
            "t.yaml:1:68: is nested deeper than 64 levels\n  hint: nest less",
        ),
        (
            "[" * 5000,
            "t.yaml:1:1: is nested too deeply\n  hint: a task file needs a few levels",
        ),
        (
            "a: 18446744073709551616\n",
            "t.yaml:1:4: '18446744073709551616' cannot be read as int\n"
            "  hint: put it in quotes if it is text",
        ),
        (
            "a: 1e400\n",
            "t.yaml:1:4: '1e400' cannot be read as float\n  hint: put it in quotes if it is text",
        ),
        (
            'a: "\\ud83d"\n',
            "t.yaml:1:4: an escape stands for half of a character\n"
            "  hint: write the character itself",
        ),
        (
            "a: [${x}]\n",
            "t.yaml:1:6: malformed YAML: expected ',' or ']', but got '{'\n"
            "  hint: put text with ${name} in quotes",
        ),
        (
            "a: [echo #1]\n",
            "t.yaml:2:1: malformed YAML: expected ',' or ']', but got '<stream end>'\n"
            "  hint: check the indentation and the quotes around here",
        ),
        (
            "a: " + "9" * 5000,
            "t.yaml:1:4: '" + "9" * 40 + "...' cannot be read as int\n"
            "  hint: put it in quotes if it is text",
        ),
    ],
)  # fmt: skip
def test_what_is_no_plain_yaml_is_refused_with_place_and_mend(
    text: str | bytes, message: str
) -> None:
    assert refusal(text) == message


ENDS = ": ` #` begins a comment"


@pytest.mark.parametrize(
    ("text", "doubts"),
    [
        ("prompt: Fix it, see #42, now\n", ["prompt: the text ends before ' #42, now'" + ENDS]),
        ("prompt: Fix  # the usual\n", ["prompt: the text ends before '  # the usual'" + ENDS]),
        ("prompt: #42\n", ["prompt: the text ends before ' #42'" + ENDS]),
        ("- final: Done #1\n", ["[0].final: the text ends before ' #1'" + ENDS]),
        ("- a\n- b #c\n", ["[1]: the text ends before ' #c'" + ENDS]),
        ("verify: [\n  make it # all\n]\n", ["verify[0]: the text ends before ' # all'" + ENDS]),
        ("a: &x one #2\nb: *x\n", ["a: the text ends before ' #2'" + ENDS]),
        ("a: off\nb: 'no'\nc: true\n", ["a: off is read as false"]),
        # Comments, and no doubt about it.
        ("# a: b #c\na: b  # c\nb: c # d\nc: 1 #d\nd: 'e' #f\ne: x#y\n", []),
        ("prompt: |\n  Fix #42\n", []),
        ("prompt: 'Fix #42'  # quoted\n", []),
        ("sandbox: # walls\n  network: none\n", []),
    ],
)  # fmt: skip
def test_what_may_be_meant_otherwise_is_noted_with_its_place(text: str, doubts: list[str]) -> None:
    _, source = read(text)
    assert [f"{doubt.field}: {doubt.what}" for doubt in source.doubts] == doubts
    assert all(doubt.line and doubt.hint for doubt in source.doubts)


def test_a_file_in_doubt_is_warned_of(tmp_path: Path) -> None:
    path = tmp_path / "t.yaml"
    path.write_text("prompt: Fix #42\n")
    with pytest.warns(UserWarning, match=r"t.yaml:1:9: prompt: the text ends before ' #42'"):
        assert load(path)[0] == {"prompt": "Fix"}


@pytest.mark.parametrize("form", ["json", "block"])
@pytest.mark.parametrize("say", ["plain", "\U0001f600"], ids=["ascii", "emoji"])
def test_a_long_plain_list_is_read_quickly(form: str, say: str) -> None:
    """Limits are in bytes; what counts as many is what aliases make of few."""
    steps = [{"calls": [{"shell": {"command": f"{say} {n}"}}]} for n in range(6700)]
    if form == "json":
        text = json.dumps(steps)
    else:
        text = "".join(f"- calls:\n  - shell: {{command: {say} {n}}}\n" for n in range(6700))
    began = time.process_time()
    assert read(text)[0] == steps
    assert time.process_time() - began < 8  # 1 s on a quiet machine; the other parser takes 20


def test_aliases_may_double_a_long_file_and_not_more() -> None:
    plain = "".join(f"- {{a: {n}}}\n" for n in range(8000))
    assert len(read(f"a: &a\n{plain}b: *a\n")[0]["b"]) == 8000
    assert "use fewer aliases" in refusal(f"a: &a\n{plain}b: [*a, *a]\n")


@pytest.mark.parametrize("opener", ["[", "{a: ", "- ", "? ", "[{a: "])
def test_the_quick_parser_meets_no_deep_nesting(opener: str) -> None:
    """Its recursion is in C: it would overflow the stack, and no exception says so."""
    refusal(opener * 100_000)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "there is no such file\n  hint: check the path"),
        (lambda path: path.mkdir(), "is a folder, not a file\n  hint: name a file"),
        (
            lambda path: path.write_bytes(b"#" * (MAX_BYTES + 1)),
            "is larger than 1024 KiB\n"
            "  hint: a task file is short; keep long text in a prompt_file",
        ),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, make: Any, message: str) -> None:
    path = tmp_path / "t.yaml"
    make(path)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value) == f"{path}: {message}"


@settings(database=None)
@given(st.binary(max_size=200) | st.text(alphabet="ab:-[]{}&*!#|>'\"%@`\t\n ,?<~.0", max_size=60))
def test_any_bytes_are_data_or_a_config_error(raw: bytes | str) -> None:
    try:
        read(raw)
    except ConfigError as error:
        assert str(error).startswith("t.yaml")
