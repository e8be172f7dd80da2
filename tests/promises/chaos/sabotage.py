"""Ways to break the product, each by a small change of its source, made in a copy.

What breaks a promise must be caught by the check of that promise, so each variant says what the
violation reads like. A change that does not fit the source any more is an error, not a pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import broken_copy

from chaos.plan import AGENT_DIES, KILLS_MODEL, Cause, Phase, Round, Tool, Waits

ROOT, USER = "root", "user"

_CELL = "sandbox/sandbox_agent_sandbox"
_RUN = "runtime/sandbox_agent"
_IPC = "ipc/sandbox_agent_ipc"


@dataclass(frozen=True)
class Sabotage:
    """changes: (file, what stands there once, what comes instead). caught_by: a regular expression
    for the beginning of the violation. focus: rounds that can show it, to save time. needs: who
    can show it, where it is not both: root alone can freeze a disk or make a control group here,
    and root alone may start more processes than RLIMIT_NPROC says."""

    name: str
    changes: tuple[tuple[str, str, str], ...]
    caught_by: str
    focus: Callable[[Round], bool] = lambda plan: True
    needs: str | None = None

    def apply(self, folder: Path) -> dict[str, str]:
        """Make the broken copy in `folder`. Returns the environment that has it imported. Raises
        broken_copy.DoesNotFit."""
        return broken_copy.make(folder, f"sabotage {self.name!r}", self.changes)


def _with(*tools: Tool) -> Callable[[Round], bool]:
    return lambda plan: plan.phase is Phase.IN_FLIGHT and any(u.tool in tools for u in plan.uses)


def _causes(*causes: Cause) -> Callable[[Round], bool]:
    return lambda plan: plan.cause in causes


def _in(*phases: Phase) -> Callable[[Round], bool]:
    return lambda plan: plan.phase in phases


def _agent_dies(plan: Round) -> bool:
    return plan.cause in AGENT_DIES


VARIANTS = (
    Sabotage(
        "no KILL rung",
        (
            (
                f"{_CELL}/host/ladder.py",
                "        self._timeout = None\n        self._target.kill()\n",
                "        self._timeout = None\n",
            ),
        ),
        "bounded: ",
        _with(Tool.BUSY_C, Tool.TERM_IGNORER),
    ),
    Sabotage(
        "slot reused without a new generation",
        ((f"{_IPC}/board.py", "            self._generations[slot.index] += 1\n", ""),),
        "token: .* was given the word of an earlier call",
    ),
    Sabotage(
        "writable board",
        (
            (
                f"{_IPC}/board.py",
                "memfd.F_SEAL_FUTURE_WRITE | memfd.F_SEAL_SHRINK | memfd.F_SEAL_GROW"
                " | memfd.F_SEAL_SEAL",
                "memfd.F_SEAL_SHRINK",
            ),
        ),
        "token: .*the board was written to",
        _with(Tool.ATTACKER),
    ),
    Sabotage(
        "no journal write before dispatch",
        (
            (
                f"{_RUN}/run/call.py",
                "        dispatched = self.journal.record(\n",
                "        dispatched = request.command is None or self.journal.record(\n",
            ),
        ),
        "started: .* does not say that it was dispatched",
    ),
    Sabotage(
        "late start after the flag",
        (
            (
                f"{_CELL}/inside/worker/main.py",
                "        if token.is_cancelled:\n            raise NotStarted\n",
                "",
            ),
        ),
        "started: .* after the flag",
        lambda plan: (
            plan.phase is Phase.STARTING and any(u.tool is Tool.SLOW_IMPORT for u in plan.uses)
        ),
    ),
    Sabotage(
        "a missing result",
        (
            (
                f"{_RUN}/run/call.py",
                '        """Record the end of a call that was never sent."""\n',
                "        return None\n",
            ),
            (
                f"{_RUN}/journal/recorder.py",
                "for call in self.state.open_calls():",
                "for call in ():",
            ),
        ),
        "results: .* has no end",
        lambda plan: plan.parallel < len(plan.uses),
    ),
    Sabotage(
        "kill by process group only",
        (
            (
                f"{_CELL}/host/process.py",
                '        """SIGKILL."""\n        self._signal(signal.SIGKILL)\n',
                '        """SIGKILL."""\n'
                "        import os\n"
                "        for child in self._process.children() if self._process else ():\n"
                "            with suppress(OSError):\n"
                "                os.killpg(child.pid, signal.SIGKILL)\n",
            ),
        ),
        "(bounded|stopped|ends: survivors)",
        _with(Tool.DAEMONISER, Tool.TERM_IGNORER),
    ),
    Sabotage(
        "results swallowed",
        (
            (
                f"{_CELL}/host/verdict.py",
                'content=result.content if result is not None else "",',
                'content="",',
            ),
        ),
        "results: .* what it returned is missing",
        _in(Phase.GAP, Phase.VERIFY, Phase.SHUTDOWN),
    ),
    Sabotage(
        "spawner outliving the host",
        (
            (
                f"{_CELL}/host/spawner/program.py",
                "import ctypes; ctypes.CDLL(None).prctl(1, 9); ",
                "",
            ),
            (
                f"{_CELL}/interpreter.py",
                '_prefix = (_SETPRIV, "--pdeathsig", "KILL", "--") if able else ()',
                "_prefix = ()",
            ),
            (
                f"{_CELL}/inside/spawner.py",
                "    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)\n"
                '    syscalls.set_process_name("sandbox-spawner")\n',
                '    syscalls.set_process_name("sandbox-spawner")\n',
            ),
            (
                f"{_CELL}/inside/spawner.py",
                "        os.waitpid(init_pid, 0)\n    os._exit(0)",
                "        os.waitpid(init_pid, 0)\n    signal.pause()\n    os._exit(0)",
            ),
        ),
        "stopped: ",
        _agent_dies,
    ),
    Sabotage(
        "token replaced on the next run",
        (
            (
                f"{_RUN}/conversation.py",
                "            self._run = run\n        except",
                "            if self._run is not None:\n"
                "                self._run.token._first.clear()\n"
                "            self._run = run\n        except",
            ),
        ),
        "token: one that was cancelled is not any more",
    ),
    Sabotage(
        "started acknowledged too early",
        (
            (
                f"{_CELL}/host/call_io.py",
                "CallState.WAITING: {Ready: CallState.READY},",
                "CallState.WAITING: {Ready: CallState.STARTED},",
            ),
            (
                f"{_CELL}/host/call_io.py",
                "    def _on_output(self,",
                "    def _on_message(self, message):\n"
                "        if isinstance(message, Ready):\n"
                "            self._request.on_started()\n"
                "        super()._on_message(message)\n\n"
                "    def _on_output(self,",
            ),
            (
                f"{_CELL}/inside/worker/main.py",
                "            raise NotStarted\n        outbox.send(Started())\n",
                "            raise NotStarted\n",
            ),
        ),
        "started: .* is said to have started, and never ran",
        _in(Phase.STARTING),
    ),
    Sabotage(
        "ladder times multiplied",
        ((f"{_CELL}/host/ladder.py", "self._grace = grace\n", "self._grace = grace * 3\n"),),
        "bounded: ",
        _with(Tool.SLEEPING, Tool.BUSY_PYTHON, Tool.BUSY_C),
    ),
    Sabotage(
        "pidfd proof skipped",
        (
            (
                f"{_CELL}/host/command_queue.py",
                "self._commands.add_for(due, lambda now: call_process.ladder.finish(now))\n",
                "def finish(now: float) -> None:\n"
                "            if call_process.id in self._calls:\n"
                "                call_process.ladder.finish(now)\n"
                "                self._end_call(call_process, proven=True)\n\n"
                "        self._commands.add_for(due, finish)\n",
            ),
        ),
        "stopped: ",
        _with(Tool.DAEMONISER, Tool.SHELL, Tool.FORK_LOOP),
    ),
    Sabotage(
        "TERM not followed by CONT",
        (
            (
                f"{_CELL}/inside/call_init.py",
                "for number in (signal.SIGTERM, signal.SIGCONT):",
                "for number in (signal.SIGTERM,):",
            ),
        ),
        "rates: self_stopper",
        _with(Tool.SELF_STOPPER),
    ),
    Sabotage(
        "flag without a wake-up",
        (
            (
                f"{_CELL}/host/call_process.py",
                '            os.write(wake.number, b"!")\n',
                "            pass\n",
            ),
        ),
        "rates: waiting",
        _with(Tool.WAITING),
    ),
    Sabotage(
        "init does not follow a host that froze it",
        (
            (
                f"{_CELL}/inside/init.py",
                "        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)\n",
                "",
            ),
        ),
        "stopped: ",
        _causes(Cause.FREEZE_AND_KILL_AGENT),
    ),
    Sabotage(
        "death called a cancellation",
        (
            (
                f"{_CELL}/host/verdict.py",
                "    return Outcome.CRASHED, seen.failure or _death(seen.exit_status)\n",
                "    return Outcome.CANCELLED, seen.failure or _death(seen.exit_status)\n",
            ),
        ),
        "outcomes: ",
        _causes(Cause.KILL_INIT, Cause.KILL_SPAWNER),
    ),
    Sabotage(
        "history without a turn's last result",
        (
            (
                f"{_RUN}/journal/state.py",
                "            self._places[call.id] = len(self._messages)\n",
                "            if call is turn.calls[-1]:\n"
                "                continue\n"
                "            self._places[call.id] = len(self._messages)\n",
            ),
        ),
        "history: .* no result of",
    ),
    Sabotage(
        "history with results in another order",
        (
            (
                f"{_RUN}/journal/state.py",
                "            self._add_call(call)\n            self._places",
                "            self._add_call(call)\n"
                "        for call in turn.calls[::-1]:\n"
                "            self._places",
            ),
        ),
        "history: .* is due",
        lambda plan: len(plan.uses) > 1,
    ),
    Sabotage(
        "torn journal",
        (
            (
                f"{_RUN}/journal/file.py",
                '    return _encoder.encode(event) + b"\\n"',
                '    return _encoder.encode(event) + b"\\n{"',
            ),
        ),
        "(journal: |ends: )",
    ),
    Sabotage(
        "a wedged model process is not ended",
        (
            (
                f"{_CELL}/host/session.py",
                "            grace=patience.grace,\n",
                "            grace=patience.grace + 60,\n",
            ),
        ),
        "(bounded|provider): ",
        _causes(Cause.STOP_MODEL),
    ),
    Sabotage(
        "an interrupt leaves the provider's connection open",
        (
            (
                f"{_RUN}/models/process/inside/serve.py",
                "await completion.answer(_ask.decode(asked.body), tell)",
                "await asyncio.shield(completion.answer(_ask.decode(asked.body), tell))",
            ),
        ),
        "provider: .* still open",
        _in(Phase.MODEL),
    ),
    Sabotage(
        "what was with a model process that died is not asked again",
        ((f"{_RUN}/models/process/host.py", "ATTEMPTS = 3\n", "ATTEMPTS = 1\n"),),
        "model: the run ended as error",
        lambda plan: plan.cause in KILLS_MODEL,
    ),
    Sabotage(
        "an interrupt waits for litellm's import",
        (
            (
                f"{_RUN}/models/process/host.py",
                "= [opened, stopped]",
                "= [opened]",
            ),
        ),
        "bounded: ",
        lambda plan: plan.waits is Waits.COLD,
    ),
    Sabotage(
        "the model process outlives its last conversation",
        (
            (
                f"{_RUN}/models/process/shared.py",
                "        return process.close()\n",
                "        return ()\n",
            ),
        ),
        "stopped: ",
        lambda plan: plan.cause is Cause.CLOSE and plan.phase is Phase.MODEL,
    ),
    Sabotage(
        "keys in the environment of tools",
        (
            (
                f"{_CELL}/policy/environment.py",
                '        "SANDBOX_AGENT": "1",\n',
                '        "SANDBOX_AGENT": "1",\n'
                '        **{k: v for k, v in os.environ.items() if "_KEY" in k},\n',
            ),
        ),
        "secret: .* was given",
        _in(Phase.MODEL),
    ),
    Sabotage(
        "a key in the journal",
        (
            (
                f"{_RUN}/models/provider.py",
                'return {"through": THROUGH, **changed}',
                'return {"through": THROUGH, **changed,'
                ' "key": __import__("os").environ.get("OPENAI_API_KEY")}',
            ),
        ),
        "secret: the key is in",
        _in(Phase.MODEL),
    ),
    Sabotage(
        "a pause that stops what is going on",
        (
            (
                f"{_RUN}/conversation.py",
                "            run.pause()\n",
                "            run.interrupt()\n",
            ),
        ),
        "(ends: .* after pause|outcomes: .* after pause)",
        _causes(Cause.PAUSE),
    ),
    Sabotage(
        "deaf to who cancels a run from outside",
        (
            (
                f"{_RUN}/run/run.py",
                'lambda: self.interrupt(why="cancelled from outside")',
                "lambda: None",
            ),
        ),
        "bounded: ",
        lambda plan: plan.cause is Cause.CANCEL_RUN and plan.phase is Phase.IN_FLIGHT,
    ),
    Sabotage(
        "whoever is cancelled again and again waits for ever",
        (
            (
                f"{_IPC}/cancel_shield.py",
                "        while items and not enough(item.done() for item in items):\n",
                "        while items:\n",
            ),
            (
                f"{_IPC}/cancel_shield.py",
                "                await wait(items, timeout=limit, first=first)\n",
                "                await wait(items, timeout=limit, first=first)\n"
                "                break\n",
            ),
        ),
        "bounded: ",
        _causes(Cause.CANCEL_STORM),
    ),
    Sabotage(
        "a resumed run leaves open what was in flight",
        (
            (
                f"{_RUN}/journal/recorder.py",
                "        self.state = state\n        self.end_open_calls(self.add)\n",
                "        self.state = state\n",
            ),
        ),
        "resume: ",
        _agent_dies,
    ),
    Sabotage(
        "a signal waits for the disk",
        (
            (
                f"{_RUN}/cli/verbs/run_under_signals.py",
                "        conversation.interrupt(exit_code=by_signal(signum))\n",
                '        (conversation.run_dir / "signal").write_text(str(signum))\n'
                "        conversation.interrupt(exit_code=by_signal(signum))\n",
            ),
        ),
        "bounded: .*the disk still frozen",
        _causes(Cause.FREEZE_DISK),
        needs=ROOT,
    ),
    Sabotage(
        "whoever stops a run waits for its slow reader",
        (
            (
                f"{_RUN}/cli/verbs/run_and_report.py",
                "    left = 0 if stopped else until - time.monotonic()\n",
                "    left = until - time.monotonic()\n",
            ),
        ),
        "bounded: ",
        _causes(Cause.SLOW_READER),
    ),
    Sabotage(
        "a reader that is gone ends the process",
        (
            (
                f"{_RUN}/cli/signals.py",
                "        signal.signal(signal.SIGCHLD, signal.SIG_DFL)\n",
                "        signal.signal(signal.SIGCHLD, signal.SIG_DFL)\n"
                "        signal.signal(signal.SIGPIPE, signal.SIG_DFL)\n",
            ),
        ),
        "ends: |bounded: |results: ",
        _causes(Cause.READER_GONE),
    ),
    Sabotage(
        "an interrupt starts a thread",
        (
            (
                f"{_CELL}/host/command_queue.py",
                "        call_process.flag(reason)\n        self._commands.wake()\n",
                "        import threading\n\n"
                "        threading.Thread(target=call_process.flag, args=(reason,)).start()\n"
                "        self._commands.wake()\n",
            ),
        ),
        "ends: |bounded: ",
        _causes(Cause.NO_PROCESSES),
        needs=USER,
    ),
    Sabotage(
        "a call that was ended for want of memory does not say so",
        (
            (
                f"{_CELL}/limits/struck.py",
                "    killed = usage.counts.killed\n    return",
                "    killed = 0\n    return",
            ),
        ),
        "memory: ",
        _causes(Cause.OUT_OF_MEMORY),
        needs=ROOT,
    ),
)
"""The first ten are those that the project's own plan asks for."""
