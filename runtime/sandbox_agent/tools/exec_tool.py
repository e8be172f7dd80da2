"""The tool behind `exec` and `Sandbox.run`, as a worker would describe it.

Written down here, so that a command needs neither to import the tool nor to look at its signature.
"""

from __future__ import annotations

from sandbox_agent_ipc.messages import FunctionRef, ToolSpec

EXEC = FunctionRef("sandbox_agent_sandbox.inside.tools.shell", "exec_argv")

EXEC_SPEC = ToolSpec(
    "exec_argv",
    "Run one program with its arguments, without a shell; found in PATH. Its standard input is the"
    "\nworker's own.\n\n"
    "As in sh, the exit status is 127 for a program that is not there and 126 for one that cannot "
    "be\nexecuted, with a message on standard error.",
    {
        "type": "object",
        "properties": {
            "argv": {
                "type": "array",
                "items": {"type": "string"},
                "description": "The program and its arguments.",
            },
            "cwd": {
                "anyOf": [{"type": "string"}, {"type": "null"}],
                "description": "The folder that it begins in; by default the working folder.",
                "default": None,
            },
        },
        "required": ["argv"],
        "additionalProperties": False,
    },
    EXEC,
)
"""`inside.worker.signature.describe` gives the same for the function."""
