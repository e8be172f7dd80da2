"""Policy x host facts x workspace -> plan, exact to the argument.

These tests ask no kernel and start no process. The facts are data, and the files lie in a folder of
the test's own, `{T}`. A plan is compared whole: one bind, flag, hidden path, variable or limit too
many fails, and so does one too few.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from sandbox_agent_sandbox.plan import (
    Bind,
    File,
    Identity,
    Landlock,
    Mask,
    MaskedFor,
    Plan,
    Private,
    PrivateKind,
    Protected,
    ResourceLimits,
    Symlink,
)
from sandbox_agent_sandbox.policy.make_plan import make_plan
from sandbox_agent_sandbox.policy.paths import is_inside
from sandbox_agent_sandbox.policy.policy import Policy
from sandbox_agent_sandbox.policy.probe import HostFacts

FOLDERS = (
    "root/usr/bin", "root/usr/lib", "root/etc/ssl/private", "root/var/lib", "root/opt",
    "home/agent/.ssh", "home/agent/.local/bin", "home/agent/project",
    "opt/tools/bin", "opt/wide", "python/lib", "venv/bin", "venv/site-packages", "own/bin",
    "src/ipc", "src/sandbox", "src/runtime", "tools", "data", "out",
    "work/tests", "work/hidden", "work/node_modules/.bin", "work/.venv/bin", "work/records",
    "work/ipc", "work/sandbox", "work/tools",
)  # fmt: skip
FILES = (
    "root/usr/bin/bash", "root/etc/os-release", "root/etc/passwd", "root/etc/group",
    "root/etc/shadow", "root/etc/hosts", "root/etc/resolv.conf", "root/etc/restricted",
    "own/pyvenv.cfg", "home/agent/.netrc", "data/readme", "work/secret",
)  # fmt: skip
LINKS = {
    "root/bin": "usr/bin",
    "root/lib": "usr/lib",
    "opt/alias": "tools/bin",
    "work-link": "work",
}


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    """The files of a host, in a folder whose own path has no links."""
    top = tmp_path.resolve()
    for name in FOLDERS:
        (top / name).mkdir(parents=True, exist_ok=True)
    for name in FILES:
        (top / name).write_text(name)
    (top / "root/etc/restricted").chmod(0o640)
    for name, target in LINKS.items():
        (top / name).symlink_to(target)
    return top


def facts(top: Path, **changes: Any) -> HostFacts:
    """An ordinary user's, whose $PATH has a bit of everything."""
    path = (
        "own/bin", "opt/alias", "home/agent/.local/bin",  # shown
        "home/agent", "home", "missing", "work/node_modules/.bin",  # not: holds $HOME, and so on
    )  # fmt: skip
    plain = HostFacts(
        uid=1234,
        gid=1235,
        home=top / "home/agent",
        path=("/", *(str(top / name) for name in path)),
        prefix=top / "venv",
        base_prefix=top / "python",
        code=(top / "src/ipc", top / "src/sandbox", top / "venv/site-packages"),
        import_path=(
            "", *(str(top / n) for n in ("src/runtime", "python/lib", "venv/site-packages"))
        ),
        environment={
            "TZ": "Asia/Tokyo", "PASSED": "on", "API_KEY": "k3y", "HOME": "/h",
            "VIRTUAL_ENV": str(top / "own"), "https_proxy": "http://proxy:3128",
        },
        root=top / "root",
        disks=(top / "opt/state",),
    )  # fmt: skip
    return replace(plain, **changes)


def read_only(*paths: str) -> list[Bind]:
    return [Bind(path) for path in paths]


def writable(path: str) -> Bind:
    return Bind(path, writable=True)


SYSTEM = read_only("{T}/root/etc", "{T}/root/usr")
"""Nothing else of the root folder."""
SECRETS = (
    Mask("{T}/root/etc/shadow", False, unreadable=True, reason=MaskedFor.SECRETS),
    Mask("{T}/root/etc/ssl/private", True, reason=MaskedFor.SECRETS),
)
RESOLVER = Mask("{T}/root/etc/resolv.conf", False, reason=MaskedFor.NO_NETWORK)
RESTRICTED = Mask("{T}/root/etc/restricted", False, True, MaskedFor.SECRETS)
HIDDEN = (*SECRETS, RESOLVER, RESTRICTED)
"""Of /etc: what is a secret by its name, and what not everybody on the host may read."""
LINKED = (
    Symlink("{T}/opt/alias", "tools/bin"),
    Symlink("{T}/root/bin", "usr/bin"),
    Symlink("{T}/root/lib", "usr/lib"),
)
NOBODY = "nobody:x:65534:65534::/:/bin/false\n"
GIT = """\
# Made by sandbox-agent from your own configuration: what is harmless in it.
[safe]
\tdirectory = "*"
"""
SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"
ENVIRONMENT = {
    "PATH": "{T}/own/bin:{T}/opt/alias:{T}/home/agent/.local/bin:{T}/work/node_modules/.bin:"
    "{T}/venv/bin:" + SYSTEM_PATH,
    "HOME": "/tmp/home",
    "TMPDIR": "/tmp",
    "USER": "agent",
    "LOGNAME": "agent",
    "SHELL": "/bin/bash",
    "LANG": "C.UTF-8",
    "TERM": "dumb",
    "SANDBOX_AGENT": "1",
    "TZ": "Asia/Tokyo",
    "VIRTUAL_ENV": "{T}/own",
}


def files_inside(uid: int, gid: int) -> tuple[File, ...]:
    return (
        File("/tmp/home/.config/git/config", GIT),
        File("{T}/root/etc/passwd", f"agent:x:{uid}:{gid}:agent:/tmp/home:/bin/sh\n" + NOBODY),
        File("{T}/root/etc/group", f"agent:x:{gid}:\nnogroup:x:65534:\n"),
        File(
            "{T}/root/etc/hosts",
            "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n127.0.1.1 sandbox\n",
        ),
    )


USER = Plan(
    workspace="{T}/work",
    identity=Identity(1234, 1235, 1234, 1235),
    binds=(
        *read_only("{T}/own", "{T}/python", "{T}/venv"),
        writable("{T}/work"),
        *SYSTEM,
        *read_only("{T}/src/ipc", "{T}/src/sandbox", "{T}/opt/tools/bin"),
        *read_only("{T}/home/agent/.local/bin"),
    ),
    symlinks=LINKED,
    masks=HIDDEN,
    protected=(),
    network="none",
    limits=ResourceLimits(
        memory=4294967296,
        processes=1024,
        cpu_time=3600,
        open_files=4096,
        file_size=4294967296,
    ),
    private=Private(
        PrivateKind.FOLDER,
        10737418240,
        "{T}/opt/state",
        why="only root can mount a file system of a fixed size",
    ),
    disk=21474836480,
    environment=ENVIRONMENT,
    user="agent",
    home="/tmp/home",
    import_path=(
        "{T}/src/ipc",
        "{T}/src/sandbox",
        "{T}/venv/site-packages",
        "{T}/python/lib",
    ),
    files=files_inside(1234, 1235),
)
"""The plan of an ordinary user's default policy. The other plans are written as changes to it."""


def but(plan: Plan, **changes: Any) -> Plan:
    return msgspec.structs.replace(plan, **changes)


def outermost_first(*binds: Bind) -> tuple[Bind, ...]:
    return tuple(sorted(binds, key=lambda bind: (bind.path.count("/"), bind.path)))


def others(plan: Plan, *left_out: str) -> list[Bind]:
    """The binds of a plan but for these paths."""
    assert {bind.path for bind in plan.binds} >= set(left_out)
    return [bind for bind in plan.binds if bind.path not in left_out]


def lines(plan: Plan) -> list[str]:
    """Every argument of a plan on a line of its own, in its order."""
    shown = []
    for name, value in msgspec.to_builtins(plan).items():
        items = value.items() if isinstance(value, dict) else value
        each = [items] if items is None or isinstance(items, str | int) else items
        shown += [f"{name}: {item}" for item in each]
    return shown


def check(plan: Plan, expected: Plan, top: Path) -> None:
    text = msgspec.json.encode(expected).decode().replace("{T}", str(top))
    filled = msgspec.json.decode(text, type=Plan)
    stats = [(item.path, os.stat(item.path)) for item in filled.protected]
    protected = tuple(Protected(path, stat.st_dev, stat.st_ino) for path, stat in stats)
    # The tests lie below /tmp, where every folder on the way to a bind has a pin.
    writable = tuple(f"{bind.path}/" for bind in plan.binds if bind.writable)
    pins = tuple(pin for pin in plan.pins if pin.startswith(writable))
    # The rules of Landlock follow from the binds: tests/sandbox/policy/test_landlock.py
    assert plan.landlock.files
    compared = but(plan, pins=pins, landlock=Landlock())
    assert lines(compared) == lines(but(filled, protected=protected))


def test_the_default_policy_of_an_ordinary_user(layout: Path) -> None:
    check(make_plan(Policy(), facts(layout), workspace=layout / "work"), USER, layout)


HOST_NETWORK = but(
    USER,
    network="host",
    masks=(*SECRETS, RESTRICTED),
    environment=ENVIRONMENT | {"https_proxy": "http://proxy:3128"},
    files=tuple(
        File(file.path, "127.0.1.1 sandbox\n", appended=True) if "hosts" in file.path else file
        for file in USER.files
    ),
)


def test_only_the_hosts_network_shows_how_names_are_resolved(layout: Path) -> None:
    """And how they are reached: by which proxy."""
    plan = make_plan(Policy(network="host"), facts(layout), workspace=layout / "work")
    check(plan, HOST_NETWORK, layout)


def test_an_etc_of_links_is_shown_entry_by_entry(layout: Path) -> None:
    """As of NixOS: there is no file that the sandbox's own could be mounted over."""
    etc = layout / "root/etc"
    (etc / "static").mkdir()
    for name in ("group", "hosts"):
        (etc / name).rename(etc / "static" / name)
        (etc / name).symlink_to(f"static/{name}")
    (etc / "mtab").symlink_to("/proc/self/mounts")
    plan = make_plan(Policy(network="host"), facts(layout), workspace=layout / "work")
    shown = ("os-release", "resolv.conf", "ssl", "static")
    expected = but(
        HOST_NETWORK,
        binds=outermost_first(
            *others(USER, "{T}/root/etc"), *read_only(*(f"{{T}}/root/etc/{n}" for n in shown))
        ),
        symlinks=(*LINKED[:2], Symlink("{T}/root/etc/mtab", "/proc/self/mounts"), *LINKED[2:]),
        masks=SECRETS[1:],
        files=tuple(
            File(file.path, "root/etc/hosts\n127.0.1.1 sandbox\n") if file.appended else file
            for file in HOST_NETWORK.files
        ),
    )
    check(plan, expected, layout)


def test_what_a_policy_names(layout: Path) -> None:
    policy = Policy.model_validate(
        {
            "read": [layout / "data/readme", layout / "home/agent/.ssh"],
            "write": [layout / "out", layout / "opt/wide"],
            "hide": ["hidden", "secret", layout / "home/agent/.netrc"],
            "protect": ["tests"],
            "env": {
                "pass": ["PASSED", "NOT_THERE"],
                "set": {"EXTRA": "1", "TERM": "xterm", "HOME": "/elsewhere"},
            },
            "limits": {
                "memory": "64MiB",
                "process_memory": "48MiB",
                "processes": 10,
                "cpu_time": 2.5,
                "open_files": 40,
                "file_size": "1k",
                "tmp": "2MiB",
                "shm": "3MiB",
                "disk": "4MiB",
                "output": 1024,
                "timeout": 5,
            },
        }
    )
    shown = read_only(
        "{T}/data/readme", "{T}/home/agent/.ssh", "{T}/work/tests"
    )  # protected: not writable any more
    expected = but(
        USER,
        binds=outermost_first(*USER.binds, *shown, writable("{T}/opt/wide"), writable("{T}/out")),
        masks=(*HIDDEN, Mask("{T}/work/hidden", True), Mask("{T}/work/secret", False)),
        protected=(Protected("{T}/work/tests", 0, 0),),
        limits=ResourceLimits(
            memory=64 << 20,
            call_memory=None,
            process_memory=48 << 20,
            processes=10,
            cpu_time=3,
            open_files=40,
            file_size=1000,
        ),
        private=Private(size=2 << 20, shared_memory=3 << 20),
        disk=4 << 20,
        environment=ENVIRONMENT
        | {"TERM": "xterm", "PASSED": "on", "EXTRA": "1", "HOME": "/elsewhere"},
        hidden=("{T}/work/hidden", "{T}/work/secret"),
    )
    check(make_plan(policy, facts(layout), workspace=layout / "work"), expected, layout)


def test_a_workspace_in_the_home_folder_shows_no_more_of_it(layout: Path) -> None:
    expected = but(
        USER,
        workspace="{T}/home/agent/project",
        binds=outermost_first(
            *others(USER, "{T}/work"),
            writable("{T}/home/agent/project"),
            # Not the workspace's any more, but anybody's.
            *read_only("{T}/work/node_modules"),
        ),
    )
    plan = make_plan(Policy(), facts(layout), workspace=layout / "home/agent/project")
    check(plan, expected, layout)


@pytest.fixture
def below_tmp() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield Path(folder)


def test_a_workspace_below_tmp(layout: Path, below_tmp: Path) -> None:
    """It comes first: of all binds its path has the fewest slashes."""
    rest = outermost_first(*others(USER, "{T}/work"), *read_only("{T}/work/node_modules"))
    workspace = str(below_tmp)
    expected = but(USER, workspace=workspace, binds=(writable(workspace), *rest))
    check(make_plan(Policy(), facts(layout), workspace=below_tmp), expected, layout)


def test_a_workspace_known_by_a_link_is_known_by_it_inside_too(layout: Path) -> None:
    expected = but(USER, symlinks=(*LINKED, Symlink("{T}/work-link", "work")))
    check(make_plan(Policy(), facts(layout), workspace=layout / "work-link"), expected, layout)


def test_an_environment_inside_the_workspace_is_read_only(layout: Path) -> None:
    venv = layout / "work/.venv"
    known = facts(layout, prefix=venv, path=(f"{venv}/bin",), code=(layout / "src/ipc",))
    expected = but(
        USER,
        binds=(
            *read_only("{T}/own", "{T}/python"),
            writable("{T}/work"),
            *SYSTEM,
            *read_only("{T}/src/ipc", "{T}/work/.venv"),
        ),
        symlinks=LINKED[1:],
        environment=ENVIRONMENT | {"PATH": "{T}/work/.venv/bin:" + SYSTEM_PATH},
        import_path=("{T}/src/ipc", "{T}/python/lib"),
    )
    check(make_plan(Policy(), known, workspace=layout / "work"), expected, layout)


def test_an_interpreter_without_an_environment(layout: Path) -> None:
    known = facts(layout, prefix=layout / "python", path=(), code=(layout / "src/ipc",))
    expected = but(
        USER,
        binds=(
            *read_only("{T}/own", "{T}/python"),
            writable("{T}/work"),
            *SYSTEM,
            *read_only("{T}/src/ipc"),
        ),
        symlinks=LINKED[1:],
        environment=ENVIRONMENT | {"PATH": "{T}/python/bin:" + SYSTEM_PATH},
        import_path=("{T}/src/ipc", "{T}/python/lib"),
    )
    check(make_plan(Policy(), known, workspace=layout / "work"), expected, layout)


def test_our_own_code_inside_the_workspace_is_read_only(layout: Path) -> None:
    """As in a checkout that is developed with its own agent."""
    known = facts(layout, code=(layout / "work/ipc", layout / "work/sandbox"))
    expected = but(
        USER,
        binds=outermost_first(
            *others(USER, "{T}/src/ipc", "{T}/src/sandbox"),
            *read_only("{T}/work/ipc", "{T}/work/sandbox"),
        ),
        import_path=(
            "{T}/work/ipc",
            "{T}/work/sandbox",
            "{T}/python/lib",
            "{T}/venv/site-packages",
        ),
    )
    check(make_plan(Policy(), known, workspace=layout / "work"), expected, layout)


def test_our_own_code_is_read_only_where_the_policy_would_have_it_written(layout: Path) -> None:
    """It is the workspace itself; or a path of `write`."""
    policy = Policy(write=[layout / "src/sandbox"])
    expected = but(
        USER,
        workspace="{T}/src/ipc",
        binds=outermost_first(*others(USER, "{T}/work"), *read_only("{T}/work/node_modules")),
    )
    check(make_plan(policy, facts(layout), workspace=layout / "src/ipc"), expected, layout)


def test_folders_of_tools_are_read_only_and_imported_from_last(layout: Path) -> None:
    tools = [layout / name for name in ("tools", "work/tools", "work", "not-there")]
    plan = make_plan(Policy(), facts(layout), workspace=layout / "work", tool_paths=tools)
    expected = but(
        USER,
        binds=outermost_first(*USER.binds, *read_only("{T}/tools", "{T}/work/tools")),
        import_path=(*USER.import_path, "{T}/tools", "{T}/work/tools", "{T}/work"),
    )
    check(plan, expected, layout)


def test_records_that_tools_could_reach_are_hidden(layout: Path) -> None:
    hidden = [layout / "work/records", layout / "data"]
    plan = make_plan(Policy(), facts(layout), workspace=layout / "work", hidden=hidden)
    check(
        plan,
        but(USER, masks=(*HIDDEN, Mask("{T}/work/records", True, reason=MaskedFor.RECORDS))),
        layout,
    )


def test_a_sandbox_without_a_workspace(layout: Path) -> None:
    """Whether {T} lies below /tmp must not matter, so $PATH has nothing of it."""
    plan = make_plan(Policy(), facts(layout, path=("/usr/bin",)), workspace=None)
    shown = others(USER, "{T}/work", "{T}/own", "{T}/opt/tools/bin", "{T}/home/agent/.local/bin")
    expected = but(
        USER,
        private=Private(),
        workspace="/tmp",
        binds=(*read_only("/usr/bin"), *shown),
        symlinks=LINKED[1:],
        environment={k: v for k, v in ENVIRONMENT.items() if k != "VIRTUAL_ENV"}
        | {"PATH": "/usr/bin:{T}/venv/bin:/usr/local/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"},
        files=USER.files[1:],
    )
    check(plan, expected, layout)


# --- as root -------------------------------------------------------------------------------


@pytest.fixture
def as_root(layout: Path) -> HostFacts:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    return facts(layout, uid=0, gid=0, maker="/sbin/mkfs")


def owned_by_root(path: str, *, writable: bool = False) -> Bind:
    return Bind(path, writable, idmapped=True, owner_uid=0, owner_gid=0)


IMAGE = Private(PrivateKind.IMAGE, 10737418240, "{T}/opt/state", "/sbin/mkfs")

ROOT = but(
    USER,
    private=IMAGE,
    identity=Identity(1000, 1000, 1912602624, 1912602624),
    binds=outermost_first(*others(USER, "{T}/work"), owned_by_root("{T}/work", writable=True)),
    files=files_inside(1000, 1000),
)
"""A workspace that is root's appears inside as the tools' own; the system's folders do not."""


def test_as_root_a_workspace_that_is_roots(layout: Path, as_root: HostFacts) -> None:
    check(make_plan(Policy(), as_root, workspace=layout / "work"), ROOT, layout)


def test_as_root_what_a_policy_names_is_the_tools_own(layout: Path, as_root: HostFacts) -> None:
    os.chown(layout / "out", 4321, 4322)
    policy = Policy(
        read=[layout / "data/readme"],
        write=[layout / "out", layout / "src/sandbox"],
        protect=[Path("tests")],
        network="host",
    )
    expected = but(
        HOST_NETWORK,
        private=IMAGE,
        identity=ROOT.identity,
        files=(*ROOT.files[:3], HOST_NETWORK.files[3]),
        binds=outermost_first(
            *ROOT.binds,
            owned_by_root("{T}/data/readme"),
            Bind("{T}/out", True, idmapped=True, owner_uid=4321, owner_gid=4322),
            owned_by_root("{T}/work/tests"),
        ),
        protected=(Protected("{T}/work/tests", 0, 0),),
    )
    check(make_plan(policy, as_root, workspace=layout / "work"), expected, layout)


@pytest.mark.parametrize(("gid", "inside"), [(4322, 4322), (0, 4321)], ids=["own", "root"])
def test_as_root_the_tools_are_the_workspaces_owner(
    layout: Path, as_root: HostFacts, gid: int, inside: int
) -> None:
    """Never of the group 0."""
    os.chown(layout / "work", 4321, gid)
    expected = but(
        USER,
        private=IMAGE,
        identity=Identity(4321, inside, 4321, inside),
        files=files_inside(4321, inside),
        binds=outermost_first(*USER.binds, owned_by_root("{T}/data/readme")),
    )
    policy = Policy(read=[layout / "data/readme"])
    check(make_plan(policy, as_root, workspace=layout / "work"), expected, layout)


def test_as_root_a_sandbox_without_a_workspace(layout: Path, as_root: HostFacts) -> None:
    plan = make_plan(Policy(), replace(as_root, path=()), workspace=None)
    expected = but(
        ROOT,
        private=Private(),
        workspace="/tmp",
        binds=tuple(
            others(ROOT, "{T}/work", "{T}/own", "{T}/opt/tools/bin", "{T}/home/agent/.local/bin")
        ),
        symlinks=LINKED[1:],
        environment={k: v for k, v in ENVIRONMENT.items() if k != "VIRTUAL_ENV"}
        | {"PATH": "{T}/venv/bin:" + SYSTEM_PATH},
        files=ROOT.files[1:],
    )
    check(plan, expected, layout)


def test_folders_above_what_is_mounted_have_pins(layout: Path) -> None:
    """Where tools could rename them: in the workspace, and in /tmp, which is the sandbox's own."""
    work = layout / "work"
    for name in ("a/b/judges", "a/c", "d/secret", "e/free"):
        (work / name).mkdir(parents=True)
    policy = Policy(protect=["a/b/judges", "a/c"], hide=["d/secret"])
    pins = make_plan(policy, facts(layout), workspace=work).pins
    below = [pin for pin in pins if is_inside(pin, str(work))]
    assert below == [f"{work}/a", f"{work}/d", f"{work}/a/b"]
    above = [str(folder) for folder in layout.parents if str(folder) not in ("/", "/tmp")]
    assert set(above) < set(pins)
    assert list(pins) == sorted(pins, key=lambda pin: (pin.count("/"), pin))
