"""Settings as plain data have the fields and the defaults of those that people write."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from sandbox_agent import (
    Budgets,
    ConfigError,
    Interrupt,
    Limits,
    Policy,
    Settings,
    ToolChoice,
    Workspace,
)
from sandbox_agent.config.functions import FunctionPlace
from sandbox_agent.config.plain import (
    MAX_PERIOD,
    PlainBudgets,
    PlainInterrupt,
    PlainSettings,
    PlainTool,
    PlainWorkspace,
    plain_record,
)
from sandbox_agent.config.settings import as_record
from sandbox_agent.source_root import SANDBOX_ROOT
from sandbox_agent.tools.exec_tool import EXEC, EXEC_SPEC
from sandbox_agent_sandbox.inside.tools.shell import exec_argv
from sandbox_agent_sandbox.inside.worker.signature import describe
from sandbox_agent_sandbox.policy.policy import plain


@pytest.mark.parametrize(
    ("plain_kind", "kind"),
    [
        (PlainWorkspace, Workspace),
        (PlainTool, ToolChoice),
        (PlainInterrupt, Interrupt),
        (PlainBudgets, Budgets),
        (PlainSettings, Settings),
    ],
)
def test_they_have_the_same_fields_in_the_same_order(
    plain_kind: type[msgspec.Struct], kind: type[Settings]
) -> None:
    assert plain_kind.__struct_fields__ == tuple(kind.model_fields)


def test_their_record_is_that_of_the_same_settings_that_people_wrote() -> None:
    """A journal of `exec` has the settings as every other journal."""
    written = Settings(
        workspace=Workspace(path="/work", allow_home=True),
        tools=[exec_argv],
        agents_md=False,
        sandbox=Policy(read=["/a"], limits=Limits(timeout=None)),
        interrupt=Interrupt(grace=0.5),
    )
    settings = PlainSettings(
        workspace=PlainWorkspace(Path("/work"), allow_home=True),
        tools=[PlainTool(FunctionPlace(EXEC, root=SANDBOX_ROOT))],
        agents_md=False,
        sandbox=plain(written.sandbox),
        interrupt=PlainInterrupt(grace=0.5),
    )
    assert plain_record(settings) == as_record(written)
    assert list(plain_record(settings)) == list(as_record(written))


def test_the_longest_grace_period_is_that_of_people_who_write_one() -> None:
    assert Interrupt(grace=MAX_PERIOD).grace == MAX_PERIOD
    with pytest.raises(ConfigError, match="grace"):
        Interrupt(grace=MAX_PERIOD + 1)


def test_the_tool_of_exec_is_described_as_a_worker_would() -> None:
    assert describe(exec_argv, EXEC) == EXEC_SPEC
