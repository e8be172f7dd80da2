"""What one call plants decides nothing afterwards: no rename, file, key, mode or message of it.

Each attempt stands beside the harmless act that is like it, which works.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import struck
from identity import BIN, CHECKOUT, Person

AGENT = str(BIN / "sandbox-agent")
PYTHON = str(BIN / "python")
FINAL = {"final": "done"}


def shell(*commands: str) -> dict[str, Any]:
    return {"calls": [{"shell": {"command": command}} for command in commands]}


def outputs(person: Person) -> str:
    """All that the calls and the `verify` commands of the one run printed."""
    (folder,) = (path for path in (person.folder / "runs").iterdir() if path.is_dir())
    return (folder / "journal.jsonl").read_text()


def run_task(person: Person, *turns: dict[str, Any], **task: Any) -> int:
    path = struck.write_task(person, [*turns, FINAL], **task)
    done = person.run([AGENT, "run", str(path), "--out", str(person.folder / "runs")])
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode


def make(person: Person, name: str, text: str) -> Path:
    """A file of the workspace, with the folders above it."""
    path = person.work / name
    for folder in reversed(path.parents):
        if person.work in folder.parents and not folder.exists():
            folder.mkdir()
            person.own(folder)
    return person.write(path, text)


def test_no_folder_above_a_protected_judge_can_be_exchanged(person: Person) -> None:
    make(person, "a/tests/judge.sh", "exit 1")
    make(person, "b/free", "")
    code = run_task(
        person,
        shell(
            "mkdir -p evil/tests; echo exit 0 > evil/tests/judge.sh; mv a real; mv evil a",
            "mv b c && mv c/free a/new && echo m''oved",
        ),
        sandbox={"protect": [str(person.work / "a/tests")]},
        verify=["sh a/tests/judge.sh"],
    )
    assert code == 1
    assert "Device or resource busy" in outputs(person)
    assert (person.work / "a/tests/judge.sh").read_text() == "exit 1"
    assert "moved" in outputs(person)
    assert (person.work / "c").is_dir()
    assert (person.work / "a/new").is_file()


def test_no_folder_above_a_workspace_below_tmp_can_be_exchanged(person: Person) -> None:
    """Inside, /tmp is the sandbox's own, and so are the folders on the way to the workspace."""
    assert str(person.work).startswith("/tmp/"), "the tests' own folder is below /tmp"
    make(person, "judge.sh", "exit 1")
    top = "/".join(str(person.work).split("/")[:3])
    false = f"mkdir -p {person.work} && echo exit 0 > {person.work}/judge.sh"
    code = run_task(
        person,
        shell(f"cd /; mv {top} /tmp/away && {false}", "mkdir /tmp/mine && mv /tmp/mine /tmp/yours"),
        shell("ls -d /tmp/yours; echo written > later"),
        verify=["sh judge.sh"],
    )
    assert code == 1
    assert (person.work / "later").read_text() == "written\n"
    assert "/tmp/yours" in outputs(person)


def test_verify_finds_nothing_of_what_calls_left_in_folders_of_their_own(person: Person) -> None:
    plant = "for d in ~ /tmp /dev/shm; do echo x > $d/planted; done; echo kept > in-the-workspace"
    plant += "; git config --file ~/.gitconfig core.pager evil"
    look = "{ ls ~/planted /tmp/planted /dev/shm/planted || ls ~/.gitconfig; }"
    code = run_task(
        person,
        shell(plant),
        shell(f"{look} && echo shared by c''alls"),
        verify=[f"! {look}", "cat in-the-workspace", "touch ~/x /tmp/x /dev/shm/x; pwd"],
    )
    assert code == 0, outputs(person)
    assert "shared by calls" in outputs(person)


def test_verify_sees_all_that_is_shown_below_tmp(person: Person) -> None:
    """Where folders of its own are, too."""
    for name in ("one", "two"):
        (person.folder / name).mkdir()
        person.own(person.folder / name)
        person.write(person.folder / name / "file", name)
    shown = [str(person.folder / name) for name in ("one", "two")]
    code = run_task(
        person, sandbox={"read": shown}, verify=[f"cat {shown[0]}/file {shown[1]}/file"]
    )
    assert code == 0, outputs(person)


def test_that_verify_may_have_missed_what_a_call_installed_is_said(person: Person) -> None:
    make(person, "judge", "true")
    code = run_task(
        person,
        shell("mkdir -p ~/bin && cp /bin/true ~/bin/installed-by-the-agent"),
        verify=["~/bin/installed-by-the-agent"],
    )
    assert code == 1
    (folder,) = (path for path in (person.folder / "runs").iterdir() if path.is_dir())
    reason = json.loads((folder / "result.json").read_text())["reason"]
    assert "verify does not see what calls left in their home folder" in reason


FORGE = """
import os, sys
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        found = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        continue
    print("sees", "itself" if int(pid) == os.getpid() else "another", flush=True)
try:
    os.listdir(f"/proc/{os.getppid()}/fd")
    print("its parent is open")
except OSError as error:
    print("its parent is shut")
"""


def test_nothing_that_a_command_starts_reaches_the_channel_of_its_worker(person: Person) -> None:
    """Through it a program under judgement could report that it has passed."""
    make(person, "forge.py", FORGE)
    done = person.run([AGENT, "exec", "--", PYTHON, "forge.py"])
    assert done.stdout.splitlines() == ["sees itself", "its parent is shut"], done.stdout
    shown = person.run([AGENT, "exec", "--", "sh", "-c", f"{PYTHON} forge.py; true"])
    assert "its parent is open" in shown.stdout, "a shell's own program sees the shell"


KEYS = """
import ctypes, platform, subprocess, sys
ADD, KEYCTL = {"x86_64": (248, 250), "aarch64": (217, 219)}[platform.machine()]
libc = ctypes.CDLL(None, use_errno=True)
call = lambda *words: libc.syscall(*(ctypes.c_long(w) if isinstance(w, int) else w for w in words))
if sys.argv[1:] == ["find"]:
    found = call(KEYCTL, 10, -3, b"user", b"planted", 0)
    print("found" if found > 0 else "nothing", flush=True)
else:
    joined = call(KEYCTL, 1, None)
    added = call(ADD, b"user", b"planted", b"secret", 6, -3)
    if joined < 0 or added < 0:
        print("no keys")
    else:
        subprocess.run([sys.executable, __file__, "find"])
        subprocess.run([*sys.argv[1:], sys.executable, __file__, "find"])
"""


def test_the_keys_of_the_starters_session_are_not_inside(person: Person) -> None:
    make(person, "keys.py", KEYS)
    done = person.run([PYTHON, "keys.py", AGENT, "exec", "--"])
    if done.stdout == "no keys\n":
        pytest.skip("needs session keyrings")
    assert done.stdout.splitlines() == ["found", "nothing"], done.stderr


SETUID = """
import os, stat
def attempt(what, act):
    try:
        act()
        print(what, "done")
    except OSError as error:
        print(what, "refused")
attempt("chmod", lambda: os.chmod("program", 0o4755))
attempt("open", lambda: os.close(os.open("new", os.O_CREAT | os.O_WRONLY, 0o4755)))
attempt("mknod", lambda: os.mknod("node", stat.S_IFREG | 0o4755))
attempt("device", lambda: os.mknod("device", stat.S_IFCHR | 0o644, 0))
attempt("plain", lambda: os.chmod("program", 0o755))
attempt("sticky", lambda: os.chmod("folder", 0o1777))
attempt("fifo", lambda: os.mkfifo("fifo"))
"""


def test_no_program_stays_that_runs_with_its_owners_rights(person: Person) -> None:
    make(person, "program", "")
    make(person, "setuid.py", SETUID)
    (person.work / "folder").mkdir()
    person.own(person.work / "folder")
    done = person.run([AGENT, "exec", "--", PYTHON, "setuid.py"])
    words = [line.split() for line in done.stdout.splitlines()]
    assert dict(words) == {  # type: ignore[arg-type]
        "chmod": "refused", "open": "refused", "mknod": "refused", "device": "refused",
        "plain": "done", "sticky": "done", "fifo": "done",
    }, done.stderr  # fmt: skip
    assert not [path for path in person.work.iterdir() if path.stat().st_mode & 0o6000]


def make_environment(person: Person, folder: Path) -> None:
    """A virtual environment that has the product."""
    made = person.run(
        [PYTHON, "-m", "venv", "--without-pip", "--system-site-packages", str(folder)]
    )
    assert made.returncode == 0, made.stderr
    site = next((folder / "lib").glob("python3*")) / "site-packages"
    parts = [str(CHECKOUT / name) for name in ("ipc", "runtime", "sandbox")]
    packages = str(next((BIN.parent / "lib").glob("python3*")) / "site-packages")
    person.write(site / "all.pth", "\n".join([*parts, packages]) + "\n")


def test_an_environment_in_the_workspace_that_the_host_runs_stays_where_it_is(
    person: Person,
) -> None:
    """The interpreter of the host lies two folders below the workspace."""
    venv = person.work / "backend" / ".venv"
    make_environment(person, venv)
    plant = "mv backend b0 && mkdir -p backend/.venv/bin; mkdir other && mv other third"
    command = [str(venv / "bin/python"), "-m", "sandbox_agent", "exec", "--", "sh", "-c", plant]
    done = person.run(command)
    assert "busy" in done.stderr, done.stderr
    assert (venv / "bin/python").exists()
    assert (person.work / "third").is_dir()
    # Nothing can keep a link where it is.
    (person.work / ".venv").symlink_to("backend/.venv")
    linked = person.work / ".venv/bin/python"
    done = person.run([str(linked), "-m", "sandbox_agent", "exec", "--", "rm", ".venv"])
    assert done.returncode == 125 and linked.exists()
    assert f"lies behind the link {person.work}/.venv, which tools can replace" in done.stderr
    assert f"start it by its own path, below {venv}" in done.stderr


PLANTED = (
    *("__future__", "typing", "json", "asyncio", "msvcrt", "_winapi"),  # of Python
    *("msgspec", "pydantic", "psutil", "yaml"),  # installed
    *("sandbox_agent_ipc", "sandbox_agent_sandbox"),  # ours
    *("email_validator", "orjson", "IPython", "sandbox_agent_plugins"),  # looked for by some
)


def plant_modules(person: Person) -> None:
    """Each writes its name, if it is ever executed."""
    for name in PLANTED:
        make(person, f"{name}.py", f"open({str(person.folder)!r} + '/ran-{name}', 'w').close()")


def planted_that_ran(person: Person) -> list[str]:
    return [path.name for path in person.folder.glob("ran-*")]


def test_a_module_in_the_current_folder_is_not_the_hosts(person: Person) -> None:
    plant_modules(person)
    done = person.run([PYTHON, "-m", "sandbox_agent", "exec", "--", "true"])
    assert done.returncode == 0, done.stderr
    assert planted_that_ran(person) == []


SCRIPT = """
from sandbox_agent import Conversation
import helper, json, yaml

helper.greet()
with Conversation(model="scripted:steps.yaml", output_dir={runs!r}) as conversation:
    conversation.send_message("go")
    print(conversation.run().status, json.__file__ == {folder!r} + "/json.py")
"""


@pytest.mark.parametrize("start", ["script", "-m", "-c", "-P"])
def test_a_script_in_its_own_workspace_imports_its_own_modules_and_nothing_planted(
    person: Person, start: str
) -> None:
    """In `python -P` not even these. The agent's packages are not looked for there, and neither are
    those that Python or an installed package has."""
    plant_modules(person)
    make(person, "helper.py", "import later\ndef greet():\n    print('hello')\n")
    make(person, "later.py", "")
    make(person, "steps.yaml", "- final: done\n")
    code = SCRIPT.format(runs=str(person.folder / "runs"), folder=str(person.work))
    make(person, "agent.py", code)
    how = {"script": ["agent.py"], "-m": ["-m", "agent"], "-c": ["-c", code]}
    done = person.run([PYTHON, *how.get(start, ["-P", "agent.py"])])
    if start == "-P":
        assert "No module named 'helper'" in done.stderr
    else:
        assert done.stdout == "hello\ndone False\n", done.stderr
        assert f"not imported: {person.work}/" in done.stderr
        assert "hint: rename it, or remove it if you did not write it" in done.stderr
    assert planted_that_ran(person) == []


def test_a_folder_of_pythonpath_gives_the_users_modules_and_nothing_planted(
    person: Person,
) -> None:
    plant_modules(person)
    make(person, "helper.py", "import later\ndef greet():\n    print('hello')\n")
    make(person, "later.py", "")
    make(person, "steps.yaml", "- final: done\n")
    code = SCRIPT.format(runs=str(person.folder / "runs"), folder=str(person.work))
    script = person.write(person.folder / "agent.py", code)
    env = {"PYTHONPATH": str(person.work)}
    done = person.run([PYTHON, str(script)], env=env)
    assert done.stdout == "hello\ndone False\n", done.stderr
    assert f"not imported: {person.work}/" in done.stderr
    for command in (
        [AGENT, "exec", "--", "true"],
        [PYTHON, "-P", "-m", "sandbox_agent", "exec", "--", "true"],
    ):
        done = person.run(command, env=env)
        assert done.returncode == 0, done.stderr
    assert planted_that_ran(person) == []


LIE = """
import fcntl, os
from sandbox_agent_ipc.codec import encode
from sandbox_agent_ipc.framing import encode_frame
from sandbox_agent_ipc.messages import Described, FunctionRef, ToolSpec

SPEC = {spec}
frame = encode_frame(encode(Described([SPEC])))
for fd in range(3, 64):
    try:
        flags = fcntl.fcntl(fd, fcntl.F_GETFL)
        if os.readlink(f"/proc/self/fd/{{fd}}").startswith("pipe:") and flags & 3 == os.O_WRONLY:
            break
    except OSError:
        pass
while frame:
    frame = frame[os.write(fd, frame):]
os._exit(0)
"""
SCHEMA = "{'type': 'object', 'properties': {}}"
LIES = {
    "honest": ("'f', 'd'", SCHEMA, "'lie', 'f'", ""),
    "escape": ("'\\x1b]0;owned\\x07', 'd'", SCHEMA, "'lie', 'f'", "its name has other characters"),
    "long name": ("'x' * 500_000, 'd'", SCHEMA, "'lie', 'f'", "its name has other characters"),
    "text": ("'f', 'd\\x9b31m'", SCHEMA, "'lie', 'f'", "control characters"),
    "long text": ("'f', 'd' * 300_000", SCHEMA, "'lie', 'f'", "more than 256 KiB"),
    "schema": ("'f', 'd'", "{'type': '\\x1b[2J'}", "'lie', 'f'", "control characters"),
    "another": ("'f', 'd'", SCHEMA, "'os', 'system'", "about another function"),
}


@pytest.mark.as_user
@pytest.mark.parametrize("kind", LIES)
def test_a_description_from_inside_is_taken_only_if_it_could_be_ours(
    person: Person, kind: str
) -> None:
    words, schema, function, reason = LIES[kind]
    spec = f"ToolSpec({words}, {schema}, FunctionRef({function}))"
    make(person, "lie.py", LIE.format(spec=spec) + "\ndef f() -> str:\n    return ''\n")
    task = struck.write_task(person, [FINAL], tools=["lie:f"])
    done = person.run([AGENT, "run", str(task), "--out", str(person.folder / "runs")])
    assert done.returncode == (5 if reason else 0), done.stderr
    assert reason in done.stderr
    assert "\x1b" not in done.stderr and "\x9b" not in done.stderr
    assert len(done.stderr) < 2000


TAKE = """
import ctypes, resource, signal
libc = ctypes.CDLL(None, use_errno=True)
taken = 0
while taken < 300_000 and libc.inotify_init1(0) >= 0:
    taken += 1
print(taken, resource.getrlimit(resource.RLIMIT_SIGPENDING)[0])
"""


def test_half_of_what_the_kernel_counts_for_a_user_is_left_to_the_user(person: Person) -> None:
    make(person, "take.py", TAKE)
    limits = json.dumps({"limits": {"open_files": 4096}})
    policy = person.write(person.folder / "policy.yaml", limits)
    done = person.run([AGENT, "exec", "--policy", str(policy), "--", PYTHON, "take.py"])
    taken, signals = map(int, done.stdout.split())
    most = int(Path("/proc/sys/fs/inotify/max_user_instances").read_text())
    assert 0 < taken <= most // 2, done.stderr
    assert signals <= 4096


LEAVE = """
import os, subprocess, sys
for name in ("free", "shut", "folder", ".git/marked"):
    os.mkdir(name) if name == "folder" else open(name, "w").close()
    os.setxattr(name, "user.overlay.redirect", b"/elsewhere")
    os.setxattr(name, "user.kept", b"x")
os.chmod("shut", 0o400)
open("program", "w").close(); os.chmod("program", 0o2755)
os.chmod("folder", 0o2775)
open("json.py", "w").close(); open("mine.py", "w").close(); os.mkdir("sandbox_agent")
open("sandbox_agent/__init__.py", "w").close()
"""


def test_what_only_acts_later_is_removed_or_listed_after_the_run(person: Person) -> None:
    """Marks that a staged run would obey, programs of root's group, and what Python finds before
    us. `git init --shared` needs the setgid bit of folders."""
    make(person, "leave.py", LEAVE)
    code = run_task(person, shell(f"git init -q --shared . && {PYTHON} leave.py && echo l''eft"))
    assert code == 0
    assert "left" in outputs(person), outputs(person)
    for name in ("free", "shut", "folder", ".git/marked"):
        assert os.listxattr(person.work / name) == ["user.kept"], name
    assert (person.work / "shut").stat().st_mode & 0o7777 == 0o400
    assert (person.work / "folder").stat().st_mode & 0o7777 == 0o2775
    assert (person.work / ".git/objects").stat().st_mode & 0o2000
    (folder,) = (path for path in (person.folder / "runs").iterdir() if path.is_dir())
    found = json.loads((folder / "result.json").read_text())["findings"]
    kinds = {one["path"]: (one["kind"], one["what"]) for one in found}
    for name in ("free", "shut", "folder", ".git/marked"):
        assert kinds[name] == ("restored", "an attribute that overlayfs would obey")
    for name in ("json.py", "sandbox_agent/__init__.py"):
        kind, what = kinds[name]
        assert kind == "new" and what.startswith("a module that Python imports first"), found
    assert "mine.py" not in kinds
    bit = (person.work / "program").stat().st_mode & 0o2000
    if person.uid == 0:
        assert bit == 0
        assert kinds["program"] == ("restored", "the setgid bit of a program of root's group")
    else:
        assert bit, "it is the user's own group"
