"""Real programs that put themselves into the background: none outlives the call that started it."""

from __future__ import annotations

import asyncio
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import kinds
import observer
import pytest
from sandbox_agent_ipc.cancel_reason import CancelReason
from sandbox_agent_sandbox.outcome import CallResult, Outcome
from sandbox_agent_sandbox.plan import PlanKind
from sandboxes import command, run, sandbox
from striking import NAMES, process_name

NGINX = """\
pid nginx.pid;
user root;
events {}
http {
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    server { listen unix:nginx.sock; }
}
"""


@dataclass(frozen=True)
class Daemoniser:
    """program: what must be installed. start: a command that returns while the daemon lives on.
    up: a command that succeeds once it does. shown: how the daemon's command line begins. needs:
    what a plan without namespaces may refuse."""

    program: str
    start: str
    up: str
    shown: str
    needs: str = ""

    def __str__(self) -> str:
        return self.program


DAEMONISERS = [
    Daemoniser(
        "tmux",
        "tmux -S tmux.sock -f /dev/null new-session -d 'sleep 300.{mark}'",
        "tmux -S tmux.sock has-session",
        "tmux ",
        "terminals",
    ),
    Daemoniser(
        "screen",
        "mkdir -m 700 $TMPDIR/s; export SCREENDIR=$TMPDIR/s; screen -dmS it sleep 300.{mark}",
        "screen -S it -Q select .",
        "SCREEN ",
        "terminals by their paths",
    ),
    Daemoniser(
        "redis-server",
        "redis-server --daemonize yes --port 0 --unixsocket redis.sock --save '' --dir .",
        "test -S redis.sock",
        "redis-server ",
        "path sockets",
    ),
    Daemoniser(
        "nginx",
        "nginx -p $PWD -c nginx.conf -e error.log",
        "test -s nginx.pid",
        "nginx: master process",
        "path sockets",
    ),
    Daemoniser(
        "start-stop-daemon",
        "start-stop-daemon --start --background --make-pidfile --pidfile $PWD/pid"
        " --exec $(command -v sleep) -- 300.{mark}",
        "test -s pid",
        "{sleep} 300.",
    ),
]


TRIES = {
    "terminals": "python3 -c 'import os; os.openpty()' && id -un",
    "terminals by their paths": "python3 -c 'import os; path = os.ttyname(os.openpty()[1]);"
    " os.open(path, os.O_RDWR | os.O_NOCTTY)'",
    "path sockets": "python3 -c 'import socket; socket.socket(socket.AF_UNIX)'",
}
"""Commands that succeed where a daemon's need is met."""


def skip_what_is_refused(folder: Path, needs: str) -> None:
    """Without namespaces some programs cannot run, whatever ends them. doctor says so, too."""
    if not needs or kinds.IN_FORCE is not PlanKind.NO_NAMESPACES:
        return

    async def main() -> CallResult:
        async with sandbox(folder) as cell:
            return await cell.call(command(folder, TRIES[needs]))

    if run(main).outcome is not Outcome.OK:
        pytest.skip(f"needs {needs} without namespaces")


@pytest.mark.parametrize("end", ["interrupt", "natural end"])
@pytest.mark.parametrize("daemoniser", DAEMONISERS, ids=str)
def test_a_daemon_ends_with_its_call(tmp_path: Path, daemoniser: Daemoniser, end: str) -> None:
    if shutil.which(daemoniser.program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None:
        pytest.skip(f"needs {daemoniser.program}")
    skip_what_is_refused(tmp_path, daemoniser.needs)
    mark = observer.new_mark()
    (tmp_path / "nginx.conf").write_text(NGINX)
    os.mkfifo(tmp_path / "go")
    for path in tmp_path.iterdir():
        path.chmod(0o666)
    text = f"""
    {daemoniser.start.format(mark=mark)} || exit
    until {daemoniser.up} >/dev/null 2>&1; do sleep 0.01; done
    echo up; read line < go
    """
    shown = daemoniser.shown.format(sleep=shutil.which("sleep"))

    async def main() -> CallResult:
        async with sandbox(tmp_path, grace=0.2, term=0.2, spares=0) as cell:
            output = bytearray()
            up = asyncio.Event()

            def on_output(stream: str, data: bytes) -> None:
                output.extend(data)
                if output.endswith(b"up\n"):
                    up.set()

            request = command(tmp_path, text, on_output=on_output)
            call = asyncio.create_task(cell.call(request))
            waiting = asyncio.create_task(up.wait())
            async with asyncio.timeout(20):
                await asyncio.wait({call, waiting}, return_when=asyncio.FIRST_COMPLETED)
            assert up.is_set(), (output, call)
            kin = inside()
            daemons = await asyncio.to_thread(
                observer.eventually,
                lambda: [one for one in inside() if one.command.startswith(shown)],
                20,
            )
            if end == "interrupt":
                cell.cancel(request.id, CancelReason.INTERRUPT)
            else:
                (tmp_path / "go").write_text("\n")
            result = await call
            left = [one for one in (*kin, *daemons) if observer.look(one.pid) == one]
            assert left == [], "returned means stopped"
            assert inside() == []
            assert observer.marked(mark) == []
            return result

    expected = {Outcome.OK} if end == "natural end" else {Outcome.CANCELLED, Outcome.KILLED}
    assert run(main).outcome in expected


def inside() -> list[observer.Process]:
    """The processes of calls: what is below their inits, or supervisors where there are no
    namespaces. Orphans come to them, too."""
    below = observer.descendants(os.getpid())
    keepers = [one for one in below if process_name(one.pid) == NAMES["call init"]]
    return [one for keeper in keepers for one in observer.descendants(keeper.pid)]
