"""What init says of a call comes before the call's result, also when the host hears all at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import observer
import paths

NAMES = {"sandbox-call", "sandbox-worker"}
"""Of a call's processes."""


def test_each_call_names_its_limit_when_the_host_was_stopped_meanwhile(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    os.mkfifo(tmp_path / "go")
    (tmp_path / "go").chmod(0o666)
    script = Path(__file__).with_name("limited_host.py")
    host = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths.IMPORT_PATHS)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert observer.eventually(lambda: len(list(tmp_path.glob("up-*"))) == 2, 30)
        host.send_signal(signal.SIGSTOP)
        (tmp_path / "go").write_bytes(b"")  # opened, which both wait for
        # Both calls end without the host: what is left of them is for it to hear.
        assert observer.eventually(lambda: not NAMES & names_below(host.pid), 30)
        host.send_signal(signal.SIGCONT)
        out, _ = host.communicate(timeout=30)
    finally:
        host.kill()
        host.wait()
    assert out.splitlines() == ["error call_memory", "error call_memory", "()"]


def names_below(pid: int) -> set[str]:
    return {one.name for one in observer.descendants(pid)}
