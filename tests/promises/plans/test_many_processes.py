"""Without namespaces RLIMIT_NPROC counts all processes of the tools' user."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack

from identity import BIN, Person

AGENT = str(BIN / "sandbox-agent")
PERSONS = ["user"]
Ran = subprocess.CompletedProcess[str]

MANY = """
import os, signal
for _ in range(60):
    if os.fork() == 0:
        signal.pause()
print("up", flush=True)
signal.pause()
"""
"""More than the limit below."""


def test_who_has_many_processes_has_as_many_for_tools_as_anybody(person: Person) -> None:
    text = "limits: {processes: 40}\nplan: no_namespaces\n"
    person.write(person.work / "policy.yaml", text)
    one = [AGENT, "exec", "--policy", "policy.yaml", "--", "sh", "-c"]
    with ExitStack() as stack:
        many = stack.enter_context(
            person.start([sys.executable, "-c", MANY], start_new_session=True)
        )
        stack.callback(person.run, ["sh", "-c", f"kill -9 -{many.pid}"])
        assert many.stdout is not None
        assert many.stdout.readline() == "up\n"
        few = "for i in $(seq 20); do sleep 0.1 & done; wait; echo done | cat"
        done = undisturbed(lambda: person.run([*one, few]), lambda done: done.returncode == 0)
        assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
        forks = "import os, time\nfor _ in range(200):\n  os.fork() or time.sleep(9) or os._exit(0)"
        text = "limit: processes 40"
        done = undisturbed(
            lambda: person.run([*one, f"exec python3 -c '{forks}'"]),
            lambda done: text in done.stderr,
        )
        assert done.returncode != 0
        assert text in done.stderr, done


def undisturbed(run: Callable[[], Ran], is_right: Callable[[Ran], bool]) -> Ran:
    """Run it again if it went wrong, some times: other tests run as the same user, and what they
    start after the count counts as well."""
    for _ in range(4):
        if is_right(done := run()):
            return done
    return run()
