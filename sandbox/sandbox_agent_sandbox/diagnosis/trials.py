"""Every wall tried in a real sandbox, over a folder that is made for it and removed afterwards.

The sandbox is planned and built as that of a run, with a policy that names every field. Its tools
run against each wall (`inside/tools/trials.py`).
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
from sandbox_agent_ipc.cancel_reason import CancelReason
from sandbox_agent_ipc.messages import FunctionRef

from sandbox_agent_sandbox import privileges
from sandbox_agent_sandbox.diagnosis.trial_folder import trial_folder
from sandbox_agent_sandbox.errors import SandboxUnavailable
from sandbox_agent_sandbox.host.cell import CallRequest, Cell
from sandbox_agent_sandbox.inside.tools.trials import Ground
from sandbox_agent_sandbox.outcome import CallResult, Outcome
from sandbox_agent_sandbox.plan import Plan, PlanKind
from sandbox_agent_sandbox.policy.identity import OUTSIDE_ID
from sandbox_agent_sandbox.policy.kinds.choose import choose
from sandbox_agent_sandbox.policy.levels import Fact, Level, facts
from sandbox_agent_sandbox.policy.make_plan import make_plan
from sandbox_agent_sandbox.policy.policy import EnvPolicy, Limits, Policy
from sandbox_agent_sandbox.policy.probe import host_facts
from sandbox_agent_sandbox.protection.put_back import PutBack

_MODULE = "sandbox_agent_sandbox.inside.tools.trials"
_PASSED, _DROPPED, _ASSIGNED = (f"SANDBOX_AGENT_TRIAL_{n}" for n in ("PASSED", "DROPPED", "SET"))
_NAMESPACES = ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup")
_TIMEOUT, _CPU_TIME = 0.6, 1.0
_PROCESSES, _OPEN_FILES, _FILE_SIZE, _OUTPUT = 32, 64, 16 << 20, 4096
_MEMORY, _CALL_MEMORY, _PROCESS_MEMORY = 140 << 20, 112 << 20, 64 << 20
_LIMITS = Limits(
    timeout=_TIMEOUT,
    memory=_MEMORY,
    call_memory=_CALL_MEMORY,
    process_memory=_PROCESS_MEMORY,
    processes=_PROCESSES,
    cpu_time=_CPU_TIME,
    open_files=_OPEN_FILES,
    file_size=_FILE_SIZE,
    tmp=20 << 20,  # as large as it takes to be on the disk
    shm=8 << 20,
    disk=48 << 20,
    output=_OUTPUT,
)
_CONTENT = "content"
_PATIENCE = 10.0
"""Seconds in which a watchdog must notice. On a busy machine it looks every other second, and a
limit that it keeps must not count as missing. A trial ends as soon as it has noticed."""

Tried = Mapping[str, str]
"""For the name of each fact that was tried: "" if it holds, else what happened."""


async def try_everything(kind: PlanKind | None = None) -> tuple[Plan, Tried]:
    """The plan of the trials' sandbox, and what became of each trial.

    kind: of the plan; None for the strongest that this host can do. Raises SandboxUnavailable if no
    sandbox can be built here, OSError if there is no room for the folder.
    """
    kind = kind or choose(Policy(), host_facts())
    with trial_folder() as top, _ground(top, kind) as (policy, ground):
        plan = make_plan(policy, host_facts(), workspace=Path(ground.workspace), kind=kind)
        undone = () if plan.unshared is None else plan.unshared.undone
        ground = msgspec.structs.replace(ground, undone=bool(undone))
        kept = PutBack(undone)
        cell = Cell(plan, grace=0.1, term=0.1)
        await cell.open()
        try:
            return cell.plan, await _try_all(cell, ground, kept)
        finally:
            await asyncio.get_running_loop().run_in_executor(None, cell.close)


def with_trials(plan: Plan, tried: Tried) -> list[Fact]:
    """The level of every field and layer of a plan. What did not hold when it was tried is missing,
    whatever the plan says. tried: from `try_everything`."""
    broken = broken_walls(plan, tried)
    return [
        msgspec.structs.replace(
            fact, level=Level.MISSING, why=f"tried, and it does not hold: {broken[fact.name]}"
        )
        if fact.name in broken
        else fact
        for fact in facts(plan)
    ]


def broken_walls(plan: Plan, tried: Tried) -> dict[str, str]:
    """What the plan keeps and did not hold when it was tried, and what happened."""
    return {
        fact.name: tried[fact.name]
        for fact in facts(plan)
        if fact.level is not Level.MISSING and tried.get(fact.name)
    }


def nothing_kept(why: str) -> list[Fact]:
    """Every field and layer as missing, where no sandbox can be built. why: the reason."""
    from sandbox_agent_sandbox.policy.levels import FIELDS, LAYERS

    return [
        Fact(name, table is LAYERS, Level.MISSING, why=why)
        for table in (FIELDS, LAYERS)
        for name in table
    ]


async def _try_all(cell: Cell, ground: Ground, kept: PutBack) -> Tried:
    at_once = await _call(cell, ground, "try_walls", {"ground": msgspec.to_builtins(ground)})
    if at_once.outcome is not Outcome.OK:
        raise SandboxUnavailable(f"the trials could not be made: {_said(at_once)}")
    tried: dict[str, str] = msgspec.json.decode(at_once.content, type=dict[str, str])
    if ground.undone:
        look_whether_back(kept, ground, tried)
    timeout, cpu_time, output = await asyncio.gather(
        _call(cell, ground, "sleep_on", {"seconds": 10.0}, timeout=_TIMEOUT),
        _call(cell, ground, "burn", {"seconds": 2 * _CPU_TIME + 1}),
        _call(cell, ground, "print_much", {"size": 4 * _OUTPUT}),
    )
    tried["limits.timeout"] = "" if timeout.outcome is Outcome.TIMEOUT else _said(timeout)
    tried["limits.cpu_time"] = _ended(cpu_time)
    cut = len(output.stdout) < 2 * _OUTPUT and output.left_out > 0
    tried["limits.output"] = "" if cut else f"{len(output.stdout)} bytes were kept"
    # Alone: where a limit is that of the whole sandbox, others would be ended with it.
    assert _LIMITS.tmp is not None and _LIMITS.shm is not None and _LIMITS.disk is not None
    for name, folder, most in (
        ("limits.tmp", "$TMPDIR", _LIMITS.tmp),
        ("limits.shm", "/dev/shm", _LIMITS.shm),
        ("limits.disk", ground.workspace, _LIMITS.disk),
    ):
        # Without mounts nobody has a /dev/shm of their own, so it is closed.
        closed = ground.unshared and name == "limits.shm"
        fill = {"folder": folder, "size": 2 * most, "patience": _PATIENCE, "closed": closed}
        tried[name] = _ended(await _call(cell, ground, "fill", fill))
    for name, function, size in (
        ("limits.process_memory", "take_memory", _PROCESS_MEMORY + (16 << 20)),
        ("limits.call_memory", "share_memory", _CALL_MEMORY + (32 << 20)),
    ):
        arguments = {"size": size, "patience": _PATIENCE}
        tried[name] = _ended(await _call(cell, ground, function, arguments))
    # Two calls, neither of which is over the limit of one.
    arguments = {"size": _CALL_MEMORY - (36 << 20), "patience": _PATIENCE}
    both = [
        asyncio.ensure_future(_call(cell, ground, "share_memory", arguments, name=name))
        for name in ("share-1", "share-2")
    ]
    first, _ = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    tried["limits.memory"] = _ended(first.pop().result())
    for name in ("share-1", "share-2"):
        cell.cancel(name, CancelReason.INTERRUPT)
    await asyncio.gather(*both)
    return tried


def look_whether_back(kept: PutBack, ground: Ground, tried: dict[str, str]) -> None:
    """As after the call of a run: what the trial inside has changed must be told, and undone."""
    told = dict(kept.check())
    for name, path in (("protect", ground.protected), ("protect_defaults", ground.guarded)):
        if not tried[name]:
            is_back = Path(path).read_text() == _CONTENT
            tried[name] = "" if told.get(path) and is_back else f"{path} was not put back"


async def _call(
    cell: Cell,
    ground: Ground,
    function: str,
    arguments: dict[str, Any],
    timeout: float = 30,
    name: str = "",
) -> CallResult:
    return await cell.call(
        CallRequest(
            id=name or function,
            function=FunctionRef(_MODULE, function),
            arguments=msgspec.json.encode(arguments),
            cwd=ground.workspace,
            timeout=timeout,
            output_limit=(1 << 16) if function == "try_walls" else _OUTPUT,
        )
    )


def _command() -> str:
    with open("/proc/self/cmdline", errors="surrogateescape") as file:
        return file.read()


def _ended(result: CallResult) -> str:
    """ "" if a call that goes over a limit failed or was ended."""
    if result.outcome is Outcome.TIMEOUT:
        return "nothing ended it"
    return _said(result) if result.outcome is Outcome.OK and result.content else ""


def _said(result: CallResult) -> str:
    return (result.content or result.output or result.detail or result.outcome.value).strip()


@contextmanager
def _ground(top: Path, kind: PlanKind) -> Iterator[tuple[Policy, Ground]]:
    """Files, a server and variables to try walls on, and the policy that names them."""
    server = socket.create_server(("127.0.0.1", 0))
    try:
        files = ("read/file", "write/file", "unnamed/file", "work/plain", "work/hidden")
        for name in (*files, "work/guarded/file", "work/guarded-by-default/.envrc"):
            (top / name).parent.mkdir(exist_ok=True)
            (top / name).write_text(_CONTENT)
        if privileges.has(privileges.SYS_ADMIN) and kind is not PlanKind.NO_NAMESPACES:
            # Tools of root's are nobody's account. So no mount must show these files as theirs,
            # which not every file system can.
            with suppress(PermissionError):  # root without CAP_CHOWN
                for path in (top, *top.rglob("*")):
                    os.chown(path, OUTSIDE_ID, OUTSIDE_ID)
        os.environ.update({_PASSED: "yes", _DROPPED: "yes"})
        yield (
            Policy(
                read=[top / "read"],
                write=[top / "write"],
                hide=[top / "work/hidden"],
                protect=[top / "work/guarded"],
                env=EnvPolicy(pass_=[_PASSED], set={_ASSIGNED: "yes"}),
                limits=_LIMITS,
            ),
            Ground(
                readable=f"{top}/read/file",
                writable=f"{top}/write/file",
                unnamed=f"{top}/unnamed/file",
                plain=f"{top}/work/plain",
                hidden=f"{top}/work/hidden",
                protected=f"{top}/work/guarded/file",
                guarded=f"{top}/work/guarded-by-default/.envrc",
                workspace=f"{top}/work",
                port=server.getsockname()[1],
                namespaces={name: os.readlink(f"/proc/self/ns/{name}") for name in _NAMESPACES},
                process=_command(),
                passed=_PASSED,
                dropped=_DROPPED,
                assigned=_ASSIGNED,
                processes=_PROCESSES,
                open_files=_OPEN_FILES,
                file_size=_FILE_SIZE,
                unshared=kind is PlanKind.NO_NAMESPACES,
            ),
        )
    finally:
        for name in (_PASSED, _DROPPED):
            os.environ.pop(name, None)
        server.close()
