"""What a run's imports leave out is there for who uses it."""

from __future__ import annotations

import subprocess
import sys

import pytest

RUN = "from sandbox_agent.lean_imports import import_for_run; import_for_run()\n"


def after(imports: str, code: str) -> str:
    argv = [sys.executable, "-c", imports + code]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        ("import asyncio.base_events as b, ssl; print(b.ssl.SSLContext is ssl.SSLContext)", "True"),
        ("import asyncio.sslproto as p; print(p.SSLAgainErrors[0].__name__)", "SSLWantReadError"),
        ("import subprocess; print(subprocess.check_output(['echo', 'a'], text=True))", "a"),
        ("import pydantic.types as t; print(t.secrets.compare_digest('a', 'a'))", "True"),
        ("import pathlib; print(pathlib.Path('/a b').as_uri())", "file:///a%20b"),
        ("import inspect; print(inspect.getsource(inspect.getsource)[:14])", "def getsource("),
        ("import linecache, re; print(len(linecache.getlines(re.__file__)) > 9)", "True"),
        ("import locale; print(isinstance(locale.getlocale(), tuple))", "True"),
        (
            "import yaml; print(yaml.safe_load('a: 2026-11-29'))",
            "{'a': datetime.date(2026, 11, 29)}",
        ),
        ("import yaml; print(yaml.reader.Reader.NON_PRINTABLE.search('a\\0').start())", "1"),
        ("import re; print(type(re.compile('a')).__name__)", "Pattern"),
        ("import uuid; print(uuid.uuid5(uuid.NAMESPACE_DNS, 'a').version)", "5"),
    ],
)
def test_what_was_put_off_is_there_when_it_is_used(code: str, shown: str) -> None:
    assert after(RUN, code) == shown


def test_a_loop_speaks_tls() -> None:
    """To a server that does not: the error is the library's own."""
    code = """
import asyncio

async def main():
    async def serve(reader, writer):
        writer.write(b"no TLS here, but long enough for a header\\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        await asyncio.open_connection("127.0.0.1", port, ssl=True)
    except OSError as error:
        print(type(error).__mro__[-5].__name__)
    server.close()

asyncio.run(main())
"""
    assert after(RUN, code) == "SSLError"
