"""Text from inside has no effect on a CI system that reads the log, and can still be read."""

from __future__ import annotations

import json
import time

import pytest
from sandbox_agent.reports.ci.log_commands import disarm, disarm_json, github_command


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("::add-mask::a", r"\x3a:add-mask::a"),
        ("a\n \t\u00a0::stop-commands::x", "a\n \t\u00a0\\x3a:stop-commands::x"),
        ("a\r::error::x", "a\r\\x3a:error::x"),
        ("a ##[error]x ##vso[task.setvariable]x", r"a \x23#[error]x \x23#vso[task.setvariable]x"),
        ("##VSO[a] ###[b]", r"\x23#VSO[a] #\x23#[b]"),
        ("##teamcity[testStarted]", r"\x23#teamcity[testStarted]"),
        ("section_start:1:a\r\x1b[0K", "section_start\\x3a1:a\r\x1b[0K"),
        ("travis_fold:start:a", r"travis_fold\x3astart:a"),
        ("--- a\n+++ b\n~~~ c\n^^^ +++", "\\x2d-- a\n\\x2b++ b\n\\x7e~~ c\n\\x5e^^ +++"),
        ("a::b ::c ## Title [x] section_start", None),
        ("std::vector<int>\n--------\n+++++\n# heading", None),
    ],
)
def test_a_command_is_disarmed_and_other_text_stays(text: str, shown: str | None) -> None:
    assert disarm(text) == (text if shown is None else shown)
    assert disarm(disarm(text)) == disarm(text)


def test_json_keeps_its_meaning() -> None:
    line = json.dumps({"text": "##vso[a] ##[b] ## c ###[d]"}).encode()
    assert b"##vso[" not in disarm_json(line) and b"##[" not in disarm_json(line)
    assert json.loads(disarm_json(line)) == json.loads(line)


def test_a_command_of_ours_holds_no_other() -> None:
    line = github_command("error", "50%\n::add-mask::a\r\x1b[2J", title="a: b,\nc", file="")
    assert line == ("::error title=a%3A b%2C%0Ac::50%25%0A\\x3a:add-mask::a\\x0d\\x1b[2J\n")
    assert github_command("endgroup") == "::endgroup::\n"


@pytest.mark.parametrize("piece", [" ", ":", "::", "#", "##", "\r", "section_", "-"])
def test_the_time_is_linear_in_the_length(piece: str) -> None:
    begun = time.process_time()
    disarm(piece * (300_000 // len(piece)))
    assert time.process_time() - begun < 2, "some 0.2 s; quadratic, it would be minutes"
