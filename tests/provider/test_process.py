"""The stub as a process of its own."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import paths

from provider import Answer, Script
from provider.asking import PATIENCE, ask, asked, text

TESTS = paths.TESTS
COMMAND = [sys.executable, "-m", "provider"]


@contextmanager
def started(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    process = subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, text=True, cwd=TESTS)
    assert process.stdout is not None
    try:
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_it_says_where_it_is_and_answers_from_its_file(tmp_path: Path) -> None:
    file = tmp_path / "script.json"
    file.write_bytes(msgspec.json.encode(Script((Answer(text="from the file", hold_at=0),))))
    with started("--script", str(file)) as (process, address), asked(address) as connection:
        post = urllib.request.Request(f"{address}/_stub/open?number=0", method="POST")
        urllib.request.urlopen(post, timeout=PATIENCE).close()
        assert text(json.loads(connection.getresponse().read())) == "from the file"
        with urllib.request.urlopen(f"{address}/_stub/requests", timeout=PATIENCE) as answer:
            told = json.loads(answer.read())
        assert told["requests"][0]["body"]["model"] == "m" and told["violations"] == []
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0


def test_without_a_script_it_is_done_at_once() -> None:
    with started() as (_, address):
        assert text(ask(address)) == "Done."


PARENT = f"""
import subprocess, sys, time
child = subprocess.Popen({COMMAND!r}, stdout=subprocess.PIPE, text=True)
print(child.pid, child.stdout.readline().strip(), flush=True)
time.sleep(1000)  # it is killed
"""


def test_it_dies_with_its_parent() -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True, cwd=TESTS
    )
    assert parent.stdout is not None
    with parent.stdout:
        pid, _, address = parent.stdout.readline().partition(" ")
    child = os.pidfd_open(int(pid))
    try:
        assert text(ask(address.strip())) == "Done."
        parent.kill()
        parent.wait()
        ended, _, _ = select.select([child], [], [], PATIENCE)
        assert ended
    finally:
        os.close(child)
