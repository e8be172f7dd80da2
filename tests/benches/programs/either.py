"""The names of a product's sandbox, in the layout of this tree or of 584eb71.

So `scripts/bench --against` measures both with the same programs.
"""

from __future__ import annotations

import inspect
import itertools
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sandbox_agent_ipc.messages import FunctionRef
from sandbox_agent_ipc.token import RunToken

try:
    from sandbox_agent_ipc.cancel_reason import CancelReason
    from sandbox_agent_sandbox.host.cell import CallRequest, Cell
    from sandbox_agent_sandbox.host.session import Patience
    from sandbox_agent_sandbox.host.supervisor import Supervisor
    from sandbox_agent_sandbox.policy.make_plan import make_plan
    from sandbox_agent_sandbox.policy.policy import Policy
    from sandbox_agent_sandbox.policy.probe import host_facts

    TOOLS = "sandbox_agent_sandbox.inside.tools"
except ImportError:
    from sandbox_agent_ipc.reason import CancelReason  # type: ignore[no-redef]
    from sandbox_agent_sandbox.cell import CallRequest, Cell  # type: ignore[no-redef]
    from sandbox_agent_sandbox.planning import make_plan  # type: ignore[no-redef]
    from sandbox_agent_sandbox.policy import Policy  # type: ignore[no-redef]
    from sandbox_agent_sandbox.probe import host_facts  # type: ignore[no-redef]
    from sandbox_agent_sandbox.session import Patience  # type: ignore[no-redef]
    from sandbox_agent_sandbox.supervisor import Supervisor  # type: ignore[no-redef]

    TOOLS = "sandbox_agent_sandbox.worker"

__all__ = ["CallRequest", "CancelReason", "Cell", "Patience", "RunToken", "Supervisor"]

SHELL = FunctionRef(f"{TOOLS}.shell", "shell")
LIST_FILES = FunctionRef(f"{TOOLS}.files", "list_files")
_ids = itertools.count(1)


def new_cell(
    workspace: Path | None,
    *,
    tool_paths: Sequence[Path] = (),
    grace: float = 20.0,
    term: float = 20.0,
    **policy: Any,
) -> Cell:
    """A sandbox that is not open yet, as a conversation has it: with spare workers, where there are
    any. grace, term: seconds."""
    plan = new_plan(workspace, tool_paths=tool_paths, **policy)
    has_spares = "spares" in inspect.signature(Cell).parameters
    more = {"spares": 2} if has_spares and workspace is not None else {}
    return Cell(plan, grace=grace, term=term, **more)


def new_plan(workspace: Path | None, *, tool_paths: Sequence[Path] = (), **policy: Any) -> Any:
    """A plan for this host."""
    asked = Policy(**policy)
    return make_plan(asked, host_facts(), workspace=workspace, tool_paths=tool_paths)


def request(function: FunctionRef, workspace: Path, arguments: object, **more: Any) -> CallRequest:
    """A call that has not been made yet."""
    data = json.dumps(arguments).encode()
    return CallRequest(f"call-{next(_ids)}", function, data, str(workspace), **more)


class ResultTimes:
    """Knows when the host had the last message of a call's worker: there it tells its supervisor.

    After `install`, `last` is the time of the first such message since `clear`, in seconds of
    time.monotonic(), or None.
    """

    def __init__(self) -> None:
        self.last: float | None = None

    def install(self) -> None:
        finish = Supervisor.finish

        def noted(supervisor: Supervisor, call: Any) -> None:
            if self.last is None:
                self.last = time.monotonic()
            finish(supervisor, call)

        Supervisor.finish = noted  # type: ignore[method-assign]

    def clear(self) -> None:
        self.last = None
