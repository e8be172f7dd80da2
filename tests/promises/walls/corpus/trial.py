"""Tries the attempts of a class in a sandbox or without one, and lets the proofs judge."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from identity import Person

from .attempt import Attempt
from .outside import Outside
from .stage import HERE, stage

LIMIT = 60.0
"""Seconds for the command with all attempts of a class."""


@dataclass(frozen=True)
class Result:
    """One attempt. succeeded: so its proof says. wrong: why its neighbour does not work. said: what
    became of the attack, as it says itself. told: what the sandbox's command printed at its end.
    undone: it had succeeded, and when the command had ended its proof saw nothing any more."""

    attempt: Attempt
    succeeded: bool
    wrong: str = ""
    said: str = ""
    told: str = ""
    undone: bool = False


@dataclass(frozen=True)
class Request:
    """What a sandbox needs to know to run a command. home: of who starts it."""

    work: Path
    home: Path
    library: Path
    policy: dict[str, Any]
    path: str = ""
    """An entry of $PATH in the workspace, before the others."""


Sandbox = Callable[[Request, Sequence[str]], list[str]]
"""The command line that runs a command in a sandbox."""


def no_sandbox(request: Request, argv: Sequence[str]) -> list[str]:
    return list(argv)


def ours(request: Request, argv: Sequence[str]) -> list[str]:
    """`sandbox-agent exec`."""
    return _ours(request, argv, {})


def without_namespaces(request: Request, argv: Sequence[str]) -> list[str]:
    """The same, by the plan for hosts without namespaces. What is not hidden there gets through."""
    return _ours(request, argv, {"plan": "no_namespaces", "allow_degraded": ["hide"]})


def shared_proc(request: Request, argv: Sequence[str]) -> list[str]:
    """The same, by the plan for hosts where no fresh /proc can be mounted."""
    return _ours(request, argv, {"plan": "shared_proc"})


def _ours(request: Request, argv: Sequence[str], more: dict[str, Any]) -> list[str]:
    agent = str(Path(sys.prefix, "bin/sandbox-agent"))
    policy = request.work.parent / "policy.json"
    policy.write_text(json.dumps(filled(request) | more))
    policy.chmod(0o644)
    return [agent, "exec", "--policy", str(policy), "--", *argv]


def filled(request: Request) -> dict[str, Any]:
    """The policy with the paths of the stage."""
    text = json.dumps(request.policy)
    found = dict(json.loads(text.replace("{library}", str(request.library))))
    for key in {"hide", "protect", "read"} & found.keys():
        found[key] = [str(request.work / name) for name in found[key]]
    return found


def request(outside: Outside, policy: dict[str, Any], **more: Any) -> Request:
    places = {name: Path(outside.facts[name]) for name in ("work", "home", "library")}
    return Request(policy=policy, **places, **more)


def environment(outside: Outside, sandboxed: Request) -> dict[str, str]:
    found = {
        "HOME": outside.facts["home"],
        "SERVICE_API_KEY": outside.canaries["environment"].decode(),
        "KEY_NAME": outside.facts["key_name"],
        "KEY_SECRET": outside.canaries["keyring"].decode(),
    }
    if sandboxed.path:
        found["PATH"] = f"{sandboxed.work / sandboxed.path}:{os.environ['PATH']}"
    return found


def try_all(
    person: Person, module: ModuleType, attempts: list[Attempt], sandbox: Sandbox
) -> list[Result]:
    """The results of attempts of one class. Those that need a sandbox of their own get one."""
    groups = [attempts]
    if sandbox is not no_sandbox:  # else there is nothing that they could bring down
        alone = [[one] for one in attempts if one.alone]
        groups = [[one for one in attempts if not one.alone], *alone]
    return [result for group in groups if group for result in _try(person, module, group, sandbox)]


def _try(
    person: Person, module: ModuleType, attempts: list[Attempt], sandbox: Sandbox
) -> list[Result]:
    with stage(person, module, attempts) as outside, contextlib.ExitStack() as stack:
        outside.sandboxed = sandbox is not no_sandbox
        plain = outside.run

        def run(
            argv: list[str], sandboxed: bool = False, path: str = "", read: Sequence[str] = ()
        ) -> Any:
            if not sandboxed:
                return plain(argv)
            asked = request(
                outside,
                {"read": [str(Path(outside.facts["work"], one)) for one in read]},
                path=path,
            )
            return person.run(
                sandbox(asked, argv), cwd=asked.work, env=environment(outside, asked), timeout=30
            )

        outside.run = run
        facts = Path(outside.facts["work"], "stage.json")
        facts.write_text(json.dumps(outside.facts))
        person.own(facts)
        process = _start(person, module, attempts, sandbox, outside, stack)
        stack.callback(_end, process, outside)
        _until_ready(process, outside)
        early = {one.name: _judge(one, outside) for one in attempts if not one.after}
        _release(process, outside)
        late = {one.name: _judge(one, outside) for one in attempts if one.after}
        undone = {
            one.name
            for one in attempts
            if outside.sandboxed and early.get(one.name) and not _judge(one, outside)
        }
        answers = _answers(outside)
        broken = {"error": f"never tried: {outside.facts.get('broken', '')}"}
        nothing = {"neighbour": broken, "attack": broken}
        verdicts = early | late
        return [
            Result(
                one,
                verdicts[one.name],
                answers.get(one.name, nothing)["neighbour"].get("error", ""),
                answers.get(one.name, nothing).get("attack", {}).get("error", ""),
                _errors(outside),
                one.name in undone,
            )
            for one in attempts
        ]


def _judge(one: Attempt, outside: Outside) -> bool:
    return bool(one.proof(outside, one.name))


def _answers(outside: Outside) -> dict[str, Any]:
    path = Path(outside.facts["work"], "answers.json")
    return dict(json.loads(path.read_text())) if path.exists() else {}


def _start(
    person: Person,
    module: ModuleType,
    attempts: list[Attempt],
    sandbox: Sandbox,
    outside: Outside,
    stack: contextlib.ExitStack,
) -> subprocess.Popen[str]:
    work = Path(outside.facts["work"])
    class_name = module.__name__.rpartition(".")[2]
    names = [one.name for one in attempts]
    driver = [
        sys.executable,
        "-I",
        "-S",
        str(work / "corpus/driver.py"),
        class_name,
        str(work / "stage.json"),
        *names,
    ]
    alone = len(attempts) == 1 and attempts[0].alone
    asked = request(outside, module.ALONE if alone else getattr(module, "POLICY", {}))
    argv = [sys.executable, "-I", "-S", str(HERE / "starter.py"), *sandbox(asked, driver)]
    # What a careless starter leaves open for its children.
    secret = os.memfd_create("of the starter", 0)
    os.write(secret, outside.canaries["descriptor"])
    import socket

    one, other = socket.socketpair()
    other.sendall(outside.canaries["service"])
    for closing in (one, other):
        stack.callback(closing.close)
    stack.callback(os.close, secret)
    errors = os.open(work.parent / "errors", os.O_CREAT | os.O_RDWR, 0o644)
    stack.callback(os.close, errors)
    options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": errors, "stderr": errors}
    if outside.terminal:
        slave = outside.terminal.slave
        options = {
            "stdin": slave,
            "stdout": slave,
            "stderr": slave,
            "start_new_session": True,
            "preexec_fn": _take_terminal,
        }
    process = person.start(
        argv, cwd=work, env=environment(outside, asked), pass_fds=(secret, one.fileno()), **options
    )
    if outside.terminal:
        outside.terminal.group = process.pid
    return process


def _take_terminal() -> None:
    import fcntl

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _until_ready(process: subprocess.Popen[str], outside: Outside) -> None:
    """Waits until every attack has been made, or the command has ended."""
    outside.facts["ready"] = os.open(
        Path(outside.facts["work"], "ready"), os.O_RDONLY | os.O_NONBLOCK
    )
    handle = os.pidfd_open(process.pid)
    try:
        waiting = [outside.facts["ready"], handle]
        if outside.terminal:
            waiting.append(outside.terminal.master)
        deadline = time.monotonic() + LIMIT
        while (left := deadline - time.monotonic()) > 0:
            found = select.select(waiting, [], [], left)[0]
            if outside.terminal:
                outside.terminal.pump()
            if handle in found:
                return
            if outside.facts["ready"] in found and os.read(outside.facts["ready"], 100):
                return
        raise AssertionError(f"not ready in {LIMIT} s: {_errors(outside)}")
    finally:
        os.close(handle)
        os.close(outside.facts["ready"])


def _errors(outside: Outside) -> str:
    if outside.terminal:
        return str(outside.terminal.seen[-3000:].decode(errors="replace"))
    return Path(outside.facts["folder"], "errors").read_text()[-3000:]


def _release(process: subprocess.Popen[str], outside: Outside) -> None:
    if process.poll() is None:
        release = os.open(Path(outside.facts["work"], "release"), os.O_RDWR | os.O_NONBLOCK)
        os.write(release, b"go\n")
        deadline = time.monotonic() + LIMIT
        while process.poll() is None and time.monotonic() < deadline:
            if outside.terminal:
                outside.terminal.pump()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.02 if outside.terminal else LIMIT)
        os.close(release)
    if not _answers(outside):
        outside.facts["broken"] = _errors(outside)


def _end(process: subprocess.Popen[str], outside: Outside) -> None:
    """Ends whatever an attack without a sandbox has left."""
    Path(outside.facts["work"], "stop").touch()
    if process.poll() is None:
        process.kill()
    process.wait()
    deadline = time.monotonic() + 10
    token = outside.facts["token"]
    while time.monotonic() < deadline:
        left = [pid for pid in _all() if _belongs(pid, token, outside.facts["mark"])]
        if not left:
            return
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    raise AssertionError("processes of attempts without a sandbox are still there")


def _all() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _belongs(pid: int, token: str, mark: str) -> bool:
    with contextlib.suppress(OSError):
        comm = Path(f"/proc/{pid}/comm").read_text()
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
        state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0]
        threads = len(os.listdir(f"/proc/{pid}/task"))
        alive = state not in (b"Z", b"X") or threads > 1
        return alive and (comm.startswith(token + ":") or f"60.{mark}".encode() in words)
    return False
