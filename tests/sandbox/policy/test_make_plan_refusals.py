"""What no sandbox can be made of is refused, with the field and what to do. Each refusal stands
beside what is next to it and works."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sandbox_agent_sandbox.errors import PolicyError
from sandbox_agent_sandbox.plan import Mask, MaskedFor, Plan, Symlink
from sandbox_agent_sandbox.policy.make_plan import make_plan
from sandbox_agent_sandbox.policy.policy import Policy
from sandbox_agent_sandbox.policy.probe import HostFacts


@pytest.fixture
def top(tmp_path: Path) -> Path:
    folder = tmp_path.resolve()
    for name in ("root", "home", "python", "code", "work/tests", "data/inner"):
        (folder / name).mkdir(parents=True)
    for name in ("work/file", "data/file"):
        (folder / name).write_text(name)
    (folder / "link").symlink_to("data")
    (folder / "loop").symlink_to("loop")
    return folder


def facts(top: Path, **environment: str) -> HostFacts:
    python = top / "python"
    return HostFacts(
        uid=1234,
        gid=1235,
        home=top / "home",
        path=(),
        prefix=python,
        base_prefix=python,
        code=(top / "code",),
        import_path=(),
        environment=environment,
        root=top / "root",
    )


def plan(top: Path, workspace: Path | None = None, hidden: Any = (), **policy: Any) -> Plan:
    """The plan of a policy whose paths start in `top`."""
    fields = {
        name: [top / path for path in value] if isinstance(value, list) else value
        for name, value in policy.items()
    }
    made = Policy.model_validate(fields)
    return make_plan(made, facts(top), workspace=workspace or top / "work", hidden=hidden)


def refused(text: str) -> Any:
    return pytest.raises(PolicyError, match=text)


def shown(made: Plan) -> dict[str, bool]:
    """The paths that are visible, and whether they can be written."""
    return {bind.path: bind.writable for bind in made.binds}


@pytest.mark.parametrize("field", ["read", "write"])
@pytest.mark.parametrize("path", ["/proc", "/proc/self/ns", "/sys/kernel", "/dev", "/dev/shm", "/"])
def test_nothing_of_the_kernels_and_not_the_whole_root_is_shared(
    top: Path, field: str, path: str
) -> None:
    with refused(f"^{field}: .*cannot be shared.*\n  hint: remove the entry$"):
        plan(top, **{field: [path]})
    assert shown(plan(top, **{field: ["data"]}))[str(top / "data")] is (field == "write")


@pytest.mark.parametrize("path", ["/proc", "/"])
def test_nor_is_it_a_workspace(top: Path, path: str) -> None:
    with refused("^workspace: .*cannot be shared.*\n  hint: choose another folder$"):
        plan(top, workspace=Path(path))


def test_a_workspace_is_a_folder(top: Path) -> None:
    with refused("work/file is not a folder"):
        plan(top, workspace=top / "work/file")
    with refused(r"(?s)^workspace: .*nowhere does not exist\n.*choose another folder$"):
        plan(top, workspace=top / "nowhere")


@pytest.mark.parametrize("field", ["read", "write", "protect"])
@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("nowhere", "/nowhere does not exist\n  hint: create it, or remove the entry$"),
        ("loop", "/loop cannot be reached: .*\n  hint: remove the entry$"),
    ],
)
def test_what_is_named_exists(top: Path, field: str, path: str, words: str) -> None:
    with refused(f"^{field}: .*{words}"):
        plan(top, **{field: [path]})


def test_what_is_protected_is_visible(top: Path) -> None:
    with refused(r"^protect: .*data is not visible inside.*\n  hint: remove the entry$"):
        plan(top, protect=["data"])
    made = plan(top, protect=["data/inner", "work/tests"], write=["data"])
    assert shown(made)[str(top / "data/inner")] is False
    assert shown(made)[str(top / "data")] is True
    assert {item.path for item in made.protected} == {
        str(top / "data/inner"),
        str(top / "work/tests"),
    }


def test_what_is_hidden_exists_where_it_would_be_visible(top: Path) -> None:
    """A file that is made later would not be hidden."""
    with refused(
        r"^hide: .*work/later does not exist.*\n  hint: create it first, or remove the entry$"
    ):
        plan(top, hide=["work/later"])
    made = plan(top, hide=["data/later", "data/file", "work/file"])
    assert made.masks == (Mask(str(top / "work/file"), False),)


def test_a_folder_is_hidden_of_which_only_a_part_is_visible(top: Path) -> None:
    for name in ("home/.tools/bin", "home/.ssh"):
        (top / name).mkdir(parents=True)
    made = Policy(hide=[top / "home"])
    host = msgspec.structs.replace(facts(top), path=(str(top / "home/.tools/bin"),))
    open_plan = make_plan(Policy(), host, workspace=top / "work")
    assert str(top / "home/.tools/bin") in shown(open_plan)
    assert make_plan(made, host, workspace=top / "work").masks == (Mask(str(top / "home"), True),)
    with refused(r"^hide: .*code would hide .*code/own, which the sandbox itself runs from"):
        (top / "code/own").mkdir()
        inner = msgspec.structs.replace(host, code=(top / "code/own",))
        make_plan(Policy(hide=[top / "code"]), inner, workspace=top / "work")


@pytest.mark.parametrize("path", ["/dev", "/proc", "/proc/version"])
def test_what_every_sandbox_has_of_its_own_is_not_hidden(top: Path, path: str) -> None:
    with refused(f"^hide: {path} cannot be hidden: .*\n  hint: remove the entry$"):
        plan(top, hide=[path])


def test_the_root_is_not_hidden(top: Path) -> None:
    with refused("^hide: / would hide the workspace"):
        plan(top, hide=["/"])


@pytest.mark.parametrize("path", ["work", "."])
def test_the_workspace_is_not_hidden(top: Path, path: str) -> None:
    with refused("^hide: .* would hide the workspace"):
        plan(top, hide=[path])
    # Its sibling is, and what is in it.
    made = plan(top, hide=["data/inner", "work/tests"], write=["data"])
    hidden = {mask.path for mask in made.masks}
    assert hidden == {str(top / "data/inner"), str(top / "work/tests")}


@pytest.mark.parametrize("field", ["read", "write", "protect"])
@pytest.mark.parametrize("path", [".", "work/../../{}"])
def test_what_holds_the_workspace_is_not_shared(top: Path, field: str, path: str) -> None:
    with refused(f"^{field}: {top} holds the workspace {top}/work\n  hint: name the folders in it"):
        plan(top, **{field: [path.format(top.name)]})
    plan(top, **{field: ["work/tests"]})


def test_the_home_folder_is_not_writable_as_a_whole(top: Path) -> None:
    (top / "home/notes").mkdir()
    with refused(f"^write: {top}/home is your home folder, or holds it\n  hint: name the folders"):
        plan(top, write=["home"])
    assert shown(plan(top, write=["home/notes"]))[str(top / "home/notes")]


def test_fields_do_not_contradict_each_other(top: Path) -> None:
    with refused("^read, write: both name .*data\n  hint: remove it from one of them$"):
        plan(top, read=["data"], write=["data"])
    with refused("^write: nothing could be written in .*data/inner, because protect names .*data"):
        plan(top, read=["data"], write=["data/inner"], protect=["data"])
    made = shown(plan(top, read=["data"], write=["data/inner"]))
    assert made[str(top / "data")] is False
    assert made[str(top / "data/inner")] is True


@pytest.mark.parametrize("field", ["hide", "protect"])
def test_a_link_that_tools_can_replace_neither_hides_nor_protects(top: Path, field: str) -> None:
    """A later run would find another path behind it, and so would `verify`."""
    (top / "work/judge").symlink_to("tests")
    with refused(f"^{field}: .*work/judge leads through the link .*work/judge, which tools can"):
        plan(top, **{field: ["work/judge"]})
    with refused(
        f"^{field}: .*work/judge/x leads through the link .*\n  hint: name .*work/tests/x itself"
    ):
        (top / "work/tests/x").mkdir()
        plan(top, **{field: ["work/judge/x"]})
    plan(top, **{field: ["work/tests"]})
    (top / "outside").symlink_to("work/tests")
    plan(top, **{field: ["outside"]})  # no tool can replace this one


def test_no_link_that_tools_can_replace_leads_to_the_workspace_or_to_records(top: Path) -> None:
    (top / "data/link").symlink_to(top / "work")
    with refused("^workspace: .*data/link leads through the link .*\n  hint: name .*work itself"):
        plan(top, workspace=top / "data/link", write=["data"])
    assert plan(top, workspace=top / "data/link").workspace == str(top / "work")
    (top / "work/runs").symlink_to("tests")
    with refused(r"^output\.dir: .*work/runs leads through the link"):
        plan(top, hidden=[top / "work/runs"])


def test_records_are_not_where_the_tools_work(top: Path) -> None:
    with refused(r"^output\.dir: .* in reach of the tools"):
        plan(top, hidden=[top / "work"])
    made = plan(top, hidden=[top / "work/tests"])
    assert made.masks == (Mask(str(top / "work/tests"), True, reason=MaskedFor.RECORDS),)


def test_only_text_can_be_told_to_the_sandbox(top: Path) -> None:
    odd = Path(os.fsdecode(os.fsencode(top) + b"/od\xff"))
    odd.mkdir()
    with refused(re.escape(r"od\xff' is not UTF-8") + ".*remove it from the policy$"):
        plan(top, read=[odd])
    known = facts(top, ODD=os.fsdecode(b"\xff"), EVEN="é")
    with refused("^env.pass: the value of ODD is not UTF-8"):
        make_plan(Policy.model_validate({"env": {"pass": ["ODD"]}}), known, workspace=top / "work")
    made = make_plan(
        Policy.model_validate({"env": {"pass": ["EVEN"]}}), known, workspace=top / "work"
    )
    assert made.environment["EVEN"] == "é"


def test_each_link_on_the_way_to_a_path_is_made_inside_too(top: Path) -> None:
    """Be it the path itself, or above it, or the target of another link."""
    link = Symlink(str(top / "link"), "data")
    made = plan(top, workspace=top / "link")
    assert made.symlinks == (link,)
    assert made.workspace == str(top / "data")
    made = plan(top, workspace=top / "link/inner")
    assert made.symlinks == (link,)
    assert made.workspace == str(top / "data/inner")
    (top / "chain").symlink_to(top / "link/inner/../file")
    made = plan(top, read=["chain"])
    assert made.symlinks == (Symlink(str(top / "chain"), str(top / "link/inner/../file")), link)
    assert str(top / "data/file") in shown(made)


def test_a_link_that_tools_can_write_shows_nothing_elsewhere(top: Path) -> None:
    """Else a tool of one run could decide what the next one sees. The target may be named."""
    (top / "work/out").symlink_to(top / "data")
    (top / "work/in").symlink_to("tests")
    for field in ("read", "write"):
        with refused(f"^{field}: .*work/out.* which tools can write; it leads to .*data"):
            plan(top, **{field: ["work/out/inner"]})
        assert str(top / "data/inner") in shown(plan(top, **{field: ["data/inner"]}))
    assert str(top / "work") in shown(plan(top, read=["work/in"]))
