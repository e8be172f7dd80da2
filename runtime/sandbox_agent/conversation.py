"""A conversation between a user, a model and tools: the package's main class.

It names no concrete model and no concrete tool; `wiring` makes one from a task file.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, Unpack

from sandbox_agent_ipc.cancel_shield import CancelShield
from sandbox_agent_ipc.token import RunToken
from sandbox_agent_sandbox.outcome import Survivor
from sandbox_agent_sandbox.utf8 import without_surrogates

from sandbox_agent.embedding.blocking import in_executor, run_async
from sandbox_agent.embedding.ctrl_c import run_blocking
from sandbox_agent.errors import StateError
from sandbox_agent.journal.events import AnyEvent, UserText
from sandbox_agent.journal.folder import place_of_run, unwritable
from sandbox_agent.journal.recorder import OnEvent as OnEvent
from sandbox_agent.journal.result import RunResult as RunResult
from sandbox_agent.journal.status import Status, move
from sandbox_agent.models import Model
from sandbox_agent.run.call import OnOutput as OnOutput
from sandbox_agent.run.run import Run
from sandbox_agent.run.setup import Options, Setup, make_setup, refuse_empty
from sandbox_agent.stream import StreamItem, stream_of

if TYPE_CHECKING:
    from sandbox_agent.resume import PastRun


class Conversation:
    """A conversation between a user, a model and tools. Use it in `with` or `async with`, or
    `close()` it.

    What it is about:

    - model: a `Model`, or its name as in a task file: `openai/gpt-4o`, `scripted:steps.yaml`,
      `replay:last`. It is closed with the conversation.
    - tools: a list of built-in names (`shell`, `files`), `package.module:function`, functions, and
      `{name: {"timeout": "60s"}}`. Default, and None: all that are built in.
    - workspace: the folder that tools work in. Default: the current one.
    - sandbox: a `Policy` or its data. None: the default policy.
    - interrupt: how long a call that is stopped may take, as `Interrupt` or two numbers in seconds.
    - budgets: of each run, as `Budgets` or a mapping. Default: no limit but on repeated calls.
    - parallel: calls at once, 1 to 64, by default 8. spares: workers kept ready, by default 2.
    - verify: shell commands that decide whether an agent that says it is done is right.
    - name: of the task, for the record. task_files: that it was read from, which tools cannot
      change. output_dir: the folder of run folders, by default `$XDG_STATE_HOME/sandbox-agent`.
      run_dir: the folder of this conversation itself, new or empty, instead of one in there.

    How your program takes part:

    - on_event: called with each event as it is written.
    - on_output: called with each piece of a call's output: call id, "stdout" or "stderr", bytes.
      Return False to close that stream, or an asyncio.Future to read on when it is done.
    - on_delta: called with each `ModelDelta` of an answer that is still coming.
    - separate_output: True to give each call's standard error a pipe of its own. Otherwise all
      comes as "stdout", in the order in which it was written.
    - stdin: a descriptor, open for reading, that calls get as standard input. Use a pipe: a tool
      could open the file of another one for writing. Default: there is nothing to read.
    - durable: True to sync the journal to the disk once per turn, against power cuts.

    Callbacks are called in the thread of the run and must not block. They may call `interrupt` and
    `cancel_call`. An exception in one becomes a warning.

    Any thread may call `interrupt`, `pause`, `cancel_call`, `wait_stopped` and `send_message`, and
    read `cancel_token`, `status` and `events`. Signal handlers may call the first three. While a
    run is going, `sandbox-agent cancel` interrupts it from another process.

    Raises ConfigError for settings that are not possible; ModelError for a provider's model that
    cannot answer here; TypeError for an option that is not known.
    """

    def __init__(
        self,
        *,
        model: Model | str,
        output_dir: Path | str | None = None,
        name: str | None = None,
        run_dir: Path | str | None = None,
        **options: Unpack[Options],
    ) -> None:
        folder, run = place_of_run(output_dir, run_dir)
        setup = make_setup(folder, model, name, options, run=run)
        self._begin_with(setup, Status.IDLE, segments=0)

    @classmethod
    def resume(
        cls,
        path: Path | str | PastRun,
        *,
        message: str | None = None,
        model: Model | str | None = None,
        **options: Unpack[Options],
    ) -> Self:
        """Go on with a run that has ended or whose agent has died; then `run()` it.

        path: a run's folder or its journal. message: something more to tell the agent; a run that
        is done needs one. model, options: instead of what the journal says, where they are not
        None; a mapping replaces only what it names. Each `run()` has its own budgets, counted from
        its start.

        Before anything else the journal gets an end for each call that was in flight when the
        agent died: `unknown`, or `skipped` if the call had not been sent. The model is told so.
        Nothing is run twice. The journal is locked until `close()`.

        Raises StateError for a run that is going or done; JournalError for a journal that is
        damaged or of an unknown version; ConfigError for settings that are not possible; ModelError
        for a provider's model that cannot answer here; TypeError for an option that is not known;
        OSError.
        """
        from sandbox_agent.resume import PastRun, setup_from_journal

        past = path if isinstance(path, PastRun) else PastRun(path)
        conversation = cls.__new__(cls)
        with past:
            setup = setup_from_journal(past, message, model, options)
            conversation._begin_with(setup, past.state.status(), past.segments)
        return conversation

    def _begin_with(self, setup: Setup, status: Status, segments: int) -> None:
        self._setup = setup
        self._recorder = setup.recorder
        self._host = setup.host
        self.run_dir: Path = setup.recorder.folder
        """The run's folder. It is made with the first message or run."""
        self._status_before = status
        self._segments_before = segments
        self._run: Run | None = None
        self._going = threading.Lock()
        self._closed = False

    # --- talking and running -----------------------------------------------------------------

    def send_message(self, text: str) -> None:
        """Tell the agent something. During a run the model gets it with its next turn.

        Raises ConfigError for an empty text, OSError when it cannot be written down, StateError
        after `close()`.
        """
        self._check_open()
        refuse_empty(text)
        self._recorder.add(UserText, text=without_surrogates(text))

    def run(self) -> RunResult:
        """Run until the agent is done or something ends it. As `arun`, in the calling thread.

        In the main thread, where Ctrl-C has its usual meaning, it stops the run like `interrupt()`
        (a second one skips the grace period). KeyboardInterrupt is raised when all has stopped.
        What your own signal handlers raise is raised when all has stopped, too; see `arun`.

        Raises StateError where an event loop is running: use `arun()` there.
        """
        return run_blocking("run()", "await arun()", self.arun, self._interrupt_if_going)

    def _interrupt_if_going(self) -> bool:
        """Interrupts the run. Returns whether there is one, and it is stopping."""
        self.interrupt()
        token = self.cancel_token
        return token is not None and token.is_cancelled

    async def arun(self) -> RunResult:
        """Run until the agent is done or something ends it.

        When this returns or raises, all calls of the run have ended, their processes are gone, and
        the record is written. If the task that awaits it is cancelled, the work is stopped first,
        and then CancelledError is raised. An `interrupt()` makes it return.

        What a signal handler raises (KeyboardInterrupt, SystemExit) may leave the event loop
        itself, where no coroutine can catch it. `asyncio.run` then cancels its tasks and waits.
        After a second exception, as after a third Ctrl-C, it closes the loop. That stops the run,
        blocks until the work has stopped, and completes the record, with `unknown` as the outcome
        of calls that had started. One more of these exceptions skips the grace period. A loop that
        is left without being closed keeps the run until the loop goes on, or until `close()` or the
        exit of the interpreter, which do the same. SIGINT stays as asyncio has it: your handlers
        are your own.

        Raises StateError when a run is going already or the conversation is closed. Raises
        ConfigError and PolicyError when tools, policy or output folder cannot be used; then nothing
        was started. The result tells whatever else ended the run.
        """
        return await self._drive(self._setup)

    def stream(self) -> AsyncGenerator[StreamItem, None]:
        """Run as `arun` does, and give what happens: `async for item in conversation.stream()`.

        Gives the events of the journal, a `ModelDelta` for each piece of an answer that is coming,
        and an `OutputPiece` for each piece of what a call prints. The last item is the `RunResult`.
        A call that prints more than 1 MiB ahead of a slow reader waits. Callbacks are called too.

        If you leave the loop early, or cancel its task, the run is stopped. After a `break` it may
        take a moment: `async with contextlib.aclosing(conversation.stream()) as items:` waits for
        it, and so does `aclose()` of the conversation. Raises as `arun`, at the first item.
        """
        return stream_of(lambda tap: self._drive(tap.listening(self._setup), tap.put))

    async def _drive(self, setup: Setup, also: OnEvent | None = None) -> RunResult:
        run = self._begin(setup)
        self._recorder.also = also
        try:
            return await run.run()
        finally:
            self._recorder.also = None
            run.leave()

    def _begin(self, setup: Setup) -> Run:
        self._check_open()
        if not self._going.acquire(blocking=False):
            raise StateError(
                "a run of this conversation is going; wait for it, or interrupt() it first"
            )
        before, run = self._run, None
        try:
            self._make_folder()
            move(self.status, Status.RUNNING)
            last = self._segments_before if before is None else before.segment
            run = Run(setup, last + 1, on_over=self._going.release)
            run.listen()
            # One assignment: from here on `interrupt` and `cancel_token` mean this run, both.
            self._run = run
        except BaseException:
            # Raised by a signal handler, if it is not an error of ours. There has been no run.
            if run is not None:
                run.stop_listening()
            self._run = before
            self._going.release()
            raise
        return run

    def _make_folder(self) -> None:
        try:
            self._recorder.make_folder()
        except OSError as error:
            what = f"the folder of the run cannot be made: {self.run_dir}"
            raise unwritable(what, error) from None

    # --- stopping ----------------------------------------------------------------------------

    def interrupt(self, *, exit_code: int | None = None) -> None:
        """Stop the run that is going. Returns at once; takes no lock and needs no event loop.

        The first call cancels the run's token and so all of its calls. A second one moves every
        call straight to SIGTERM. A third changes nothing. Without a run it does nothing.
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
        before that, by itself or by an interrupt, is not paused. Without a run this does nothing: a
        pause never counts for the next run.
        """
        run = self._run
        if run is not None:
            run.pause()

    def cancel_call(self, call_id: str) -> bool:
        """Stop one call, queued or in flight, like an interrupt would. False: no call with this id
        is open."""
        run = self._run
        return run is not None and run.cancel_call(call_id)

    def wait_stopped(self, timeout: float | None = None) -> bool:
        """Block until no run is going. False when `timeout` seconds were not enough.

        In a callback, so in the run's own thread, it waits only for the processes of the calls, and
        only once the run has been stopped: the rest needs that thread. Raises StateError there
        otherwise.
        """
        run = self._run
        return run is None or run.wait_stopped(timeout)

    def freeze(self) -> bool:
        """Stop every process of the calls in flight, as Ctrl-Z does a job, until `thaw()`.

        Blocks for a second at most; returns whether all are certain to have stopped. An
        `interrupt()` ends frozen calls all the same. The time until `thaw()` counts for no call's
        limit, but it counts for a budget of time.
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
        if run is None or (run.is_over and not run.token.is_cancelled):
            return None
        return run.token

    @property
    def model(self) -> Model:
        """The model that answers."""
        return self._setup.model

    @property
    def status(self) -> Status:
        """`idle`, or the status of the run that is going, or of the last one."""
        run = self._run
        return self._status_before if run is None else run.status

    @property
    def events(self) -> tuple[AnyEvent, ...]:
        """Every event of the journal so far. Those from before a resume are read from the disk:
        raises OSError if that fails."""
        return self._recorder.events

    # --- closing -----------------------------------------------------------------------------

    def close(self) -> tuple[Survivor, ...]:
        """Stop what is going and take the sandbox down. Blocks until nothing is left; closing
        twice is fine. A run whose event loop was left gets its end and its record here. Returns
        what could not be stopped."""
        self._closed = True
        if self._run is not None:
            self._run.close()
        with contextlib.ExitStack() as meanwhile:
            if self._has_no_run:
                meanwhile.enter_context(self._recorder.giving_back_room())
            survivors = self._host.close()
            run_async(self._setup.model.aclose)
        self._close_journal()
        return survivors

    async def aclose(self) -> tuple[Survivor, ...]:
        """As `close`, without blocking the event loop. If the task that awaits it is cancelled,
        closing is completed all the same, and then CancelledError is raised."""
        self._closed = True
        loop = asyncio.get_running_loop()
        shield = CancelShield()
        if self._run is not None:
            await self._run.aclose(shield)
        closing = in_executor(self._host.close)
        freeing = in_executor(self._give_back_room)
        await shield.wait({closing, freeing})
        model = loop.create_task(self._setup.model.aclose())
        await shield.wait({model})
        self._close_journal()
        shield.raise_cancelled()
        model.result()
        return closing.result()

    @property
    def _has_no_run(self) -> bool:
        """A run that is not over, because it is in this very thread, still writes its end."""
        return self._run is None or self._run.is_over

    def _give_back_room(self) -> None:
        if self._has_no_run:
            self._recorder.give_back_room()

    def _close_journal(self) -> None:
        if self._has_no_run:
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
