"""A conversation between a user, a model and tools: the package's main class.

It names no concrete model and no concrete tool; `wiring` makes one from a task file.
"""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack

from sandbox_agent_ipc.cancel_reason import CancelReason
from sandbox_agent_ipc.cancel_shield import CancelShield
from sandbox_agent_ipc.token import RunToken
from sandbox_agent_sandbox.errors import PolicyError
from sandbox_agent_sandbox.outcome import Survivor

from sandbox_agent.config.settings import Budgets, Interrupt
from sandbox_agent.embedding.control import Control, listen
from sandbox_agent.embedding.ctrl_c import CtrlC
from sandbox_agent.embedding.loop_end import at_loop_end
from sandbox_agent.embedding.signal_wakeup import signals_wake_the_loop
from sandbox_agent.embedding.waiting import complete, run_to_the_end
from sandbox_agent.errors import ConfigError, StateError
from sandbox_agent.journal import folder as run_folder
from sandbox_agent.journal.events import AnyEvent, UserText
from sandbox_agent.journal.recorder import OnEvent as OnEvent
from sandbox_agent.journal.result import RunResult as RunResult
from sandbox_agent.journal.status import Status, move
from sandbox_agent.models import Model, OnDelta
from sandbox_agent.run.call import OnOutput as OnOutput
from sandbox_agent.run.end import STOPPED, end_by_error
from sandbox_agent.run.loop import Run
from sandbox_agent.run.setup import Options, Setup, make_setup

if TYPE_CHECKING:
    from sandbox_agent_sandbox.policy.policy import Policy

    from sandbox_agent.resume import PastRun


class Conversation:
    """See the module. Use it in `with` or `async with`, or `close()` it.

    model: who answers; closed with the conversation. tools: names of built-in ones,
    "package.module:function", functions, or {name: {"timeout": "60s"}}; None for all the built-in
    ones. workspace: the folder
    that tools work in. sandbox: a Policy or its data; None for the default. interrupt: how long a
    stopped call is waited for. budgets: of each run. parallel: calls at once. verify: shell
    commands that decide whether the agent is right in saying that it is done. output_dir: where
    run folders go; None for `$XDG_STATE_HOME/sandbox-agent`. durable: sync the journal to the disk
    once per turn. on_event, on_output: called in the run's thread with each event as it is
    written, and with each piece of output (call id, "stdout" or "stderr", bytes). on_delta: the
    same with each `ModelDelta` of an answer that is still coming. They must not
    block; what they raise becomes a warning. They may call `interrupt` and `cancel_call`.
    separate_output: have calls write standard error to a pipe of its own; else all comes as
    "stdout", in the order in which it was written.

    `interrupt`, `pause`, `cancel_call`, `wait_stopped`, `cancel_token`, `status`, `events` and
    `send_message` are for any thread, the first three for signal handlers as well. While a run is
    going, `sandbox-agent cancel` interrupts it from another process.

    Raises ConfigError for what cannot be.
    """

    def __init__(
        self,
        *,
        model: Model,
        tools: Sequence[Any] | None = None,
        workspace: Path | str = ".",
        sandbox: Policy | Mapping[str, Any] | None = None,
        interrupt: Interrupt | tuple[float, float] = Interrupt(),  # noqa: B008  (frozen)
        budgets: Budgets | Mapping[str, Any] = Budgets(),  # noqa: B008
        parallel: int = 8,
        verify: Sequence[str] = (),
        output_dir: Path | str | None = None,
        name: str | None = None,
        durable: bool = False,
        on_event: OnEvent | None = None,
        on_output: OnOutput | None = None,
        on_delta: OnDelta | None = None,
        separate_output: bool = False,
    ) -> None:
        base = Path(output_dir or run_folder.default_output_dir()).absolute()
        setup = make_setup(
            base / run_folder.new_run_id(),
            model=model,
            tools=tools,
            workspace=workspace,
            sandbox=sandbox,
            interrupt=interrupt,
            budgets=budgets,
            parallel=parallel,
            verify=verify,
            name=name,
            durable=durable,
            on_event=on_event,
            on_output=on_output,
            on_delta=on_delta,
            separate_output=separate_output,
        )
        self._begin_with(setup, Status.IDLE, segments=0)

    @classmethod
    def resume(
        cls,
        path: Path | str | PastRun,
        *,
        message: str | None = None,
        **options: Unpack[Options],
    ) -> Self:
        """Go on with a run that is not going any more, however it ended; then `run()` it.

        path: a run's folder or its journal. message: something more to tell the agent; a run that
        is done needs one. options: instead of what the journal says, with which the run was made;
        budgets given as a mapping replace only what they name. The model is made anew from its
        name, unless it is given. Budgets count from here: each `run()` has its own.

        Before anything else the journal gets an end for each call that was in flight when the
        agent died (`unknown`, or `skipped` if it had not been sent), and the model is told so.
        Nothing is run twice. The journal is locked until `close()`.

        Raises StateError for a run that is going or done, JournalError for a journal that is
        damaged or of an unknown version, ConfigError for what cannot be, TypeError for an option
        that there is none of, OSError.
        """
        from sandbox_agent.resume import PastRun, setup_from_journal

        # Else a misspelt `sandbox` or `verify` would be what it was before, and nobody know.
        for name in options:
            if name not in Options.__annotations__:
                raise TypeError(f"resume() got an unexpected keyword argument {name!r}")
        past = path if isinstance(path, PastRun) else PastRun(path)
        conversation = cls.__new__(cls)
        with past:
            setup = setup_from_journal(past, message, options)
            conversation._begin_with(setup, past.state.status(), past.segments)
        return conversation

    def _begin_with(self, setup: Setup, status: Status, segments: int) -> None:
        self._setup = setup
        self._recorder = setup.recorder
        self._host = setup.host
        self.run_dir: Path = setup.recorder.folder
        """The run's folder. It comes to be with the first message or run."""
        self._status = status
        self._segments = segments
        self._run: Run | None = None
        self._control: Control | None = None
        self._going = threading.Lock()
        self._closed = False

    # --- talking and running -----------------------------------------------------------------

    def send_message(self, text: str) -> None:
        """Tell the agent something. During a run it is heard with the model's next turn.

        Raises OSError when it cannot be written down.
        """
        self._check_open()
        self._recorder.add(UserText, text=text.encode("utf-8", "replace").decode())

    def run(self) -> RunResult:
        """Run until the agent is done or something ends it. As `arun`, in the calling thread.

        In the main thread, where Ctrl-C has its usual meaning, it stops the run like `interrupt()`
        (a second one skips the grace period) and raises KeyboardInterrupt when all has stopped.
        What a signal handler of yours raises is raised when all has stopped, too; see `arun`.

        Raises StateError where an event loop is running: use `arun()` there.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            raise StateError(
                "run() was called in a thread whose event loop is running, which it would block; "
                "await arun() there"
            )
        with CtrlC(self.interrupt) as ctrl_c, asyncio.Runner() as runner:
            result = runner.run(self._arun_from(lambda: ctrl_c.pressed))
        if ctrl_c.pressed:
            raise KeyboardInterrupt
        return result

    async def _arun_from(self, pressed: Callable[[], bool]) -> RunResult:
        """`arun`, for whose Ctrl-C may have come when there was no run yet to be interrupted."""

        def catch_up() -> None:
            token = self.cancel_token
            if pressed() and token is not None and not token.is_cancelled:
                self.interrupt()

        # The first thing in the loop once the run has been made, which needs no turn of the loop.
        asyncio.get_running_loop().call_soon(catch_up)
        return await self.arun()

    async def arun(self) -> RunResult:
        """Run until the agent is done or something ends it.

        When this returns or raises, all calls of the run have ended, their processes are gone, and
        the record is written. If the task that awaits it is cancelled, the work is stopped first,
        and then CancelledError is raised. An `interrupt()` makes it return.

        What a signal handler raises, KeyboardInterrupt or SystemExit, may leave the loop itself,
        where no coroutine can catch it. `asyncio.run` then cancels its tasks and waits; after a
        second one, as after Ctrl-C thrice, it closes the loop. That stops the run, blocks until
        the work has stopped, and completes the record, with `unknown` as the outcome of calls
        that had started; one more of these exceptions skips the grace period. A loop that is left
        without being closed keeps the run until it goes on, or until `close()` or the exit of the
        interpreter, which do the same. SIGINT stays as asyncio has it: an embedder's handlers are
        his own.

        Raises StateError when a run is going already or the conversation is closed; ConfigError
        and PolicyError when tools, policy or output folder cannot be, in which case nothing was
        started. Whatever else ends a run is told by the result.
        """
        run = self._begin()
        try:
            with signals_wake_the_loop(), at_loop_end(self._loop_ended(run)):
                return await self._carry(run)
        except GeneratorExit:
            self._end_without_loop(run)
            raise
        finally:
            self._leave(run)

    async def _carry(self, run: Run) -> RunResult:
        bug: BaseException | None = None
        try:
            end = await run.drive()
        except asyncio.CancelledError as cancellation:
            run.shield.absorb(cancellation)
            end = STOPPED
        except Exception as error:
            bug, end = error, end_by_error(error)
            run.ledger.fail(error, f"a bug: {error!r}")
        except BaseException as error:
            if isinstance(error, GeneratorExit):
                raise
            # Some signal handler raised in the middle of us. The work stops first.
            bug, end = error, STOPPED
            run.stopping.stop(CancelReason.INTERRUPT, f"interrupted by {type(error).__name__}")
        while True:
            try:
                record, trouble = await run.finish(end)
                break
            except (Exception, GeneratorExit):
                raise
            except BaseException as error:
                # The same, or a listener that calls sys.exit(). The record is written first.
                bug = bug or error
        if not run.ledger.over.is_set():
            self._status = move(self._status, record.status)
        if bug is not None:
            raise bug
        run.shield.raise_cancelled()
        if isinstance(trouble, ConfigError | PolicyError):
            raise trouble
        return RunResult(record, self.run_dir, trouble)

    def _loop_ended(self, run: Run) -> Callable[[], None]:
        # Weak, so that a conversation which nobody holds any more is not held by its loop's end.
        mine, its = weakref.ref(self), weakref.ref(run)

        def end() -> None:
            conversation, run = mine(), its()
            if conversation is not None and run is not None:
                conversation._end_without_loop(run)

        return end

    def _end_without_loop(self, run: Run) -> None:
        """End a run whose loop was left and goes no more, by what a signal handler raised for
        instance. Blocks for as long as an interrupt takes; one more such exception hurries it, and
        is raised at the end. In a forked child it does nothing: the run is its parent's."""
        if os.getpid() != run.pid:
            return

        def finish() -> None:
            if not run.ledger.over.is_set():
                self._status = run.finish_without_loop().status
                self._leave(run)

        def hurry() -> None:
            self._host.escalate()
            self._setup.model.escalate()

        run_to_the_end(finish, hurry)

    def _leave(self, run: Run) -> None:
        if run.ledger.over.is_set():
            return
        if self._status is Status.RUNNING:
            self._status = Status.ERROR
        # In this order: whoever waited for the end may start the next run at once.
        if self._control is not None:
            self._control.close()
        self._going.release()
        run.ledger.over.set()

    def _begin(self) -> Run:
        self._check_open()
        if not self._going.acquire(blocking=False):
            raise StateError(
                "a run of this conversation is going; wait for it, or interrupt() it first"
            )
        before = self._status, self._segments, self._control, self._run
        try:
            self._make_folder()
            run = Run(self._setup, self._segments + 1)
            self._status = move(self._status, Status.RUNNING)
            self._segments += 1
            self._control = None
            self._control = listen(
                self.run_dir, lambda: run.interrupt(why="cancelled from outside")
            )
            # One assignment: from here on `interrupt` and `cancel_token` mean this run, both.
            self._run = run
        except BaseException:
            # Of a signal handler, if it is none of ours. There has been no run.
            if self._control is not None:
                self._control.close()
            self._status, self._segments, self._control, self._run = before
            self._going.release()
            raise
        return run

    def _make_folder(self) -> None:
        try:
            self._recorder.make_folder()
        except OSError as error:
            raise ConfigError(
                f"the folder of the run cannot be made: {error}",
                field="output.dir",
                hint="name a folder that you may write to",
            ) from None

    # --- stopping ----------------------------------------------------------------------------

    def interrupt(self, *, exit_code: int | None = None) -> None:
        """Stop the run that is going. Returns at once; takes no lock and needs no event loop.

        The first call cancels the run's token and so all of its calls; a second one moves every
        call straight to SIGTERM; a third changes nothing. Without a run it does nothing.
        exit_code: of the record, instead of 130; the first call's counts.
        """
        run = self._run
        if run is not None:
            run.interrupt(exit_code)

    def pause(self) -> None:
        """End the run that is going between two steps: when the calls in flight have ended, and
        before the model is asked again. Returns at once, like `interrupt`, which may follow.

        The status is then `paused`, and the exit code 0. Nothing was stopped: `cancel_token` is
        None, as after any run that ended by itself. `run()` or `resume` goes on. A run that ends
        before it comes to that, by itself or by an interrupt, is not paused; without a run this
        does nothing, so a pause never strikes the next one.
        """
        run = self._run
        if run is not None:
            run.pause()

    def cancel_call(self, call_id: str) -> bool:
        """Stop one call, queued or in flight, like an interrupt would. False: there is none of
        this id that has not ended."""
        run = self._run
        return run is not None and run.cancel_call(call_id)

    def wait_stopped(self, timeout: float | None = None) -> bool:
        """Block until no run is going. False when `timeout` seconds were not enough.

        In the run's own thread, in a callback, it waits for the processes of the calls alone, and
        only once the run has been stopped: the rest needs that thread. Raises StateError there
        otherwise.
        """
        run = self._run
        if run is None or run.ledger.over.is_set():
            return True
        if threading.get_ident() != run.thread:
            return run.ledger.over.wait(timeout)
        if not run.token.is_cancelled:
            raise StateError("wait_stopped() in the thread of the run; interrupt() it first")
        cell = self._host.cell
        return cell is None or cell.wait_idle(timeout)

    def freeze(self) -> bool:
        """Stop every process of the calls in flight, as Ctrl-Z does a job, until `thaw()`.

        Blocks for a second at most; returns whether it is certain. An `interrupt()` ends what is
        frozen all the same. The time until `thaw()` counts for no call's limit; a budget of time
        goes on.
        """
        return self._host.freeze()

    def thaw(self) -> None:
        """Continue what `freeze()` stopped."""
        self._host.thaw()

    @property
    def cancel_token(self) -> RunToken | None:
        """The token of the run that is going, or of the last one if it was stopped. None before
        the first run and after one that ended by itself."""
        run = self._run
        if run is None or (run.ledger.over.is_set() and not run.token.is_cancelled):
            return None
        return run.token

    @property
    def model(self) -> Model:
        """Who answers."""
        return self._setup.model

    @property
    def status(self) -> Status:
        return self._status

    @property
    def events(self) -> tuple[AnyEvent, ...]:
        """Every event of the journal so far."""
        return self._recorder.events

    # --- closing -----------------------------------------------------------------------------

    def close(self) -> tuple[Survivor, ...]:
        """Stop what is going and take the sandbox down. Blocks until nothing is left; closing
        twice is fine. A run whose event loop goes no more gets its end and its record here.
        Returns what could not be stopped."""
        self._closed = True
        run = self._stop_for_good()
        if run is not None and run.deserted:
            self._end_without_loop(run)
        elif run is not None and threading.get_ident() != run.thread:
            run.ledger.over.wait(self._patience())
        survivors = self._host.close()
        complete(self._setup.model.aclose)
        self._close_journal()
        return survivors

    async def aclose(self) -> tuple[Survivor, ...]:
        """As `close`, without blocking the event loop. If the task that awaits it is cancelled, it
        is seen through all the same, and then CancelledError is raised."""
        self._closed = True
        loop = asyncio.get_running_loop()
        shield = CancelShield()
        if (run := self._stop_for_good()) is not None:
            end = partial(self._end_without_loop, run)
            wait = partial(run.ledger.over.wait, self._patience())
            over = loop.run_in_executor(None, end if run.deserted else wait)
            await shield.wait({over})
        closing = loop.run_in_executor(None, self._host.close)
        await shield.wait({closing})
        model = loop.create_task(self._setup.model.aclose())
        await shield.wait({model})
        self._close_journal()
        shield.raise_cancelled()
        model.result()
        return closing.result()

    def _stop_for_good(self) -> Run | None:
        run = self._run
        if run is None or run.ledger.over.is_set():
            return None
        run.stopping.stop(CancelReason.CLOSED, "the conversation was closed")
        return run

    def _patience(self) -> float:
        """Seconds that a stopped run may take, beyond which closing the sandbox ends it."""
        interrupt = self._host.walls.interrupt
        return interrupt.grace + interrupt.term + 1.0

    def _close_journal(self) -> None:
        run = self._run
        if run is None or run.ledger.over.is_set():
            self._recorder.close()

    def _check_open(self) -> None:
        if self._closed:
            raise StateError("this conversation is closed; make a new one")

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        self._check_open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()
