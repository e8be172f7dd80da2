"""`Sandbox`: the walls and the ladder, for programs that have an agent loop of their own."""

from __future__ import annotations

from sandbox_agent.box.blocking import BlockingSandbox
from sandbox_agent.box.box import Box


class Sandbox(Box):
    """A sandbox without a model, for programs that have an agent loop of their own.

    Use it in `async with`. In ordinary code use it in `with`: that gives a `BlockingSandbox`, whose
    `run` and `call` block.

    - policy: a `Policy` or its data. None: the default policy.
    - workspace: the folder that calls work in. Default: the current one.
    - tools: what `call` finds by a name, and what `tools` describes; as for a `Conversation`. Name
      functions here that lie neither in the workspace nor in an installed package.
    - interrupt: how long a call that is stopped may take, as `Interrupt` or two numbers in seconds.
    - journal: True to record all calls in a run folder, as a conversation does; or the folder of
      run folders. Default: nothing is recorded. A journal is also kept in memory.
    - name: for the record.

    `run` and `call` may be awaited many times at once, in any number of event loops and threads. 64
    calls go at the same time; the others wait. When one of them returns or raises, all processes of
    the call are gone, or are named in `survivors`. After the end, `findings` names what calls left
    in the workspace that may start programs later. Any thread may call `interrupt` and `close`;
    signal handlers may call the first. A forked child cannot use the sandbox, and its end changes
    nothing for the parent.

    Raises ConfigError for settings that are not possible.
    """

    def open_blocking(self) -> BlockingSandbox:
        """As `open`, in ordinary code. `with` does this. Raises StateError where an event loop is
        running."""
        return BlockingSandbox(self)

    def __enter__(self) -> BlockingSandbox:
        return self.open_blocking()
