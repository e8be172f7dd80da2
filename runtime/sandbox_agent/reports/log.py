"""What a run's journal says, for the logger `sandbox_agent`."""

from __future__ import annotations

from sandbox_agent_sandbox.outcome import Rung

from sandbox_agent.embedding.log import log
from sandbox_agent.journal.events import AnyEvent, Ended, SegmentEnded, SegmentStarted


def log_event(run: str, event: AnyEvent) -> None:
    """Log an event, if an embedding program wants to know of it. run: the run's id.

    Info: a run starts or ends. Warning: a call was ended by SIGKILL. Error: a process could not be
    stopped.
    """
    match event:
        case SegmentStarted():
            log("info", "run %s: started, model %s", run, event.settings.model)
        case SegmentEnded():
            status, code, why = event.status, event.exit_code, event.reason
            log("info", "run %s: ended as %s, exit code %d: %s", run, status, code, why)
        case Ended():
            if event.rung is Rung.KILL:
                log("warning", "run %s: %s was ended by SIGKILL", run, event.call)
            for survivor in event.survivors:
                log(
                    "error",
                    "run %s: %s left pid %d, which could not be stopped: %s",
                    run,
                    event.call,
                    survivor.pid,
                    survivor.command,
                )
        case _:
            pass
