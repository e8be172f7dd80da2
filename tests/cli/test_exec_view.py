"""What a command sees inside is what it sees outside, or a warning says what is not.

Each test does outside what it then does inside, as root and as an ordinary user.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from identity import BIN, Person

AGENT = str(BIN / "sandbox-agent")
PYTHON = str(BIN / "python")
SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"


def inside(
    person: Person, *command: str, policy: str = "", workspace: Path | None = None, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run a command in the sandbox, over `person.work` if no workspace is named."""
    file = person.write(person.folder / "policy.yaml", policy or "{}")
    runs = str(person.folder / "runs")
    options = ["--policy", str(file), "--out", runs, "--workspace", str(workspace or person.work)]
    return person.run([AGENT, "exec", *options, "--", *command], env=env)


def outside(person: Person, *command: str, **env: str) -> str:
    done = person.run(command, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout


def make(person: Person, path: Path, text: str = "", mode: int = 0o644) -> Path:
    """A file of theirs, with its folders."""
    missing = [folder for folder in path.parents if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    person.own(*missing)
    person.write(path, text)
    path.chmod(mode)
    return path


def script(person: Person, path: Path, text: str) -> Path:
    return make(person, path, text, 0o755)


def link(person: Person, path: Path, target: Path | str) -> Path:
    make(person, path.parent / ".keep")
    path.symlink_to(target)
    return path


def environment_at(person: Person, folder: Path) -> Path:
    """A virtual environment of theirs, with one module that only it has."""
    outside(person, PYTHON, "-m", "venv", "--without-pip", str(folder))
    site = folder / f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    make(person, site / "only_there.py", f"where = {str(folder)!r}\n")
    return folder


# --- programs of $PATH ---------------------------------------------------------------------


@pytest.mark.parametrize("entry", ["/dev", "/dev/fd", "/proc/self", "/sys", "/run"])
def test_a_folder_of_the_kernel_in_path_changes_nothing(person: Person, entry: str) -> None:
    done = inside(
        person, "sh", "-c", "echo a > /dev/null; cat /proc/$$/comm", PATH=f"{entry}:{SYSTEM_PATH}"
    )
    assert (done.returncode, done.stdout) == (0, "sh\n"), done.stderr


def test_run_can_be_shown_and_nothing_is_made_in_it(person: Person) -> None:
    """The sandbox's own /etc/passwd is put in its place beside it."""
    seen = inside(person, "sh", "-c", "ls -d /run/own; id -un", policy="read: [/run]")
    assert (seen.returncode, seen.stdout) == (0, "agent\n"), seen.stderr


@pytest.mark.parametrize("place", ["work/.venv", "home/.cache/pypoetry/virtualenvs/app"])
def test_an_active_environment_is_the_one_inside(person: Person, place: str) -> None:
    folder = environment_at(person, person.folder / place)
    tool = script(
        person,
        folder / "bin/tool",
        f"#!{folder}/bin/python\nimport only_there as o; print(o.where)\n",
    )
    ask = "import os, sys; print(sys.prefix, os.environ.get('VIRTUAL_ENV'))"
    env = {"PATH": f"{folder}/bin:{SYSTEM_PATH}", "VIRTUAL_ENV": str(folder)}
    for command in (["python", "-c", ask], ["python3", "-m", "only_there"], [tool.name]):
        expected = outside(person, "/usr/bin/env", *command, **env)
        done = inside(person, *command, **env)
        assert (done.stdout, done.returncode) == (expected, 0), done.stderr
        assert "warning" not in done.stderr


def manager(person: Person, root: Path, name: str) -> Path:
    """A version manager as pyenv is laid out: shims that call a program beside them."""
    script(
        person,
        root / "shims/mytool",
        f'#!/bin/sh\n{name}="${{{name}:-$HOME/{root.name}}}"\nexec "${name}/libexec/run" "$@"\n',
    )
    script(person, root / "libexec/run", f'#!/bin/sh\nexec "{root}/versions/1/bin/mytool" "$@"\n')
    script(person, root / "versions/1/bin/mytool", "#!/bin/sh\necho mytool 1\n")
    return root


@pytest.mark.parametrize(
    ("name", "folder"),
    [("PYENV_ROOT", ".pyenv"), ("RBENV_ROOT", ".rbenv"), ("ASDF_DATA_DIR", ".asdf")],
)
@pytest.mark.parametrize("named", [True, False], ids=["named", "default"])
def test_a_version_managers_shims_find_their_programs(
    person: Person, name: str, folder: str, named: bool
) -> None:
    """The folder may be anywhere. If it is at its default, the variable need not be set."""
    root = manager(person, (person.folder / "opt" if named else person.home) / folder, name)
    env = {"PATH": f"{root}/shims:{SYSTEM_PATH}"} | ({name: str(root)} if named else {})
    assert outside(person, "/usr/bin/env", "mytool", **env) == "mytool 1\n"
    done = inside(person, "mytool", **env)
    assert (done.stdout, done.stderr) == ("mytool 1\n", "")


def test_programs_of_linked_installations_work(person: Person) -> None:
    """As of pipx, npm and a JDK of one's own: links, directly and over another link."""
    local = person.home / ".local"
    venv = environment_at(person, local / "share/pipx/venvs/app")
    app = script(
        person, venv / "bin/app", f"#!{venv}/bin/python\nimport only_there; print('app')\n"
    )
    link(person, local / "bin/app", app)
    cli = script(person, person.home / ".npm/lib/node_modules/x/cli", "#!/bin/sh\necho cli\n")
    link(person, person.home / ".npm/bin/cli", "../lib/node_modules/x/cli")
    make(person, person.home / ".npm/etc/npmrc", "s3cret")
    jdk = person.home / "jdks/21"
    script(person, jdk / "bin/jav", f'#!/bin/sh\ncat "{jdk}/lib/modules"\n')
    make(person, jdk / "lib/modules", "java\n")
    link(person, person.home / "jdks/current", "21")
    folders = [local / "bin", cli.parents[3] / "bin", person.home / "jdks/current/bin"]
    env = {"PATH": ":".join([*map(str, folders), SYSTEM_PATH])}
    text = "app; cli; jav; cat ~/.npm/etc/npmrc; true"
    assert outside(person, "sh", "-c", text, **env) == "app\ncli\njava\ns3cret"
    done = inside(person, "sh", "-c", text.replace("~", str(person.home)), **env)
    assert done.stdout == "app\ncli\njava\n"
    assert done.stderr == ""


def test_what_a_command_leads_to_and_is_not_shown_is_named(person: Person) -> None:
    """By the run and by `doctor`."""
    link(person, person.home / "bin/whole", person.folder)
    interpreter = script(person, person.home / ".config/app/run", "#!/bin/sh\necho hi\n")
    script(person, person.home / "bin/odd", f"#!{interpreter}\n")
    env = {"PATH": f"{person.home}/bin:{SYSTEM_PATH}"}
    done = inside(person, "true", **env)
    assert f"in {person.home}/bin" in done.stderr and "whole" in done.stderr
    assert "sandbox.read" in done.stderr
    assert f"in {person.home}/bin" in person.run([AGENT, "doctor"], env=env).stdout


def test_secrets_beside_programs_stay_hidden(person: Person) -> None:
    home = person.home
    script(person, home / ".cargo/bin/cargo", "#!/bin/sh\necho cargo\n")
    secrets = [
        make(person, home / name, "s3cret")
        for name in (
            ".cargo/credentials.toml",
            ".npmrc",
            ".local/share/keyrings/x",
            ".ssh/id",
            "n/.npmrc",
        )
    ]
    script(person, home / ".local/bin/hello", "#!/bin/sh\necho hello\n")
    script(person, home / "n/bin/node", "#!/bin/sh\necho node\n")
    make(person, home / "n/lib/node_modules/x/y")
    env = {"PATH": f"{home}/.cargo/bin:{home}/.local/bin:{home}/n/bin:{SYSTEM_PATH}"}
    done = inside(
        person, "sh", "-c", f"cargo; hello; node; cat {' '.join(map(str, secrets))}", **env
    )
    assert done.stdout == "cargo\nhello\nnode\n"
    assert "warning" not in done.stderr


@pytest.mark.parametrize("trick", ["link", "venv"])
def test_a_tool_cannot_make_the_next_run_show_more(person: Person, trick: str) -> None:
    """Through a folder of $PATH that lies in the workspace."""
    secret = make(person, person.home / ".ssh/id", "s3cret")
    folder = person.work / "env/bin"
    make(person, folder / "x")
    env = {"PATH": f"{folder}:{SYSTEM_PATH}", "VIRTUAL_ENV": str(folder.parent)}
    plant = {
        "link": f"rm -r {folder} && ln -s {secret.parent} {folder}",
        "venv": f"echo home = {secret.parent} > {folder.parent}/pyvenv.cfg",
    }[trick]
    assert inside(person, "sh", "-c", plant, **env).returncode == 0
    done = inside(person, "cat", str(secret), **env)
    assert done.stdout == ""
    assert str(secret.parent) in done.stderr.partition("cat:")[0], "and it is named"


# --- the system ----------------------------------------------------------------------------


def test_programs_find_their_settings_in_etc_and_secrets_stay_hidden(person: Person) -> None:
    settings = "/etc/ssl/openssl.cnf /etc/bash.bashrc /etc/profile /etc/mime.types"
    known = [name for name in settings.split() if os.path.exists(name)]
    done = inside(person, "cat", *known)
    assert done.returncode == 0
    secrets = [
        n for n in ("shadow", "gshadow", "sudoers", "machine-id") if Path("/etc", n).exists()
    ]
    for name in secrets:
        done = inside(person, "cat", f"/etc/{name}")
        assert (done.returncode, done.stdout) == (1, ""), name
    names = inside(person, "sh", "-c", "ls /etc/ssl/private; cat /etc/passwd /etc/hosts").stdout
    assert names.startswith("agent:x:")
    assert names.endswith("127.0.1.1 sandbox\n")


def test_a_java_of_the_system_runs(person: Person) -> None:
    if not Path("/usr/bin/java").exists():
        pytest.skip("needs java")
    make(
        person,
        person.work / "H.java",
        'class H { public static void main(String[] a) { System.out.println("ok"); } }',
    )
    done = inside(person, "java", "-Xmx64m", "H.java", PATH=SYSTEM_PATH)
    assert done.stdout == "ok\n", done.stderr


@pytest.mark.parametrize("network", ["none", "host"])
def test_names_resolve(person: Person, network: str) -> None:
    """The sandbox's own; and addresses of loopback, for a program that asks with AI_ADDRCONFIG."""
    program = """
import socket
print(socket.gethostbyname(socket.gethostname()), socket.gethostbyname("localhost"))
print(socket.getaddrinfo("127.0.0.1", 80, 0, socket.SOCK_STREAM, 0, socket.AI_ADDRCONFIG)[0][4][0])
"""
    done = inside(person, PYTHON, "-c", program, policy=f"network: {network}")
    assert done.stdout == "127.0.1.1 127.0.0.1\n127.0.0.1\n", done.stderr


def test_loopback_has_ipv6_where_the_host_has_it(person: Person) -> None:
    if not Path("/proc/net/if_inet6").exists():
        pytest.skip("needs IPv6")
    program = """
import socket
socket.create_server(("::1", 0), family=socket.AF_INET6)
print(socket.getaddrinfo("::1", 80, 0, socket.SOCK_STREAM, 0, socket.AI_ADDRCONFIG)[0][4][0])
"""
    done = inside(person, PYTHON, "-c", program)
    assert done.stdout == "::1\n", done.stderr


def test_standard_streams_can_be_opened_by_name(person: Person) -> None:
    text = (
        "echo a > /dev/stdout; echo b > /dev/stderr; echo c > /dev/fd/1; echo d >> /proc/self/fd/2"
    )
    done = inside(person, "bash", "-c", f"{text}; cat <(echo e) && head -c0 /dev/stdin")
    assert (done.returncode, done.stdout, done.stderr) == (0, "a\nc\ne\n", "b\nd\n")


def test_standard_input_can_be_opened_by_name(person: Person) -> None:
    given = make(person, person.folder / "given", "some input\n")
    command = ["sh", "-c", "cat /dev/stdin; cat /proc/self/fd/0"]
    with given.open() as file:
        argv = [AGENT, "exec", "--out", str(person.folder / "runs"), "--", *command]
        done = person.run(argv, stdin=file)
    assert (done.returncode, done.stdout, done.stderr) == (0, "some input\n", "")


# --- links ---------------------------------------------------------------------------------


def test_a_workspace_has_inside_all_of_its_names(person: Person) -> None:
    """It is a link; it is below one; it is below a chain of them."""
    real = make(person, person.folder / "real/proj/f", "data\n").parent
    link(person, person.folder / "below", "real")
    link(person, person.folder / "chain/far", person.folder / "below")
    link(person, person.folder / "itself", real)
    for name in ("below/proj", "chain/far/proj", "itself"):
        place = person.folder / name
        done = inside(person, "cat", "f", f"{place}/f", f"{real}/f", workspace=place)
        assert (done.stdout, done.returncode) == ("data\n" * 3, 0), done.stderr


@pytest.mark.parametrize("field", ["read", "write"])
def test_what_a_policy_names_has_inside_all_of_its_names(person: Person, field: str) -> None:
    file = make(person, person.folder / "store/sub/f", "data\n")
    link(person, person.folder / "folder", file.parent)
    link(person, person.folder / "file", person.folder / "folder/f")
    for name, path in (("folder", "folder/f"), ("file", "file")):
        policy = f"{field}: [{person.folder}/{name}]"
        done = inside(person, "cat", f"{person.folder}/{path}", str(file), policy=policy)
        assert done.stdout == "data\n" * 2, done.stderr


def test_a_home_folder_that_is_a_link_hides_what_it_should(person: Person) -> None:
    """And its programs are found."""
    link(person, person.folder / "me", person.home)
    make(person, person.home / ".ssh/id", "s3cret")
    script(person, person.home / ".local/bin/hello", "#!/bin/sh\necho hello\n")
    home = person.folder / "me"
    env = {"HOME": str(home), "PATH": f"{home}/.local/bin:{home}:{SYSTEM_PATH}"}
    done = inside(person, "sh", "-c", f"hello; cat {home}/.ssh/id {person.home}/.ssh/id", **env)
    assert done.stdout == "hello\n"


def test_a_workspace_below_var_tmp(person: Person) -> None:
    """The sandbox has a /var/tmp of its own, which is its /tmp."""
    folder = Path("/var/tmp", f"sandbox-agent-{person.uid}-{os.getpid()}")
    folder.mkdir()
    try:
        person.own(folder)
        text = "echo data > f; echo x > /var/tmp/x; cat /tmp/x"
        done = inside(person, "sh", "-c", text, workspace=folder)
        assert (done.stdout, done.stderr) == ("x\n", "")
        assert (folder / "f").read_text() == "data\n"
    finally:
        shutil.rmtree(folder)


OTHER_ROOT = """
set -e
mount -t tmpfs none /mnt && cd /mnt
for path in /*; do
    [ $path != /mnt ] && [ $path != /tmp ] || continue
    if [ -L $path ]; then cp -P $path .; elif [ -d $path ]; then
        mkdir .$path && mount --rbind $path .$path
    fi
done
mkdir -p data/tmp old mnt && mount --rbind /tmp data/tmp && ln -s data/tmp tmp
pivot_root . old && cd / && umount -l old
exec "$@"
"""


def test_a_tmp_that_is_a_link(tmp_path: Path) -> None:
    """The sandbox has a /tmp of its own. So the workspace is a link there."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        workspace = Path(folder, "deep/ws")
        workspace.mkdir(parents=True)
        (workspace / "f").write_text("data\n")
        places = ["f", f"{workspace}/f", f"/data{workspace}/f"]
        options = ["--workspace", str(workspace), "--out", str(tmp_path / "runs")]
        command = [AGENT, "exec", *options, "--", "cat", *places]
        start = ["unshare", "--mount", "--propagation", "private", "sh", "-c", OTHER_ROOT, "sh"]
        done = subprocess.run([*start, *command], capture_output=True, text=True, check=False)
        assert (done.stdout, done.returncode) == ("data\n" * 3, 0), done.stderr


# --- git -----------------------------------------------------------------------------------

IDENTITY = """
[user]
    name = Ada "L"ovelace ; a comment
    email = ada@example.com
[credential]
    helper = !echo s3cret
[alias]
    st = !touch /tmp/alias
[core]
    hooksPath = /hooks
"""


def git(person: Person, *arguments: str, **env: str) -> str:
    if shutil.which("git") is None:
        pytest.skip("needs git")
    return outside(person, "git", "-C", str(person.work), *arguments, **env)


def repository(person: Person) -> None:
    make(person, person.home / ".gitconfig", IDENTITY)
    git(person, "init", "-q", "-b", "main")
    make(person, person.work / "pkg/a", "a")
    git(person, "add", ".")
    git(person, "commit", "-qm", "one")


def test_a_commit_inside_carries_the_users_identity_and_nothing_else(person: Person) -> None:
    repository(person)
    text = "git commit -q --allow-empty -m two && git config --global --list"
    done = inside(person, "sh", "-c", text)
    assert done.returncode == 0, done.stderr
    assert (
        git(person, "log", "-1", "--format=%s %an <%ae>") == "two Ada Lovelace <ada@example.com>\n"
    )
    names = {line.partition("=")[0] for line in done.stdout.splitlines()}
    assert names == {"user.name", "user.email", "safe.directory"}


def test_the_identity_is_the_one_that_holds_for_this_repository(person: Person) -> None:
    """By includeIf; and the repository's own wins."""
    repository(person)
    condition = f'[includeIf "gitdir:{person.work}/"]\n path = work.inc\n'
    make(person, person.home / ".gitconfig", IDENTITY + condition)
    make(person, person.home / "work.inc", "[user]\n email = ada@work.example\n")
    ask = ["git", "log", "-1", "--format=%ae"]
    commit = ["git", "commit", "-q", "--allow-empty", "-m", "x"]
    inside(person, *commit)
    assert outside(person, *ask) == "ada@work.example\n"
    git(person, "config", "user.email", "ada@own.example")
    inside(person, *commit)
    assert outside(person, *ask) == "ada@own.example\n"


def test_what_the_user_ignores_everywhere_is_ignored_inside(person: Person) -> None:
    repository(person)
    make(person, person.home / ".config/git/ignore", "*.log\n")
    done = inside(person, "sh", "-c", "touch x.log; git status --short")
    assert done.stdout == ""


def test_git_works_in_a_linked_worktree(person: Person) -> None:
    """It can read there. It can commit where the policy says what the warning names."""
    repository(person)
    tree = person.folder / "tree"
    git(person, "worktree", "add", "-q", str(tree), "-b", "feat")
    done = inside(person, "git", "status", workspace=tree)
    assert done.returncode == 0 and "On branch feat" in done.stdout
    common = person.work / ".git"
    assert "tools can read and not write" in done.stderr and str(common) in done.stderr
    refused = inside(person, "sh", "-c", f"echo x > {common}/hooks/pre-commit", workspace=tree)
    assert refused.returncode != 0
    folders = done.stderr.partition("sandbox.write: ")[2].splitlines()[0]
    commit = ["git", "commit", "-q", "--allow-empty", "-m", "two"]
    done = inside(person, *commit, workspace=tree, policy=f"write: [{folders}]")
    assert (done.returncode, done.stderr) == (0, "")
    assert (
        outside(person, "git", "-C", str(tree), "log", "-1", "--format=%s %an")
        == "two Ada Lovelace\n"
    )


def test_a_part_of_a_repository_names_the_whole(person: Person) -> None:
    repository(person)
    done = inside(person, "true", workspace=person.work / "pkg")
    assert f"part of the repository {person.work}" in done.stderr
    assert "as the workspace" in done.stderr
    assert inside(person, "true").stderr == ""


def test_a_dot_git_that_a_tool_has_written_shows_nothing(person: Person) -> None:
    """Not even another repository: it does not name this workspace."""
    repository(person)
    secret = make(person, person.home / ".ssh/id", "s3cret")
    other = person.folder / "other"
    other.mkdir()
    person.own(other)
    for target in (person.work / ".git", secret.parent):
        plant = f"echo gitdir: {target} > .git; ls {target}"
        inside(person, "sh", "-c", plant, workspace=other)
        done = inside(person, "ls", "-A", str(target), workspace=other)
        assert (done.stdout, done.returncode) == ("", 2)


# --- what is hidden ------------------------------------------------------------------------


def test_tools_get_over_what_is_hidden_and_git_loses_nothing(person: Person) -> None:
    repository(person)
    for name in ("secrets/k", ".env", ".kept", "plain/k"):
        make(person, person.work / name, "s3cret")
    git(person, "add", "secrets", ".kept")
    git(person, "commit", "-qm", "kept")
    policy = f"hide: [{person.work}/secrets, {person.work}/plain, {person.work}/.env]"
    text = (
        "cat .env; ls -A secrets plain/; cp -r . /tmp/copy && find . > /tmp/found &&"
        " tar cf /tmp/t . && echo b > b && git add -A && git commit -qm two; echo $?;"
        " echo x > .env; echo y > secrets/k"
    )
    done = inside(person, "sh", "-c", text, policy=policy)
    assert done.stdout == "plain/:\n\nsecrets:\n0\n", done.stderr
    assert "secrets/k: Permission denied" in done.stderr
    changed = git(person, "show", "--name-status", "--format=").split()
    assert changed == ["A", ".env", "A", "b"]
    assert (person.work / "secrets/k").read_text() == (person.work / ".env").read_text() == "s3cret"

    policy = f"hide: [{person.work}/.kept]"
    done = inside(
        person, "sh", "-c", "echo c > c; git add -A && git commit -qm three", policy=policy
    )
    assert done.returncode != 0 and ".kept" in done.stderr
    assert git(person, "log", "-1", "--format=%s") == "two\n"
