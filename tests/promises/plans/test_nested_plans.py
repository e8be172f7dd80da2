"""A sandbox of this kind in others of its kind: it works, or says why it cannot."""

from __future__ import annotations

from identity import BIN, Person

AGENT = str(BIN / "sandbox-agent")
PERSONS = ["user"]

DEEP = """
import ctypes, os, sys
libc, restricted = ctypes.CDLL(None, use_errno=True), 0
while True:  # landlock_create_ruleset(2), landlock_restrict_self(2)
    ruleset = libc.syscall(444, (ctypes.c_uint64 * 3)(0, 0, 1), 24, 0)
    if libc.syscall(446, ruleset, 0) < 0:
        break
    restricted += 1
assert restricted
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_two_in_each_other_work_and_the_seventeenth_layer_is_named(person: Person) -> None:
    person.write(person.work / "policy.yaml", "plan: no_namespaces\n")
    one = [AGENT, "exec", "--policy", "policy.yaml", "--"]
    text = "echo inside; ls -A ~; touch made; ls /proc/$PPID/fd || echo shut"
    done = person.run([*one, *one, "sh", "-c", text])
    said = done.stdout.split()
    # The worker, which is its parent, would else lend it the pipe for its verdict.
    assert (done.returncode, said) == (0, ["inside", ".config", "shut"]), done.stderr
    assert (person.work / "made").exists()
    done = person.run([*one, "/usr/bin/python3", "-c", DEEP, *one, "true"])
    assert done.returncode == 125, done.stderr
    assert "cannot be done here: Landlock takes no more rules: there are sixteen" in done.stderr
