"""The agent under attack: a program that embeds the package, as users do.

Forked by an umpire, one for each session. It says on a socket what happens, and obeys what comes
from there: strikes that only the program itself can make (`interrupt()`, `close()`, a foreign
`task.cancel()`), and "next". JSON lines both ways.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import json
import os
import random
import signal
import socket
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sandbox_agent.config.settings import Budgets, Interrupt
from sandbox_agent.conversation import Conversation, RunResult
from sandbox_agent.journal.history import AssistantMessage, ToolMessage
from sandbox_agent.journal.status import Status
from sandbox_agent.models import Model, ModelCall, ModelTurn
from sandbox_agent.models.provider import ProviderModel
from sandbox_agent_sandbox.host.disk.sandbox_disk import REMOVAL

from chaos import keepers, slow, tools
from chaos.asked import ORDER, Provider
from chaos.plan import Cause, Phase, Round, Session, Tool, Use, Waits
from chaos.strikes import VERIFY_COMMAND

GAP = 0.12
"""Seconds that the model thinks in a gap that is to be struck."""

BUDGET = 1.2
"""Seconds of time in rounds whose budget is to be spent. The sandbox opens in less."""

RUN_COMES = 5.0
"""Seconds at most between the announcement of a run and the run."""

LONG_BUDGET = 8.0
"""The same where a provider is asked, in every other round: importing litellm takes less."""

SLOW = 0.6
"""Seconds that a slow provider takes until its first byte. More than the strike's jitter."""

PIECES, BETWEEN = 200, 0.004
"""Of an answer that is streamed; the second in seconds."""

REMOVED = 10.0
"""Seconds in which a sandbox's files are removed, on a machine with much to do."""

GAP_LEAD = 0.4
"""Seconds that the calls before such a gap may take when its budget is to be spent in it."""

STDERR = "stderr"
"""The file, in a session's folder, that agents write their standard error to."""


def tool_call(use: Use) -> tuple[str, dict[str, Any]]:
    if use.tool is Tool.SHELL:
        return "shell", {"command": tools.shell_text(use.mark, use.brief)}
    return use.tool.value, {"mark": use.mark, "brief": use.brief}


class Script(Model):
    """A model that says what the round wants said, and looks at the histories that it is sent."""

    name = "chaos"

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._turns: list[tuple[float, ModelTurn]] = []
        self._until: float | None = None

    def load(self, plan: Round) -> None:
        calls = tuple(ModelCall(*tool_call(use)) for use in plan.uses)
        done = ModelTurn("Done.", final=True)
        self._turns = [(0.0, ModelTurn("", calls)), (0.0, done)]
        if plan.phase is Phase.GAP:
            more = ModelTurn("", (ModelCall("shell", {"command": "true"}),))
            self._turns[1:1] = [(GAP, more)]
        # The turn that leads to the phase comes so late that the budget ends in it.
        self._until = None
        if plan.cause is Cause.BUDGET and plan.phase is not Phase.OPENING:
            early = plan.jitter if plan.phase is Phase.STARTING else plan.long
            if plan.phase is Phase.GAP:
                early += GAP_LEAD
            self._until = time.monotonic() + BUDGET - early

    async def complete(
        self, history: Sequence[Any], specs: Any, token: Any, on_delta: Any
    ) -> ModelTurn:
        self._agent.look_at_history(history)
        think, turn = self._turns.pop(0)
        verify = self._agent.plan.phase is Phase.VERIFY
        if self._until is not None and (turn.final if verify else not turn.final):
            await asyncio.sleep(max(0.0, self._until - time.monotonic()))
            if self._agent.plan.phase is Phase.GAP:
                self._until = None
        if think:
            self._agent.say("thinking")
            await asyncio.sleep(
                think if self._agent.plan.cause is not Cause.BUDGET else 2 * GAP_LEAD
            )
        return turn


class Asker(ProviderModel):
    """A real one, that says when it is asked, and when the first piece of an answer has come."""

    def __init__(self, agent: Agent, address: str) -> None:
        super().__init__("openai/gpt-4o", api_base=f"{address}/v1", timeout=60)
        self._agent = agent

    async def complete(self, history: Any, tools: Any, token: Any, on_delta: Any) -> ModelTurn:
        agent, turn = self._agent, self._agent.turn
        agent.turn += 1
        agent.look_at_history(history)
        heard: list[object] = []

        def hear(delta: Any) -> None:
            if not heard:
                agent.say("piece", turn=turn)
            heard.append(delta)
            on_delta(delta)

        agent.say("asking", turn=turn)
        return await super().complete(history, tools, token, hear)


def order(plan: Round) -> str:
    """What the user says in a round whose model is a provider's: what it is to answer."""
    calls = [dict(zip(("name", "arguments"), tool_call(use), strict=True)) for use in plan.uses]
    answers: list[dict[str, Any]] = [{"text": "At once.", "calls": calls}, {"text": "Done."}]
    answers[plan.turn] |= {
        Waits.COLD: {"hold_at": 0},
        Waits.NEVER: {"hold_at": 0},
        Waits.SLOW: {"delay": SLOW},
        Waits.STREAMING: {"text": "word " * PIECES, "pieces": PIECES, "pause": BETWEEN},
        Waits.STALLED: {"text": "word " * PIECES, "pieces": PIECES, "hold_at": 5},
        None: {},
    }[plan.waits]
    return ORDER + json.dumps({"round": plan.number, "answers": answers})


def _cancel_again(loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any]) -> None:
    if not task.done():
        task.cancel()
        loop.call_soon(_cancel_again, loop, task)


def history_problems(history: Sequence[Any]) -> list[str]:
    """As providers see it: each call of a turn has its one result, in order, before the next."""
    expected: list[str] = []
    found = []
    for message in history:
        if isinstance(message, ToolMessage):
            if not expected or message.call_id != expected.pop(0):
                found.append(f"history: a result of {message.call_id} out of place")
            if message.outcome is None or not message.content:
                found.append(f"history: the result of {message.call_id} says nothing")
            continue
        if expected:
            found.append(f"history: {expected} have no result")
        expected = [c.id for c in message.calls] if isinstance(message, AssistantMessage) else []
    if expected:
        found.append(f"history: {expected} have no result")
    return found


class Agent:
    """One session. provider: who is asked; None for a script. Never returns from `run`."""

    def __init__(
        self, session: Session, folder: Path, sock: socket.socket, provider: Provider | None
    ) -> None:
        self._session = session
        self._folder = folder
        self._sock = sock
        self._provider = provider
        self._lock = threading.Lock()
        self._next = threading.Semaphore(0)
        self._model = Script(self)
        self.turn = 0
        self.plan = session.rounds[0]
        self._conversation: Conversation | None = None
        self._struck: Conversation | None = None
        self._task: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None
        self._stopped_tokens: list[Any] = []
        self._natural_tokens: list[Any] = []
        self._during: Any = None
        self._run_before: Any = None
        self._complaints: list[str] = []

    # --- talking to the umpire -----------------------------------------------------------------

    def say(self, what: str, **more: Any) -> None:
        line = json.dumps({"say": what, "t": time.monotonic(), **more}, default=str)
        with self._lock:
            self._sock.sendall(line.encode() + b"\n")

    def _listen(self) -> None:
        for line in self._sock.makefile("r"):
            order = json.loads(line)
            if order["do"] == "next":
                self._next.release()
                continue
            before = time.monotonic()
            try:
                answer = self._obey(order)
            except Exception:
                answer = traceback.format_exc()
            self.say("struck", before=before, after=time.monotonic(), answer=answer)
        os._exit(3)  # the umpire is gone

    def _obey(self, order: dict[str, Any]) -> Any:
        conversation = self._struck
        assert conversation is not None
        match order["do"]:
            case "interrupt":
                self._await_run(conversation)
                conversation.interrupt()
            case "pause":
                self._await_run(conversation)
                conversation.pause()
            case "cancel_call":
                return conversation.cancel_call(order["call"])
            case "task_cancel" | "cancel_storm":
                # In `run()`, the task is the loop's own business: nobody else can cancel it.
                self._await(lambda: self._task is not None)
                if self._task is None:
                    return "no task"
                loop, task = self._task
                cancel = task.cancel
                if order["do"] == "cancel_storm":
                    cancel = functools.partial(_cancel_again, loop, task)
                with contextlib.suppress(RuntimeError):  # too late: the loop is closed
                    loop.call_soon_threadsafe(cancel)
            case "close":
                self._await_run(conversation)
                return [str(survivor) for survivor in conversation.close()]
        return None

    # --- the rounds ----------------------------------------------------------------------------

    def run(self) -> None:
        code = 1
        try:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            threading.Thread(target=self._listen, daemon=True).start()
            before = self._resources()
            for plan in self._session.rounds:
                self.plan = plan
                self._round()
            self._close()
            self._conversation = self._struck = self._task = None
            self._compare(before)
            self.say("over", complaints=self._complaints)
            code = 0
        except BaseException:
            self.say("bug", trace=traceback.format_exc())
        finally:
            os._exit(code)

    def _round(self) -> None:
        plan = self.plan
        self._complaints = []
        conversation = self._conversation or self._make()
        # Apart, since a strike may come when it is closed and let go.
        self._conversation = self._struck = conversation
        self._model.load(plan)
        self._look_before(conversation)
        # Each time, or a run whose end was struck goes on where it was: at its verify commands.
        self.turn = 0
        conversation.send_message(order(plan) if self._provider else "Do your worst.")
        self._during = None
        self._task = None
        self._run_before = conversation._run
        self.say("begin", number=plan.number, run_dir=conversation.run_dir)
        result, error = self._run(conversation)
        returned = time.monotonic()
        self._look_after(conversation)
        closed = None
        if plan.phase is Phase.SHUTDOWN or plan.cause is Cause.CLOSE:
            self._close()
            closed = time.monotonic()
        self.say(
            "returned",
            at=returned,
            closed=closed,
            status=result.status if result else None,
            exit_code=result.exit_code if result else None,
            reason=result.reason if result else None,
            error=repr(error) if error else None,
            complaints=self._complaints,
        )
        self._next.acquire()

    def _await_run(self, conversation: Conversation) -> None:
        """Without a run to strike, `interrupt`, `pause` and `close` leave the next one alone, as
        they promise. A strike at the opening is meant for the run that has been announced, and may
        come before it."""
        self._await(lambda: conversation._run is not self._run_before)

    def _await(self, found: Callable[[], bool]) -> None:
        end = time.monotonic() + RUN_COMES
        while not found() and time.monotonic() < end:
            time.sleep(0.0002)  # between looks: nothing announces a run before it is there

    def _run(self, conversation: Conversation) -> tuple[RunResult | None, BaseException | None]:
        cancels = (Cause.TASK_CANCEL, Cause.CANCEL_STORM)
        by_arun = self.plan.by_arun or self.plan.cause in cancels
        ctrl_c = self.plan.cause is Cause.CTRL_C
        try:
            if ctrl_c:
                signal.signal(signal.SIGINT, signal.default_int_handler)
                return conversation.run(), None
            return (asyncio.run(self._arun(conversation)) if by_arun else conversation.run()), None
        except (Exception, asyncio.CancelledError, KeyboardInterrupt) as error:
            return None, error
        finally:
            if ctrl_c:
                signal.signal(signal.SIGINT, signal.SIG_IGN)

    async def _arun(self, conversation: Conversation) -> RunResult:
        task = asyncio.get_running_loop().create_task(conversation.arun())
        self._task = (asyncio.get_running_loop(), task)
        return await task

    def _make(self) -> Conversation:
        plan = self.plan
        timeout = plan.long if plan.cause is Cause.TIMEOUT else 120.0
        if plan.cause is Cause.TIMEOUT and plan.phase is Phase.STARTING:
            timeout = max(0.001, plan.jitter)
        budget = None
        if plan.cause is Cause.BUDGET:
            budget = max(0.001, plan.jitter) if plan.phase is Phase.OPENING else BUDGET
            if plan.phase is Phase.MODEL and plan.choice % 2:
                budget = LONG_BUDGET
        provider = self._provider
        return Conversation(
            model=self._model if provider is None else Asker(self, provider.address),
            tools=["shell", slow.slow_import, *tools.FUNCTIONS.values()],
            workspace=self._folder / "work",
            sandbox={"limits": {"timeout": timeout}},
            interrupt=Interrupt(*plan.times),
            budgets=Budgets(time=budget),
            parallel=plan.parallel,
            # Where the model process is struck, it is known by being alone between two calls.
            spares=keepers.SPARES if provider is None else 0,
            verify=[VERIFY_COMMAND],
            output_dir=self._folder / "runs",
            on_event=self._on_event,
        )

    def _close(self) -> None:
        conversation, self._conversation = self._conversation, None
        if conversation is None:
            return
        begin = time.monotonic()
        survivors = conversation.close()
        if survivors:
            self._complaints.append(f"close() left survivors: {survivors}")
        self.say("closed", begin=begin)

    def _on_event(self, event: Any) -> None:
        kind = type(event).__struct_config__.tag
        if kind == "segment" and self._conversation is not None:
            self._look_during(self._conversation)
        self.say("event", event=kind, call=getattr(event, "call", None), at=event.monotonic,
                 final=getattr(event, "final", None))  # fmt: skip

    # --- what the program itself can see: tokens, histories, its own descriptors and threads -----

    def _complain(self, text: str) -> None:
        self._complaints.append(text)

    def _look_before(self, conversation: Conversation) -> None:
        token = conversation.cancel_token
        if conversation.status is Status.IDLE and token is not None:
            self._complain("token: there is one before the first run")
        self._look_at_old_tokens("before the next run")

    def _look_during(self, conversation: Conversation) -> None:
        self._during = token = conversation.cancel_token
        if token is None:
            self._complain("token: there is none during a run")
        elif any(token is old for old in self._stopped_tokens + self._natural_tokens):
            self._complain("token: a run was given the token of an earlier one")
        self._look_at_old_tokens("during the next run")

    def _look_after(self, conversation: Conversation) -> None:
        token, during = conversation.cancel_token, self._during
        if token is None:
            if during is not None:
                self._natural_tokens.append(during)
        else:
            if not token.is_cancelled or token.reason is None:
                self._complain("token: the one shown after a stopped run is not cancelled")
            if during is not None and token is not during:
                self._complain("token: the one shown after the run is not the run's")
            self._stopped_tokens.append(token)
        if during is not None and during.is_cancelled and token is None:
            self._complain("token: a stopped run's token was not retained")
        self._look_at_old_tokens("after the run")

    def _look_at_old_tokens(self, when: str) -> None:
        if not all(old.is_cancelled and old.wait(0) for old in self._stopped_tokens):
            self._complain(f"token: one that was cancelled is not any more, {when}")
        if any(old.is_cancelled for old in self._natural_tokens):
            self._complain(f"token: one of a run that ended by itself is cancelled, {when}")

    def look_at_history(self, history: Sequence[Any]) -> None:
        self._complaints += history_problems(history)

    def _resources(self) -> tuple[int, int]:
        gc.collect()
        return len(os.listdir("/proc/self/fd")), threading.active_count()

    def _compare(self, before: tuple[int, int]) -> None:
        # What a sandbox had on a slow disk is removed after it, by threads that programs wait for.
        for thread in threading.enumerate():
            if thread.name == REMOVAL:
                thread.join(REMOVED)
        after = self._resources()
        # What the interpreter opens for itself once: random device, an executor's thread.
        if after[0] > before[0] + 2 or after[1] > before[1] + 2:
            self._complain(f"leak: descriptors and threads were {before}, are {after}")


def fork(session: Session, folder: Path, provider: Provider | None) -> tuple[int, socket.socket]:
    """Start an agent. Returns its pid and the umpire's end of the socket."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        log = os.open(folder / STDERR, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(log, 2)
        os.close(log)
        random.seed()
        if provider is not None:
            os.environ["OPENAI_API_KEY"] = provider.key
        Agent(session, folder, theirs, provider).run()
    theirs.close()
    return pid, ours
