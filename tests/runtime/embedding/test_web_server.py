"""The web server of the manual: the work stops when a client goes away, and the server goes on."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import notebook
import observer
import pytest

LIMIT = 60.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """uvicorn on a socket in the folder: no port that another server could have."""
    (tmp_path / "server.py").write_text(notebook.SERVER)
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")}
    command = [sys.executable, "-m", "uvicorn", "server:app", "--uds", "server.sock"]
    with (
        open(tmp_path / "log", "wb") as log,
        subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=log) as process,
    ):
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(LIMIT)
            process.kill()


def ask(folder: Path) -> socket.socket:
    """A client that has sent its request."""
    deadline = time.monotonic() + LIMIT
    while True:
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(LIMIT)
        try:
            client.connect(os.path.relpath(folder / "server.sock"))
        except OSError:
            client.close()
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.02)
            continue
        client.sendall(b"GET /run?prompt=Go. HTTP/1.1\r\nHost: server\r\nConnection: close\r\n\r\n")
        return client


def read_until(client: socket.socket, text: bytes) -> None:
    read = b""
    while text not in read:
        piece = client.recv(65536)
        assert piece, read
        read += piece


def test_the_work_stops_when_the_client_goes_away_and_the_server_goes_on(
    tmp_path: Path, server: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the address of a socket has 107 bytes at most
    mark = notebook.write_steps(tmp_path)
    with ask(tmp_path) as client:
        read_until(client, b"data: Started")
        observer.eventually(lambda: len(observer.marked(mark)) >= 2, LIMIT)
        going = observer.marked(mark)
    with observer.watching(going) as handles:
        assert observer.wait_gone(handles, LIMIT)[1] == [], (tmp_path / "log").read_text()
    notebook.write_quick_steps(tmp_path)
    with ask(tmp_path) as client:
        read_until(client, b"data: RunResult")
    assert server.poll() is None
