"""What is the same for every call, and is made once in the process that their workers come from.

Nothing that a tool does changes it for the next call: it lies in the memory of the spawner and of
init, which run no foreign code, and each worker has a copy of its own.
"""

from __future__ import annotations

from contextlib import suppress
from importlib.machinery import PathFinder

from sandbox_agent_ipc.codec import decode, encode
from sandbox_agent_ipc.messages import CallBorn, NewCall, ToInit

from sandbox_agent_sandbox.inside.tools import shell
from sandbox_agent_sandbox.inside.walls.capabilities import empty_bounding_set
from sandbox_agent_sandbox.inside.walls.landlock import prepare_own_rules
from sandbox_agent_sandbox.inside.walls.rlimits import prepare_rlimits
from sandbox_agent_sandbox.inside.worker.environment import make_streams, take_environment
from sandbox_agent_sandbox.inside.worker.invoke import bind
from sandbox_agent_sandbox.inside.worker.rehearsal import nothing, play
from sandbox_agent_sandbox.plan import Plan

_REHEARSALS = 10
"""After some rounds the interpreter has specialised the code (PEP 659). It writes to the code for
that, and what it writes to after a fork is copied, page by page."""


def prepare_command() -> None:
    """For the spawner: bind what `exec` calls to its signature, and play an empty call."""
    bind(shell.exec_argv)
    bind(nothing)
    for _ in range(_REHEARSALS):
        decode(encode(NewCall("")), ToInit)
        encode(CallBorn(""))
        play()


def prepare_for(plan: Plan) -> None:
    """For the process that forks the workers' parents, once it has built the sandbox."""
    empty_bounding_set()
    with suppress(ValueError):  # what no environment can hold: each call says so
        take_environment(plan.environment)
    with suppress(OSError):
        make_streams()
    prepare_own_rules(plan.landlock)
    prepare_rlimits(plan.limits, counted=plan.groups is not None and bool(plan.groups.processes))
    _list_modules(plan)


def _list_modules(plan: Plan) -> None:
    """Have Python list the folders of modules, once for all workers. Not those that a tool can
    write: Python goes by their times, and something may change in the moment of the look."""
    writable = [bind.path.rstrip("/") + "/" for bind in plan.binds if bind.writable]
    for path in plan.import_path:
        if path and not any(f"{path}/".startswith(folder) for folder in writable):
            PathFinder.find_spec("sandbox_agent_no_such_module", [path])
