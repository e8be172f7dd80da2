"""Real programs inside the walls: do they work there as they work outside?

Each program of listed/*.toml runs outside first, which shows that it can work on this machine, and
then by `sandbox-agent exec` with the default policy: as root and as an ordinary user.
"""

from __future__ import annotations

import argparse
import json
import os
import pwd
import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

import as_user
from identity import BIN, CHECKOUT, Person, someone

LISTED = Path(__file__).with_name("listed")
AGENT = str(BIN / "sandbox-agent")
REGISTRY = re.compile(
    r"PIP_\w+|npm_config_\w+|NPM_CONFIG_\w+|\w+_(proxy|PROXY)|SSL_CERT_\w+|\w+_CA_(BUNDLE|CERTS)"
)
"""Variables that say where a registry is and how to reach it. They are the machine's own."""

PRELUDE = """
fails() { if "$@"; then return 1; fi; }
has() { local found; found=$(grep "$@"); }  # grep -q would close the pipe early: SIGPIPE
await() {
    for _ in $(seq 400); do if "$@" >/dev/null 2>&1; then return; fi; sleep 0.05; done; return 1
}
"""
"""What the scripts use. await: until the command succeeds, at most some 20 s."""


@dataclass(frozen=True)
class Program:
    """name: what it does. needs: commands; without one of them the program is left out.

    script: for bash in a new workspace, with `PRELUDE`. It checks what it did, and fails otherwise.
    Before `&&` and after `!` no failure counts for `bash -e`: so one command a line, and `fails`.
    before: a script that makes the workspace first, outside.
    says: what the output must contain, as a regular expression.
    refused: it must work outside, and fail inside with the words of `says`.
    ci: who runs it in CI: "user", "root" or "both"; it needs nothing from a registry.
    registry: it asks a package registry, so it has the host's network; `read` and `env.pass` then
    name the registry's own files and variables.
    outside: "user" if root cannot do it outside.
    seconds: how long it may take.
    """

    name: str
    script: str
    before: str = ""
    needs: tuple[str, ...] = ()
    says: str = ""
    ci: str = ""
    registry: bool = False
    refused: bool = False
    outside: str = ""
    seconds: float = 60

    @property
    def missing(self) -> list[str]:
        """Commands that this machine does not have."""
        return [name for name in self.needs if not shutil.which(name, path=search_path())]


class Verdict(StrEnum):
    WORKS = "works"
    REFUSED = "refused"
    """It fails as it should."""
    BROKEN = "BROKEN"
    LEFT_OUT = "left out"
    """It does not work outside either, or is not on this machine."""


@dataclass(frozen=True)
class Seen:
    """How a program ended. seconds: of wall time; why: the end of its output, if it failed."""

    verdict: Verdict
    seconds: float
    why: str = ""


def load() -> list[Program]:
    files = sorted(LISTED.glob("*.toml"))
    found = [one for file in files for one in tomllib.loads(file.read_text())["program"]]
    return [Program(**{**one, "needs": tuple(one.get("needs", ()))}) for one in found]


@cache
def toolchain() -> Path | None:
    """Rust's own folder. rustup's commands look for it below HOME, which a person's is not."""
    if not shutil.which("rustc"):
        return None
    found = subprocess.run(["rustc", "--print", "sysroot"], capture_output=True, text=True)
    return Path(found.stdout.strip()) if found.returncode == 0 else None


def search_path() -> str:
    rust = [] if toolchain() is None else [f"{toolchain()}/bin"]
    system = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return ":".join([str(BIN), *rust, system])


@cache
def registry_files() -> list[str]:
    """Folders of this machine in which pip looks for packages, beside the registry's."""
    done = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True
    )
    named = re.findall(r"(?:file:)?/(?:/+)?[\w./-]+", done.stdout)
    paths = {Path("/" + name.removeprefix("file:").lstrip("/")) for name in named}
    return sorted(str(one) for one in paths if one.exists() and one.parts[1] not in ("etc", "usr"))


def environment(person: Person, program: Program) -> dict[str, str]:
    temporary = person.folder / "tmp"
    if not temporary.exists():
        temporary.mkdir()
        person.own(temporary)
    found = {"PATH": search_path(), "TMPDIR": str(temporary), "SHELL": "/bin/sh"}
    if program.registry:
        found |= {name: value for name, value in os.environ.items() if REGISTRY.fullmatch(name)}
    return found


def policy(program: Program, plan: str) -> Mapping[str, Any]:
    """The default one, but for where a registry is. plan: its kind; without namespaces tools have a
    loopback interface only where the policy asks for it."""
    if not program.registry:
        return {"plan": plan, "network": "loopback"} if plan else {}
    names = [one for one in os.environ if re.fullmatch(r"(?i)PIP_\w+|npm_config_\w+", one)]
    more = {"plan": plan} if plan else {}
    return {"network": "host", "read": registry_files(), "env": {"pass": names}, **more}


def run_as(
    person: Person, argv: list[str], program: Program, workspace: Path
) -> tuple[int, str, float]:
    """Exit code (124 after its time), output and seconds of a command."""
    also = [] if toolchain() is None else [Path(str(toolchain()))]
    command = argv = argv if person.place is None else person.place.wrap(argv)
    if person.uid != os.geteuid():
        command = as_user.command(person.uid, person.home, argv, checkout=CHECKOUT, also=also)
    begin = time.monotonic()
    with subprocess.Popen(
        command,
        cwd=workspace,
        env=person.environment(environment(person, program)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        process_group=0,
        text=True,
        errors="replace",
    ) as process:
        try:
            output, _ = process.communicate(timeout=program.seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            output, _ = process.communicate()
            return 124, output + f"\nnot over after {program.seconds:g} s", time.monotonic() - begin
    return process.returncode, output, time.monotonic() - begin


def workspace_of(person: Person, program: Program, name: str) -> Path:
    folder = person.folder / name
    folder.mkdir()
    person.own(folder)
    if program.before:
        code, output, _ = run_as(person, bash(program.before), program, folder)
        assert code == 0, output
    return folder


def bash(script: str) -> list[str]:
    return ["bash", "-eu", "-o", "pipefail", "-c", PRELUDE + script]


def outside(person: Person, program: Program) -> Seen:
    """Runs it without a sandbox."""
    workspace = workspace_of(person, program, "outside")
    code, output, seconds = run_as(person, bash(program.script), program, workspace)
    shutil.rmtree(workspace)
    if code == 0 and (program.refused or re.search(program.says, output, re.MULTILINE)):
        return Seen(Verdict.WORKS, seconds)
    return Seen(Verdict.LEFT_OUT, seconds, f"outside: exit code {code}: {_end(output)}")


def inside(person: Person, program: Program, plan: str = "") -> Seen:
    """Runs it with the sandbox."""
    workspace = workspace_of(person, program, "inside")
    chosen = person.write(person.folder / "policy.yaml", json.dumps(policy(program, plan)))
    argv = [AGENT, "exec", "--policy", str(chosen), "--timeout", f"{program.seconds:g}s"]
    argv += ["--out", str(person.folder / "runs"), "--", *bash(program.script)]
    code, output, seconds = run_as(person, argv, program, workspace)
    shutil.rmtree(workspace)
    said = re.search(program.says, output, re.MULTILINE) is not None
    if program.refused:
        fine = code != 0 and said
        return Seen(Verdict.REFUSED if fine else Verdict.BROKEN, seconds, "" if fine else output)
    if code == 0 and said:
        return Seen(Verdict.WORKS, seconds)
    return Seen(Verdict.BROKEN, seconds, f"exit code {code}: {_end(output)}")


def _end(output: str) -> str:
    return "\n".join(output.strip().splitlines()[-12:])


def account() -> int | None:
    """An account that nothing runs as: some programs want a name for who starts them."""
    found = {one.pw_uid for one in pwd.getpwall() if one.pw_name in ("games", "news", "uucp")}
    running = {path.stat().st_uid for path in Path("/proc").glob("[0-9]*") if path.exists()}
    return min(found - running, default=None)


def compare(kind: str, program: Program, plan: str = "") -> Seen:
    """What the table says of a program for one kind of person ("root", "user in docker-filter")."""
    for person in someone(kind, account()):
        if not (program.outside == "user" and person.uid == 0):
            control = outside(person, program)
            if control.verdict is not Verdict.WORKS:
                return control
        return inside(person, program, plan)
    raise AssertionError("someone() makes one person")


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/real", description=__doc__)
    parser.add_argument("--only", metavar="PATTERN", help="programs with this in their name")
    parser.add_argument("--as", dest="kind", choices=("root", "user"), help="both, where root")
    parser.add_argument("--plan", default="", metavar="KIND", help="as sandbox.plan")
    parser.add_argument("--in", dest="where", default="", metavar="NAME", help="as scripts/test")
    parser.add_argument("--json", type=Path, metavar="FILE", help="the table, as JSON")
    options = parser.parse_args()
    mine = ["root", "user"] if os.geteuid() == 0 else ["user"]
    kinds = [options.kind] if options.kind else mine
    if not set(kinds) <= set(mine):
        parser.error("only root can run programs as root; use --as user")
    width = max(len(one.name) for one in load())
    print(f"{'inside the walls':{width}}  " + "  ".join(f"{one:>15}" for one in kinds), flush=True)
    rows, broken = [], []
    for program in load():
        if options.only and not re.search(options.only, program.name):
            continue
        cells = []
        for kind in kinds:
            lacking = ", ".join(program.missing)
            seen = Seen(Verdict.LEFT_OUT, 0, f"missing: {lacking}") if lacking else None
            where = f" in {options.where}" if options.where else ""
            seen = seen or compare(kind + where, program, options.plan)
            cells.append(seen)
            rows.append({"program": program.name, "person": kind, **asdict(seen)})
            if seen.verdict is Verdict.BROKEN or (seen.why and not lacking):
                broken.append(f"{program.name}, {kind}: {seen.why}")
        said = "  ".join(f"{one.verdict:>8} {one.seconds:4.1f} s" for one in cells)
        print(f"{program.name:{width}}  {said}", flush=True)
    print("".join(f"\n{one}\n" for one in broken), end="")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 1 if any(row["verdict"] == Verdict.BROKEN for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
