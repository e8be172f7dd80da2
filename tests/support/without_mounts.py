"""What a tool is refused in a plan without namespaces, as it says itself."""

from __future__ import annotations

import json
from typing import Any

from identity import BIN, Person

AGENT = str(BIN / "sandbox-agent")
PYTHON = "/usr/bin/python3"

TRY = """
import ctypes, errno, json, os, socket, sys
told = {}
def attempt(name, do):
    try:
        told[name] = do() or "done"
    except OSError as error:
        told[name] = errno.errorcode[error.errno]
    except ValueError:  # what `resource` makes of EPERM
        told[name] = "EPERM"
"""


def inside(person: Person, code: str, *arguments: str, policy: str = "", flags: str = "") -> Any:
    """What `attempt`s in a sandbox without namespaces have told, by name."""
    file = person.write(person.folder / "policy.yaml", f"plan: no_namespaces\n{policy}")
    command = [PYTHON, "-c", f"{TRY}{code}\nprint(json.dumps(told))", *arguments]
    done = person.run(
        [AGENT, "exec", "--policy", str(file), *flags.split(), "--", *command],
        env={"XDG_STATE_HOME": str(person.folder / "state")},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])
