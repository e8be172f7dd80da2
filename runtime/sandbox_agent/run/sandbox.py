"""A conversation's sandbox: made when it is first needed, kept between runs, replaced if it dies.

The one place where the runtime opens a cell.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from sandbox_agent_ipc.cancel_shield import CancelShield
from sandbox_agent_ipc.token import RunToken
from sandbox_agent_sandbox.errors import NoPlan, PolicyError, SandboxUnavailable
from sandbox_agent_sandbox.host.deadlines import DEFAULT, Deadlines
from sandbox_agent_sandbox.outcome import Survivor
from sandbox_agent_sandbox.policy.paths import is_inside_any
from sandbox_agent_sandbox.protection.finding import Finding, FindingKind, listed

from sandbox_agent.embedding.daemon_thread import Background
from sandbox_agent.embedding.log import log
from sandbox_agent.embedding.warn import complain, notify
from sandbox_agent.first_imports import guarded_folders, names_before
from sandbox_agent.source_root import SOURCE_ROOT

if TYPE_CHECKING:
    from sandbox_agent_sandbox.host.cell import Cell
    from sandbox_agent_sandbox.plan import Plan, PlanKind
    from sandbox_agent_sandbox.policy.probe import HostFacts
    from sandbox_agent_sandbox.protection.guard import Guard
    from sandbox_agent_sandbox.protection.scan import Seen

    from sandbox_agent.config.any_settings import AnySettings
    from sandbox_agent.tools.registry import Registry

_LOOK_SECONDS = 10.0
"""How long the folders of the tools are looked through after a run."""
_LOOK_SECONDS_IN_HASTE = 0.5
"""The same after a run that was stopped."""
_WAIT_SECONDS = 12.0
_WAIT_SECONDS_IN_HASTE = 1.0
"""How long the end of a run waits for that, and the end of one that was stopped."""
_GLANCE = 0.25
"""Seconds between two looks at whether to hurry."""
NOT_LOOKED = (Finding(FindingKind.UNSEEN, "", "the workspace was not looked through to its end"),)
"""What is found where the disk does not answer in time."""


class ConversationSandbox:
    """The sandbox of a conversation, opened when it is first needed.

    settings: the conversation's. hidden: paths that tools must not see, run folders first.
    task_files: that the task was read from. deadlines: of the next cell that is opened. plan, cell
    and registry are None until `open`. guard: watches what tools leave in this run.
    """

    def __init__(
        self,
        settings: AnySettings,
        hidden: tuple[Path, ...],
        task_files: tuple[Path, ...] = (),
        deadlines: Deadlines = DEFAULT,
    ) -> None:
        self.deadlines = deadlines
        self._settings = settings
        self._hidden = hidden
        self._task_files = task_files
        self._looking: Background[Seen] | None = None
        self.guard: Guard | None = None
        self.plan: Plan | None = None
        self.cell: Cell | None = None
        self.registry: Registry | None = None
        self._survivors: list[Survivor] = []
        self._started: Cell | None = None
        """A cell that waits for its plan."""
        self._has_said_spares = False
        self._summary: tuple[Plan | None, dict[str, Any]] = (None, {})

    def begin(self) -> None:
        """A run begins. Start the sandbox's first process, and look through the folders that its
        tools can write, in a thread, beside what else comes before the first call."""
        from sandbox_agent_sandbox.protection.scan import look

        self.guard = None
        self._looking = Background(partial(look, self._roots(), self._not_looked_at()), "look")
        if self._started is None and (self.cell is None or not self.cell.usable):
            self._start_cell()

    def take(self, cell: Cell) -> None:
        """A cell that was started before this was made: the first one to be built. From now on this
        closes it."""
        self._started = cell

    def _start_cell(self) -> None:
        """Where it cannot be started, the next one will say so."""
        cell: Cell | None = None
        with suppress(SandboxUnavailable):
            cell = self._new_cell()
            cell.start()
            self._started = cell

    def _new_cell(self) -> Cell:
        from sandbox_agent_sandbox.host.cell import Cell

        interrupt = self._settings.interrupt
        return Cell(
            grace=interrupt.grace,
            term=interrupt.term,
            deadlines=self.deadlines,
            spares=self._settings.spares,
        )

    def _roots(self) -> list[str]:
        settings = self._settings
        paths = [settings.workspace.path, *settings.sandbox.write]
        return [os.path.realpath(settings.workspace.path / path) for path in paths]

    def _not_looked_at(self) -> list[str]:
        settings = self._settings
        paths = [*self._hidden, *settings.sandbox.hide]
        return [os.path.realpath(settings.workspace.path / path) for path in paths]

    async def open(self, token: RunToken) -> Registry:
        """Make the sandbox and find out about the tools; at once when that has been done.

        token: its cancellation stops the worker that looks at tools.
        Raises SandboxError (PolicyError, SandboxUnavailable) and ConfigError (a tool is not one).
        """
        if self._looking is None:
            self.begin()
        assert self._looking is not None
        try:
            seen = await self._looking.result()
        except BaseException:
            self._drop_started()
            raise
        if self.cell is not None and not self.cell.usable:
            self._drop_cell()
        if self.cell is None:
            try:
                await self._build(seen)
            except BaseException:
                self.drop()
                raise
        self._watch(seen)
        self._say_spares()
        if self.registry is None:
            assert self.cell is not None and self.plan is not None
            self.registry = await self._look_at_tools(self.cell, self.plan, token)
        return self.registry

    async def _look_at_tools(self, cell: Cell, plan: Plan, token: RunToken) -> Registry:
        from sandbox_agent.tools.registry import resolve

        cwd = str(self._settings.workspace.path)
        return await resolve(
            self._settings.tools,
            lambda references: cell.describe(references, cwd, token=token),
            self._settings.sandbox.limits,
            has_mounts=plan.unshared is None,
        )

    def _import_roots(self) -> list[Path]:
        """The folders that the tools' modules are imported from."""
        from sandbox_agent.tools.registry import import_roots

        return import_roots(self._settings.tools, self._settings.workspace.path)

    async def _build(self, seen: Seen) -> None:
        # Imported here: pydantic, psutil and the kernel's parts are no use to a process that only
        # reads journals or is a tool inside the walls.
        from sandbox_agent_sandbox.policy.kinds.build import apart, build
        from sandbox_agent_sandbox.policy.probe import host_facts

        facts = host_facts()
        self._make_hidden()

        def make(kind: PlanKind) -> Cell:
            self.plan, self.cell = self._make(seen, facts, kind)
            return self.cell

        policy = self._settings.sandbox
        try:
            cell = await build(policy, facts, make)
        except NoPlan as failure:
            from sandbox_agent_sandbox.diagnosis.plans import with_change

            raise await apart(with_change, failure, policy) from None
        self.plan = cell.plan
        if why := cell.no_image:
            notify(f"the size of the tools' /tmp is watched only (best effort): {why}")
        log("info", "sandbox opened for %s", self._settings.workspace.path)

    def _watch(self, seen: Seen) -> None:
        """Watch from here on, in this run, what tools leave behind."""
        from sandbox_agent_sandbox.protection.guard import Guard

        if self.guard is None and self.plan is not None:
            self.guard = Guard(
                seen,
                workspace=self.plan.workspace,
                skip=self._not_looked_at(),
                restores=self._settings.sandbox.protect_defaults,
                modules=names_before(),
                starts=(self.plan.workspace, *guarded_folders()),
                put_back=self.plan.unshared.undone if self.plan.unshared is not None else (),
            )

    def _say_spares(self) -> None:
        """Say once that fewer spare workers are kept than were asked for. Some of the reasons come
        up while calls are going."""
        note = "" if self.cell is None else self.cell.spares_note
        if note and not self._has_said_spares:
            self._has_said_spares = True
            complain(note)

    def look_again(self, hurry: Callable[[], bool]) -> Background[tuple[Finding, ...]] | None:
        """Look through the folders again, in a thread, when all calls of the run have ended. None
        if no call can have been made. hurry: asked whether to stop looking."""
        self._say_spares()
        guard, self.guard = self.guard, None
        if guard is None:
            return None
        return Background(partial(_look_again, guard, hurry, _LOOK_SECONDS), "look again")

    def look_again_now(self) -> tuple[Finding, ...]:
        """As `look_again`, for a run that was stopped. Blocks for a short time."""
        guard, self.guard = self.guard, None
        return () if guard is None else _look_again(guard, lambda: False, _LOOK_SECONDS_IN_HASTE)

    def _make(self, seen: Seen, facts: HostFacts, kind: PlanKind) -> tuple[Plan, Cell]:
        from sandbox_agent_sandbox.policy.levels import refuse_missing
        from sandbox_agent_sandbox.policy.make_plan import make_plan

        settings = self._settings
        plan = make_plan(
            settings.sandbox,
            facts,
            workspace=settings.workspace.path,
            hidden=self._hidden,
            # The first is for `from sandbox_agent import tool` in tools' modules.
            tool_paths=[SOURCE_ROOT, *self._import_roots()],
            task_files=self._task_files,
            seen=seen,
            kind=kind,
        )
        for fact in refuse_missing(plan, settings.sandbox.allow_degraded):
            notify(f"sandbox.{fact.name} is not enforced in this run: {fact.why}")
        if not _may_enter(Path(plan.workspace)):
            raise PolicyError(
                f"tools may not enter {plan.workspace}",
                field="workspace",
                hint=f"chmod u+rwx {plan.workspace}",
            )
        for note in plan.notes:
            notify(note)
        if seen.problem and settings.sandbox.protect_defaults:
            notify(
                f"not all that tools can write was looked through: {seen.problem}; what was not "
                "reached is not protected by default\n"
                "  hint: name a smaller workspace"
            )
        cell = self._started or self._new_cell()
        cell.set_plan(plan)
        self.cell, self._started = cell, None  # in this order: one of them is closed by `drop`
        return plan, cell

    def _make_hidden(self) -> None:
        """Make the folders of records that tools could make otherwise, and fill."""
        settings = self._settings
        places = [os.path.realpath(p) for p in (settings.workspace.path, *settings.sandbox.write)]
        for folder in self._hidden:
            if not folder.exists() and is_inside_any(os.path.realpath(folder), places):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def check_folders(self) -> None:
        """Raise SandboxBroken if a folder that tools write is not at its path any more."""
        if self.cell is not None:
            self.cell.check_folders()

    def is_shut(self) -> bool:
        """Whether a tool has shut the workspace: what runs in there now begins elsewhere."""
        return self.plan is not None and not _may_enter(Path(self.plan.workspace))

    def plan_summary(self) -> dict[str, Any] | None:
        """The plan as data for the record; of the environment the names only, since values that
        the policy passes on are often secrets, and of files the paths only."""
        plan, (summarised, summary) = self.plan, self._summary
        if plan is None:
            return None
        if plan is summarised:
            return summary
        from sandbox_agent_sandbox.policy.kinds.left_open import left_open
        from sandbox_agent_sandbox.policy.levels import field_levels, missing

        made: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(plan))
        made["environment"] = sorted(plan.environment)
        made["files"] = [file.path for file in plan.files]
        made["levels"] = {name: str(level) for name, level in field_levels(plan).items()}
        made["missing"] = {fact.name: fact.why for fact in missing(plan)}
        made["left_open"] = left_open(plan)
        self._summary = plan, made
        return made

    def writable(self) -> tuple[str, ...]:
        """The real paths of the folders of the host that tools can write."""
        binds = self.plan.binds if self.plan is not None else ()
        return tuple(bind.path for bind in binds if bind.writable)

    def escalate(self) -> None:
        """Every cancelled call straight to SIGTERM. From any thread and signal handlers."""
        cell = self.cell
        if cell is not None:
            cell.escalate()

    def freeze(self) -> bool:
        """Stop all processes of the sandbox, until `thaw`. Blocks for a second at most."""
        cell = self.cell
        return cell is None or cell.freeze()

    def thaw(self) -> None:
        """Continue them."""
        cell = self.cell
        if cell is not None:
            cell.thaw()

    def begin_close(self) -> None:
        """No more calls come: begin what `close` waits for."""
        if self.cell is not None:
            self.cell.begin_close()

    def drop(self) -> None:
        """Close a sandbox that is of no use any more; the next `open` makes another. Blocks. If a
        signal handler raises in here, call this again."""
        self._drop_started()
        self._drop_cell()

    def _drop_cell(self) -> None:
        cell = self.cell
        if cell is not None:
            self._survivors += cell.close()
            self.cell = None

    def _drop_started(self) -> None:
        cell = self._started
        if cell is not None:
            self._survivors += cell.close()
            self._started = None

    def close(self) -> tuple[Survivor, ...]:
        """Close it for good. What could not be stopped, ever, is returned. Blocks; idempotent."""
        self.drop()
        return self.survivors

    @property
    def survivors(self) -> tuple[Survivor, ...]:
        """What could not be stopped when a sandbox was closed."""
        return tuple(dict.fromkeys(self._survivors))


async def look_again(
    host: ConversationSandbox,
    is_hurried: Callable[[], bool],
    shield: CancelShield,
    *,
    in_haste: bool,
) -> tuple[Finding, ...]:
    """What is found, when all calls have ended and the run's end is decided. A disk that hangs
    holds this up for some seconds only, and `is_hurried` ends it. in_haste: the run was stopped."""
    looking = host.look_again(is_hurried)
    if looking is None:
        return ()
    seconds = _WAIT_SECONDS_IN_HASTE if in_haste else _WAIT_SECONDS
    found, until = looking.result(), time.monotonic() + seconds
    while not found.done() and not is_hurried() and time.monotonic() < until:
        await shield.wait({found}, timeout=_GLANCE)
    return found.result() if found.done() else NOT_LOOKED


def _look_again(guard: Guard, hurry: Callable[[], bool], patience: float) -> tuple[Finding, ...]:
    try:
        return listed(guard.at_end(hurry, patience))
    except Exception as error:  # whatever a tool has made of the workspace, the run has its end
        complain(f"the workspace could not be looked through: {error!r}")
        return NOT_LOOKED


def _may_enter(workspace: Path) -> bool:
    """Whether the tools' user, who owns it, can enter the workspace. For root the mode decides:
    root itself may enter every folder, and tools are never root."""
    if os.geteuid() == 0:
        return bool(workspace.stat().st_mode & 0o100)
    return os.access(workspace, os.X_OK)
