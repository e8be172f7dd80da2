"""What is put off is the real module for who uses it."""

from __future__ import annotations

import subprocess
import sys

import pytest

EARLY = """
import sys
sys.path[:0] = {roots!r}
from sandbox_agent_sandbox import put_off
put_off.import_msgspec()
put_off.import_traceback()
put_off.import_socket()
"""


def python(code: str) -> str:
    roots = [entry for entry in sys.path if entry]
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", EARLY.format(roots=roots) + code],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_they_come_without_what_they_draw_in() -> None:
    left_out = ["platform", "selectors", "textwrap", "typing_extensions", "msgspec.inspect"]
    assert python(f"print([one for one in {left_out} if one in sys.modules])") == "[]"


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        ("import msgspec; print(msgspec.json.schema(int))", "{'type': 'integer'}"),
        ("import msgspec; print(msgspec.inspect.type_info(str))", None),
        ("from msgspec import inspect; print(inspect.type_info(str))", None),
        ("import msgspec.inspect as i; print(i.type_info(str))", None),
        ("import uuid; print(uuid._LINUX, uuid.UUID(int=7).int)", "True 7"),
        ("import platform; print(platform.system())", "Linux"),
        # Python 3.13 has it no more.
        ("import uuid; print(not hasattr(uuid, 'platform') or uuid.platform.node() != '')", "True"),
        ("import textwrap; print(textwrap.dedent(' x'))", "x"),
        ("import socket; print(socket.selectors.EVENT_READ)", "1"),
        ("import selectors; print(selectors.DefaultSelector.__name__)", "EpollSelector"),
    ],
)
def test_what_was_put_off_is_there_when_it_is_used(code: str, shown: str | None) -> None:
    assert python(code) == (shown or "StrType(min_length=None, max_length=None, pattern=None)")


def test_the_documentation_of_a_type_is_in_its_schema() -> None:
    """Which takes textwrap."""
    code = """
import msgspec

class Lamp(msgspec.Struct):
    '''
    A lamp.

    Indented.
    '''

print(msgspec.json.schema(Lamp)["$defs"]["Lamp"]["description"].splitlines())
"""
    assert python(code) == "['A lamp.', '', 'Indented.']"


def test_a_group_of_exceptions_is_shown() -> None:
    """Which takes textwrap."""
    code = """
import traceback

try:
    raise ExceptionGroup("several", [ValueError("first"), KeyError("second")])
except ExceptionGroup as error:
    shown = "".join(traceback.TracebackException.from_exception(error).format())
    print("ValueError: first" in shown, "KeyError: 'second'" in shown)
"""
    assert python(code) == "True True"


def test_a_name_that_the_module_has_not_is_an_attribute_error() -> None:
    code = """
import msgspec
try:
    msgspec.inspect.no_such_name
except AttributeError as error:
    print(error)
"""
    assert python(code) == "module 'msgspec.inspect' has no attribute 'no_such_name'"
