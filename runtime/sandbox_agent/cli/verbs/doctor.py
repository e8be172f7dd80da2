"""`sandbox-agent doctor`: tries what this host can enforce, and says why a path is not there."""

from __future__ import annotations

import argparse
import asyncio
import io
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
from sandbox_agent_ipc.errors import SandboxAgentError
from sandbox_agent_ipc.messages import FunctionRef
from sandbox_agent_ipc.token import RunToken
from sandbox_agent_sandbox.diagnosis.container import Diagnosed
from sandbox_agent_sandbox.diagnosis.plans import Standing, diagnosed, standings
from sandbox_agent_sandbox.diagnosis.trial_folder import remove_now, trial_folder
from sandbox_agent_sandbox.diagnosis.trials import (
    broken_walls,
    nothing_kept,
    try_everything,
    with_trials,
)
from sandbox_agent_sandbox.diagnosis.why import Access, Why, why
from sandbox_agent_sandbox.host.cell import CallRequest
from sandbox_agent_sandbox.plan import Plan, PlanKind
from sandbox_agent_sandbox.policy.kinds.left_open import left_open
from sandbox_agent_sandbox.policy.levels import NAMESPACES, Fact, Level
from sandbox_agent_sandbox.policy.paths import follow
from sandbox_agent_sandbox.policy.policy import Policy
from sandbox_agent_sandbox.policy.probe import Check, probe
from sandbox_agent_sandbox.utf8 import argument_text

from sandbox_agent.box.record import run_dir_for
from sandbox_agent.cli.console import Console
from sandbox_agent.cli.signals import Signals
from sandbox_agent.config.policy_file import read_policy
from sandbox_agent.config.workspace import refuse_home
from sandbox_agent.errors import ConfigError, exit_code_of
from sandbox_agent.exit_codes import ExitCode
from sandbox_agent.journal.events import BOX
from sandbox_agent.journal.recorder import Unrecorded
from sandbox_agent.models.no_model import NoModel
from sandbox_agent.reports.escape import one_line
from sandbox_agent.run.sandbox import ConversationSandbox
from sandbox_agent.run.setup import Options, make_setup

_LOOK = FunctionRef("sandbox_agent_sandbox.inside.tools.looking", "look_at")


class Diagnosis(msgspec.Struct, frozen=True):
    """What `doctor --json` prints.

    works: whether a run in this folder, with this policy, would start; where this folder holds
    the home folder and none was named, in another one, and `notes` says so. error: why not. plan:
    the kind that its sandbox is built by; "" for none. left_open: what that plan leaves open
    outside. plans: what each kind would keep here. host: where this is, and the smallest change
    that gives a stronger plan. notes: what the run would be warned of.
    """

    works: bool
    error: str | None
    plan: str
    left_open: list[str]
    plans: list[Standing]
    host: Diagnosed
    fields: list[Fact]
    layers: list[Fact]
    checks: list[Check]
    notes: list[str]


class PathDiagnosis(msgspec.Struct, frozen=True):
    """What `doctor --why PATH --json` prints.

    real: where the links of the path lead. outside: whether it exists there. inside: what tools can
    do with it, as it was tried: exists, read, write, execute. access: what the policy gives.
    """

    path: str
    real: str
    outside: bool
    inside: dict[str, bool]
    access: str
    why: str
    hint: str


def main(arguments: argparse.Namespace, console: Console, signals: Signals) -> int:
    """Prints the level of every field and layer, or what tools can do with one path (--why).
    Returns the exit code that a run would have here; with --why, 0. Raises ConfigError."""
    policy = read_policy(Path(arguments.policy)) if arguments.policy else Policy()
    workspace = Path(arguments.workspace or ".").absolute()
    if arguments.why is not None:
        return _path(arguments.why, policy, workspace, console, as_json=arguments.json)
    say = signals.on_leave

    def leave(words: str) -> None:
        remove_now()
        say(words)

    signals.on_leave = leave
    with _place(arguments.workspace, workspace) as (place, told):
        found, code = _diagnosis(policy, place, told)
    console.out(_json(found) if arguments.json else _text(found))
    return code


@contextmanager
def _place(named: str | None, workspace: Path) -> Iterator[tuple[Path, list[str]]]:
    """The folder to try a run in, and what to say of it: a new one where nobody has named one and
    this one holds the home folder. The host is what is asked about then."""
    if named is None:
        try:
            refuse_home(workspace, allowed=False)
        except ConfigError as error:
            with trial_folder() as folder:
                yield folder, [f"another folder was tried, since this one is refused: {error}"]
            return
    yield workspace, []


def _diagnosis(policy: Policy, workspace: Path, told: list[str]) -> tuple[Diagnosis, int]:
    checks = probe(workspace if workspace.is_dir() else None)
    start = asyncio.run(_start_as_a_run_does(policy, workspace))
    error: Exception | None = start.error
    kind = None if start.plan is None or error is not None else start.plan.kind
    broken: dict[str, str] = {}
    try:
        plan, tried = asyncio.run(try_everything(kind))
        every = with_trials(start.plan or plan, tried)
        broken = broken_walls(start.plan or plan, tried)
    except (SandboxAgentError, OSError) as failure:
        error = error or failure
        every = nothing_kept("no sandbox can be built")
    fields = [fact for fact in every if not fact.layer]
    if error is not None:
        code = exit_code_of(error) if isinstance(error, SandboxAgentError) else ExitCode.SANDBOX
    else:
        failed = any(fact.name in broken for fact in fields)
        code = ExitCode.SANDBOX if failed else ExitCode.DONE
    return Diagnosis(
        works=code == ExitCode.DONE,
        error=None if error is None else str(error),
        plan="" if kind is None else kind,
        left_open=[] if kind is None or start.plan is None else left_open(start.plan),
        plans=standings(policy, workspace, checks),
        host=diagnosed(),
        fields=fields,
        layers=[fact for fact in every if fact.layer],
        checks=checks,
        notes=told + start.told,
    ), code


class _Start(msgspec.Struct, frozen=True):
    """How the start of a run went. plan: None if none could be made. told: the warnings."""

    plan: Plan | None
    error: SandboxAgentError | None
    told: list[str]


async def _start_as_a_run_does(policy: Policy, workspace: Path) -> _Start:
    """Start a run's sandbox: the same code plans and builds it."""
    host: ConversationSandbox | None = None
    error: SandboxAgentError | None = None
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            host = _host(policy, workspace)
            try:
                await host.open(RunToken())
            finally:
                host.close()
        except SandboxAgentError as failure:
            error = failure
    told = [str(one.message) for one in warned]
    return _Start(None if host is None else host.plan, error, told)


def _host(policy: Policy, workspace: Path) -> ConversationSandbox:
    chosen: Options = {"sandbox": policy, "workspace": workspace}
    return make_setup(run_dir_for(False), NoModel(BOX), None, chosen, recorder=Unrecorded).host


# --- one path --------------------------------------------------------------------------------


def _path(given: str, policy: Policy, workspace: Path, console: Console, *, as_json: bool) -> int:
    try:
        path = os.path.abspath(os.path.expanduser(argument_text(given)))
    except UnicodeError:
        shown = repr(os.fsencode(given))
        raise ConfigError(f"{shown} is not UTF-8", file="--why", hint="rename it") from None
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        plan, inside = asyncio.run(_look_inside(policy, workspace, path))
    found = _explained(plan, path, inside)
    console.out(_json(found) if as_json else _of_path(found))
    return ExitCode.DONE


async def _look_inside(policy: Policy, workspace: Path, path: str) -> tuple[Plan, dict[str, bool]]:
    host = _host(policy, workspace)
    try:
        await host.open(RunToken())
        assert host.plan is not None and host.cell is not None
        arguments = {"path": path, "opens": host.plan.unshared is not None}
        result = await host.cell.call(
            CallRequest(
                "doctor",
                _LOOK,
                msgspec.json.encode(arguments),
                host.plan.workspace,
                timeout=30,
            )
        )
        return host.plan, msgspec.json.decode(result.content, type=dict[str, bool])
    finally:
        host.close()


def _explained(plan: Plan, path: str, inside: dict[str, bool]) -> PathDiagnosis:
    """What the plan says about a path, and what the host's files say to that."""
    writable = [bind.path for bind in plan.binds if bind.writable]
    followed = follow(path, writable)
    said = why(plan, followed.real)
    outside = os.path.lexists(path)
    what, hint = said.what, said.hint
    if not outside and not inside["exists"]:
        what, hint = "does not exist outside either", ""
        if said.access not in (Access.WRITABLE, Access.READABLE, Access.PROTECTED):
            what += f", and {said.what}"
    elif followed.left is not None and said.access in (Access.ABSENT, Access.OWN, Access.LEADING):
        what = (
            f"is, or lies below, a link in {followed.left}, which tools can write; what it leads"
            f" to, {followed.real}, is not shown for it"
        )
        hint = f"name {followed.real} itself in sandbox.read"
    elif not _as_planned(said, inside):
        what += "; but its owner or its mode denies more"
        hint = f"look at `ls -ld {path}`: tools run as the user {plan.identity.outside_uid}"
    return PathDiagnosis(path, followed.real, outside, inside, said.access.value, what, hint)


def _as_planned(said: Why, inside: dict[str, bool]) -> bool:
    match said.access:
        case Access.WRITABLE:
            return inside["read"] and inside["write"]
        case Access.READABLE | Access.PROTECTED:
            return inside["read"]
        case _:
            return True


def _of_path(found: PathDiagnosis) -> str:
    can = [name for name in ("read", "write", "execute") if found.inside[name]]
    state = "not there" if not found.inside["exists"] else ", ".join(can) or "nothing"
    lines = [f"{one_line(found.path, 400)} {one_line(found.why, 800)}", f"  inside: {state}"]
    if found.real != found.path:
        lines.append(f"  leads to: {one_line(found.real, 400)}")
    if found.hint:
        lines.append(f"  hint: {one_line(found.hint, 800)}")
    return "\n".join(lines) + "\n"


# --- texts -----------------------------------------------------------------------------------


def _json(found: msgspec.Struct) -> str:
    return msgspec.json.encode(found).decode() + "\n"


def _text(found: Diagnosis) -> str:
    parts = [
        _standing(found),
        _facts("field of the policy", found.fields),
        _facts("layer", found.layers),
        _checks(found),
    ]
    if found.notes:
        parts.append("A run here is warned:\n" + "".join(f"- {note}\n" for note in found.notes))
    if found.error is not None:
        parts.append(f"A run here does not start: {found.error}\n")
    missing = [fact.name for fact in found.fields if fact.level is Level.MISSING]
    if missing:
        parts.append(f"This host cannot keep: {', '.join(missing)}.\n")
    elif found.works:
        parts.append("This host can enforce every field of a policy.\n")
    if found.works and any(fact.level is Level.RESTORED for fact in found.fields):
        parts.append("restored: not prevented, but noticed, undone or stopped, and reported\n")
    return "\n".join(parts)


def _checks(found: Diagnosis) -> str:
    """With the hints of single checks only where there is no hint for the host as a whole."""
    rows = [
        (
            "ok" if check.ok else "FAILED" if check.needed else "absent",
            check.name,
            check.detail,
            "" if check.ok or found.host.hint else check.hint,
        )
        for check in found.checks
    ]
    columns = 4 if any(row[3] for row in rows) else 3
    headings = ("", "a full plan needs", "found", "hint")
    return _table(headings[:columns], (row[:columns] for row in rows))


def _standing(found: Diagnosis) -> str:
    """Which plan is used, what the others would keep, and how to get a stronger one."""
    used = f"A run here uses the plan {found.plan}." if found.plan else "No run starts here."
    lines = [f"This is {found.host.place}. {used}"]
    if found.host.cause:
        lines.append(f"Not {PlanKind.FULL}: {found.host.cause}.")
        lines.append(f"  hint, for the plan {found.host.stronger}: {found.host.hint}")
    if found.left_open:
        lines += ["Left open outside:", *(f"- {what}" for what in found.left_open)]
    names = dict.fromkeys(name for one in found.plans for name in one.levels)
    rows = [[name, *(str(one.levels.get(name, "")) for one in found.plans)] for name in names]
    differ = [row for row in rows if len(set(row[1:])) > 1]
    works = [["works here", *("yes" if one.works else "no" for one in found.plans)]]
    table = _table(("plan", *(one.plan.value for one in found.plans)), [*works, *differ])
    why = [f"{one.plan}: {one.why}\n" for one in found.plans if not one.works and one.why]
    return "\n".join(lines) + "\n\n" + table + "".join(why)


def _facts(heading: str, found: Sequence[Fact]) -> str:
    return _table(
        ("level", heading, "by", "why not more"),
        (
            (
                fact.level.value,
                fact.name,
                fact.how,
                "; hint: ".join(text for text in (fact.why, _own_hint(fact.hint)) if text),
            )
            for fact in found
        ),
    )


def _own_hint(hint: str) -> str:
    """Without what the hint for a stronger plan says, which stands above."""
    return hint.removesuffix(NAMESPACES).removesuffix(", or ")


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    import rich.box
    import rich.console
    import rich.table
    import rich.text

    table = rich.table.Table(box=rich.box.SIMPLE)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        # Text, so that a square bracket in an error message is not read as markup.
        table.add_row(*(rich.text.Text(cell) for cell in row))
    # Rendered to plain text, which the writing thread of `Console` writes.
    rendered = io.StringIO()
    rich.console.Console(file=rendered, width=110, color_system=None).print(table)
    lines = [line.rstrip() for line in rendered.getvalue().splitlines()]
    return "\n".join(lines).strip("\n") + "\n"
