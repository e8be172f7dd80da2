"""The program that a spawner is: its command line.

It is a new Python that runs isolated (-I) and without `site` (-S): no environment variable, no user
module and no .pth file of the host has an effect on the processes outside the walls.
"""

from __future__ import annotations

from sandbox_agent_sandbox.import_roots import import_roots
from sandbox_agent_sandbox.interpreter import interpreter, parent_death_prefix

BOOT = (
    # PR_SET_PDEATHSIG comes first: until then this process would outlive the host.
    "import ctypes; ctypes.CDLL(None).prctl(1, 9); "
    # A host that died before that sends no signal any more. Its pidfd, the last argument, shows it.
    "import select, sys; host = select.poll(); host.register(int(sys.argv[-1]), select.POLLIN); "
    "host.poll(0) and sys.exit(); "
    "sys.path[:0] = sys.argv.pop(1).split(chr(0x3a)); "
    # What is imported stays, so looking for garbage meanwhile finds none. `run` turns it on.
    "import gc; gc.disable(); "
    "from sandbox_agent_sandbox import put_off; "
    "put_off.import_msgspec(); put_off.import_socket(); put_off.import_traceback(); "
    "from sandbox_agent_sandbox.host.spawner.run import run; run(*map(int, sys.argv[1:]))"
)


def command_line(control: int, host: int) -> list[str]:
    """Starts a spawner. control: its end of the control socket. host: a pidfd of this process."""
    python = [*parent_death_prefix(), interpreter(), "-I", "-S", "-X", "utf8", "-c", BOOT]
    return [*python, ":".join(import_roots()), str(control), str(host)]
