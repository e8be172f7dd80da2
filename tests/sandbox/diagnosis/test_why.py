"""Why a path is as it is, by the plan alone."""

from __future__ import annotations

import pytest
from a_plan import plan
from msgspec.structs import replace
from sandbox_agent_sandbox.diagnosis.why import Access, why
from sandbox_agent_sandbox.plan import Mask, MaskedFor, PlanKind, Symlink, Unshared


@pytest.mark.parametrize(
    ("path", "access", "real"),
    [
        ("/home/you/project", Access.WRITABLE, None),
        ("/home/you/project/new/../other", Access.WRITABLE, "/home/you/project/other"),
        ("/home/you/project/tests/test_a.py", Access.PROTECTED, None),
        ("/home/you/project/testsuite", Access.WRITABLE, None),
        ("/home/you/project/.git/hooks/pre-commit", Access.PROTECTED, None),
        ("/home/you/project/secret/key", Access.HIDDEN, None),
        ("/home/you/.ssh", Access.ABSENT, None),
        ("/home/you", Access.LEADING, None),
        ("/usr/bin/env", Access.READABLE, None),
        ("/bin/env", Access.READABLE, "/usr/bin/env"),
        ("/data/x", Access.WRITABLE, "/home/you/project/data/x"),
        ("/etc/passwd", Access.OWN, None),
        ("/etc/shadow", Access.HIDDEN, None),
        ("/tmp/build", Access.OWN, None),
        ("/proc/1/environ", Access.OWN, None),
        ("/opt/tools", Access.ABSENT, None),
        ("/", Access.LEADING, None),
    ],
)
def test_a_path_is_explained(path: str, access: Access, real: str | None) -> None:
    found = why(plan(), path)
    assert (found.access, found.real) == (access, real or path)
    assert found.what
    if access in (Access.ABSENT, Access.PROTECTED, Access.HIDDEN, Access.READABLE):
        assert "sandbox." in found.hint


@pytest.mark.parametrize(
    ("path", "access", "words"),
    [
        ("/home/you/project", Access.WRITABLE, "can be written"),
        ("/home/you/project/tests/test_a.py", Access.PROTECTED, "is put back after each call"),
        ("/home/you/project/secret/key", Access.WRITABLE, "nothing can be hidden"),
        ("/home/you/.ssh", Access.ABSENT, "cannot be opened: the policy does not name it"),
        ("/home/you", Access.LEADING, "cannot be opened: it only leads"),
        ("/usr/bin/env", Access.READABLE, "is shown read-only"),
        ("/etc/shadow", Access.HIDDEN, "cannot be opened"),
        ("/tmp/build", Access.ABSENT, "$TMPDIR"),
        ("/proc/1/environ", Access.OWN, "the host's"),
    ],
)
def test_without_namespaces_everything_is_there_and_shut(
    path: str, access: Access, words: str
) -> None:
    secret, judge = "/home/you/project/secret", "/home/you/project/tests"
    how = Unshared(abi=7, shown=(secret,), undone=(judge,))
    unshared = replace(plan(), kind=PlanKind.NO_NAMESPACES, unshared=how)
    found = why(unshared, path)
    assert (found.access, words in found.what) == (access, True), found
    assert "shown inside" not in found.what


def test_what_is_hidden_says_for_what() -> None:
    for reason in MaskedFor:
        mask = Mask("/home/you/project/kept", folder=True, reason=reason)
        found = why(replace(plan(), masks=(mask,)), "/home/you/project/kept/deep")
        assert found.access is Access.HIDDEN
        assert "/home/you/project/kept" in found.what and found.hint
        assert ("sandbox.hide" in found.what + found.hint) == (reason is MaskedFor.POLICY)


def test_links_in_a_circle_end() -> None:
    circle = replace(plan(), symlinks=(Symlink("/a", "b"), Symlink("/b", "a")))
    assert why(circle, "/a/x").access is Access.ABSENT
