"""Files that a run made in private places of its sandbox, such as /tmp: they are lost with it.

What `write_file` and `edit_file` wrote there is known. Of shell commands only the text is known. So
a path is reported if a command names it and somebody cares: the user, or the agent's final words.
"""

from __future__ import annotations

from sandbox_agent_sandbox.put_off import expression

from sandbox_agent.journal import events
from sandbox_agent.reports.escape import one_line

MAX_LINES = 20
_MAX_PATHS = 1000

_PRIVATE = expression(r"(?<![\w./~-])(?:~|/tmp|/var/tmp|/dev/shm)/[\w./@+-]*[\w@+-]")
"""A path in a private place, in a text or a command."""


class PrivateFiles:
    """Hears the events of a run, and says in the end what is lost."""

    def __init__(self) -> None:
        self._visible: tuple[str, ...] = ()
        self._written: dict[str, None] = {}
        self._in_commands: set[str] = set()
        self._in_texts: dict[str, None] = {}

    def hear(self, event: events.AnyEvent) -> None:
        """Take the next event."""
        if isinstance(event, events.SegmentStarted):
            binds = (event.plan or {}).get("binds", ())
            self._visible = tuple(f"{bind['path'].rstrip('/')}/" for bind in binds)
        elif isinstance(event, events.Ended):
            self._written |= dict.fromkeys(event.private_files)
        elif isinstance(event, events.UserText):
            self._mentioned(event.text)
        elif isinstance(event, events.TurnTaken):
            if event.final:
                self._mentioned(event.text)
            for call in event.calls:
                if call.tool == "shell" and isinstance(call.arguments, dict):
                    self._commanded(call.arguments.get("command"))

    def _commanded(self, command: object) -> None:
        if isinstance(command, str) and len(self._in_commands) < _MAX_PATHS:
            self._in_commands |= set(_PRIVATE.findall(command))

    def _mentioned(self, text: str) -> None:
        if len(self._in_texts) < _MAX_PATHS:
            self._in_texts |= dict.fromkeys(_PRIVATE.findall(text))

    def lines(self) -> list[str]:
        """A line for each file."""
        written = [
            f"  lost, because it was private to the sandbox: {one_line(path)}"
            for path in self._written
        ]
        named = [
            f"  a shell command names {one_line(path)}: inside, this place is private to the "
            "sandbox and is lost with it"
            for path in self._in_texts
            if path in self._in_commands and path not in self._written and self._is_private(path)
        ]
        lines = written + named
        if len(lines) > MAX_LINES:
            lines[MAX_LINES:] = [f"  ... and {len(lines) - MAX_LINES} more are lost"]
        return lines

    def _is_private(self, path: str) -> bool:
        return not any(f"{path}/".startswith(folder) for folder in self._visible)
