"""Agents in tests: a scripted model, real tools in a real sandbox, and the record of the run.

Any program can use `AgentRun`; in pytest it is the fixture `agent_run`.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from sandbox_agent_sandbox.outcome import CallResult, Survivor

from sandbox_agent.conversation import Conversation
from sandbox_agent.errors import ConfigError
from sandbox_agent.models import Model
from sandbox_agent.models.scripted import ScriptedModel, Step, load_script
from sandbox_agent.testing.agent_result import AgentResult, result_of
from sandbox_agent.testing.heard import Heard

if TYPE_CHECKING:
    from sandbox_agent.testing.tool_run import RunningTool

DEFAULTS: Mapping[str, Any] = {"interrupt": (0.5, 0.5), "budgets": {"time": 60}}
"""Options of runs in tests: an interrupt is quick, and a run that does not end is ended."""

PATIENCE = 30.0
"""Seconds that a test waits for what it expects, unless it says otherwise."""

PROMPT = "Do what the test is about."

Steps = Sequence[Mapping[str, Any] | Step] | Path | str | Model
"""What the agent does: turns as in a steps file (`[{"calls": [{"shell": {...}}]}, {"final":
"done"}]`), the path of such a file, or a model."""


class RunningAgent:
    """A run that goes on in a thread while the test does something else. Leaving its `with` block
    interrupts it if it is still going."""

    def __init__(
        self,
        conversation: Conversation,
        heard: Heard,
        keep: Callable[[AgentResult], object] = lambda result: None,
    ) -> None:
        self.conversation = conversation
        self._heard = heard
        self._keep = keep
        self._result: AgentResult | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._go, name="agent-run", daemon=True)
        self._thread.start()

    def _go(self) -> None:
        try:
            self._result = result_of(self.conversation, self.conversation.run())
            self._keep(self._result)
        except BaseException as error:
            self._error = error
        finally:
            self._heard.end()

    def wait_for_call(self, tool: str | None = None, *, timeout: float = PATIENCE) -> str:
        """Blocks until the code of a call runs, of this tool if one is named; returns its id.

        Raises AssertionError if the run ends before, and TimeoutError after `timeout` seconds.
        """
        what = f"a call of {tool}" if tool else "a call"
        return self._wait(lambda: self._heard.started(tool), f"{what} has started", timeout)

    def wait_for_output(self, text: str, *, timeout: float = PATIENCE) -> str:
        """Blocks until a call has printed this text; returns its id. Raises as `wait_for_call`."""
        wanted = text.encode()
        what = f"a call has printed {text!r}"
        return self._wait(lambda: self._heard.printed(wanted), what, timeout)

    def interrupt(self) -> None:
        """As `Conversation.interrupt`: the second one skips the grace period."""
        self.conversation.interrupt()

    def cancel_call(self, call_id: str) -> bool:
        """As `Conversation.cancel_call`."""
        return self.conversation.cancel_call(call_id)

    def result(self, timeout: float = PATIENCE) -> AgentResult:
        """Blocks until the run is over. Raises what the run raised, and TimeoutError after
        `timeout` seconds; the run then goes on."""
        self._thread.join(timeout)
        if self._thread.is_alive():
            raise TimeoutError(
                f"the run is not over after {timeout:g} s; {self._heard.going()}; hint: interrupt()"
                " it, or give it a budget of time"
            )
        if self._error is not None:
            raise self._error
        assert self._result is not None
        return self._result

    def close(self) -> tuple[Survivor, ...]:
        """Stop it, with no grace period, and take its sandbox down. Blocks; idempotent."""
        while self._thread.is_alive():
            self.conversation.interrupt()
            self.conversation.interrupt()
            self._thread.join(0.05)  # a run that is about to begin does not hear the first ones
        return self.conversation.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _wait(self, find: Callable[[], str | None], what: str, timeout: float) -> str:
        found = self._heard.wait(find, timeout)
        if found is not None:
            return found
        if self._heard.is_over:
            result = self._result
            ended = repr(self._error) if result is None else f"{result.status}: {result.reason}"
            raise AssertionError(f"the run ended before {what}: {ended}")
        raise TimeoutError(f"not after {timeout:g} s: {what}; {self._heard.going()}")


class AgentRun:
    """Runs agents for one test, in one workspace. Close it, or use it in `with`.

    folder: gets the workspace, the folders of the runs, and the steps. options: of every run, as
    `Conversation` describes them; a call's own options replace them.
    """

    def __init__(self, folder: Path, **options: Any) -> None:
        self._folder = folder
        self._options = _merged(DEFAULTS, options)
        self._numbers = itertools.count(1)
        self._open: list[RunningAgent | RunningTool | Conversation] = []
        self.results: list[AgentResult] = []
        """Of the runs that have ended, in that order."""
        given = self._options.setdefault("workspace", folder / "workspace")
        self.workspace = Path(getattr(given, "path", given)).absolute()
        """The folder that the tools work in. It is made if it is missing."""
        self.workspace.mkdir(parents=True, exist_ok=True)

    def __call__(self, steps: Steps, *, prompt: str = PROMPT, **options: Any) -> AgentResult:
        """Runs an agent to its end. Raises what `Conversation` and `Conversation.run` raise."""
        with self._conversation(steps, prompt, options) as (conversation, _):
            return self._keep(result_of(conversation, conversation.run()))

    async def arun(self, steps: Steps, *, prompt: str = PROMPT, **options: Any) -> AgentResult:
        """The same in an event loop."""
        with self._conversation(steps, prompt, options, close=False) as (conversation, _):
            async with conversation:
                return self._keep(result_of(conversation, await conversation.arun()))

    def start(self, steps: Steps, *, prompt: str = PROMPT, **options: Any) -> RunningAgent:
        """Starts an agent in a thread, so that the test can interrupt it."""
        with self._conversation(steps, prompt, options, close=False) as (conversation, heard):
            running = RunningAgent(conversation, heard, self._keep)
            self._open.append(running)
            self._open.remove(conversation)
            return running

    def tool(
        self,
        function: Callable[..., Any] | str,
        arguments: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> CallResult:
        """Runs one call of a tool, without a model: `run_tool` in this workspace."""
        with self.start_tool(function, arguments, **more) as running:
            return running.result()

    def start_tool(
        self,
        function: Callable[..., Any] | str,
        arguments: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> RunningTool:
        """Starts one call of a tool, without a model: `start_tool` in this workspace."""
        from sandbox_agent.testing.tool_run import start_tool

        names = ("sandbox", "interrupt", "workspace")
        given = {name: self._options[name] for name in names if name in self._options}
        running = start_tool(function, arguments, **{**given, **more})
        self._open.append(running)
        return running

    def close(self) -> tuple[Survivor, ...]:
        """Stops what is still going. Blocks; idempotent. Returns what could not be stopped."""
        survivors: list[Survivor] = []
        while self._open:
            survivors += self._open.pop().close()
        return tuple(survivors)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @contextlib.contextmanager
    def _conversation(
        self, steps: Steps, prompt: str, options: Mapping[str, Any], close: bool = True
    ) -> Iterator[tuple[Conversation, Heard]]:
        given = _merged(self._options, options)
        heard = Heard(given.get("on_event"), given.get("on_output"))
        given |= {"on_event": heard.on_event, "on_output": heard.on_output}
        given.setdefault("output_dir", self._folder / "runs")
        conversation = Conversation(model=self._model(steps), **given)
        self._open.append(conversation)
        try:
            conversation.send_message(prompt)
            yield conversation, heard
        except BaseException:
            self._close(conversation)
            raise
        if close:
            self._close(conversation)

    def _close(self, conversation: Conversation) -> None:
        conversation.close()
        with contextlib.suppress(ValueError):
            self._open.remove(conversation)

    def _keep(self, result: AgentResult) -> AgentResult:
        self.results.append(result)
        return result

    def _model(self, steps: Steps) -> Model:
        if isinstance(steps, Model):
            return steps
        if isinstance(steps, str | Path):
            return load_script(steps)
        if steps and all(isinstance(step, Step) for step in steps):
            return ScriptedModel([step for step in steps if isinstance(step, Step)])
        # As a file: a mistake is then named with its place, and a failed test shows what ran.
        import yaml

        path = self._folder / f"steps-{next(self._numbers)}.yaml"
        try:
            text = yaml.safe_dump(list(steps), sort_keys=False, allow_unicode=True)
        except yaml.YAMLError as error:
            raise ConfigError(
                f"these steps are no plain data: {error}",
                field="steps",
                hint="give mappings as in a steps file, or a list of Step objects alone",
            ) from None
        path.write_text(text, encoding="utf-8")
        return load_script(path)


def _merged(options: Mapping[str, Any], nearer: Mapping[str, Any]) -> dict[str, Any]:
    """Both; the nearer win. Of budgets field by field, so that the limit of time stays."""
    merged = {**options, **nearer}
    both = options.get("budgets"), nearer.get("budgets")
    if isinstance(both[0], Mapping) and isinstance(both[1], Mapping):
        merged["budgets"] = {**both[0], **both[1]}
    return merged
