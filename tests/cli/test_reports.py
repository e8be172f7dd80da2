"""The reports of a run for CI systems: whatever ends the run, and whatever they meet."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import observer
import pytest
import struck
import xmlschema
from faults import Faults, Operation
from identity import BIN, Person

PERSONS = ["user"]  # what it shows does not depend on who runs the command

AGENT = str(BIN / "sandbox-agent")
KINDS = ("junit", "summary", "codequality", "dotenv")
SECRET = "s3cret-value-of-a-variable"
FINAL = {"final": "::add-mask::Done\n##vso[task.complete]now"}
WAIT = {"calls": [{"shell": {"command": "touch up; sleep 600"}}]}


def shell(*commands: str) -> dict[str, Any]:
    return {"calls": [{"shell": {"command": command}} for command in commands]}


def flags(folder: Path) -> list[str]:
    named = ("--junit", "--summary", "--codequality", "--dotenv")
    return [part for flag in named for part in (flag, str(folder / flag[2:]))]


def complete(folder: Path) -> ElementTree.Element:
    """Checks that all files are there, whole, and nothing beside them. Returns JUnit's suite."""
    assert sorted(os.listdir(folder)) == sorted(KINDS)
    assert (folder / "summary").read_text().startswith("## `struck`: ")
    assert isinstance(json.loads((folder / "codequality").read_text()), list)
    assert "SANDBOX_AGENT_STATUS=" in (folder / "dotenv").read_text()
    suite = ElementTree.parse(folder / "junit").getroot().find("testsuite")
    assert suite is not None
    return suite


def until_up(person: Person, agent: subprocess.Popen[str]) -> None:
    observer.eventually(lambda: (person.work / "up").exists() or agent.poll() is not None, 60)
    assert agent.poll() is None


def test_all_files_are_valid_and_masked_and_follow_the_record_at_once(person: Person) -> None:
    printed = f"echo {SECRET}; seq 30"
    person.write(person.work / "src.py", "")
    fails = "echo $DEPLOY; seq 40; echo src.py:7: no; exit 1"
    task = struck.write_task(
        person, [shell(printed, "exit 3"), FINAL], verify=["true", fails],
        sandbox={"env": {"pass": ["DEPLOY"]}},
    )  # fmt: skip
    out = person.work / "new" / "out"
    argv = [AGENT, "run", str(task), *flags(out)]
    env = {"DEPLOY": SECRET, "CI_PROJECT_DIR": str(person.folder)}
    done = person.run(argv, env=env)
    assert done.returncode == 1, done.stderr
    assert done.stdout == FINAL["final"] + "\n"
    suite = complete(out)
    assert "nothing changed" in done.stderr, "reports are no changes of the agent"
    failure = suite.find("testcase[3]/failure")
    assert failure is not None and (failure.text or "").splitlines()[1:] == [
        *map(str, range(22, 41)), "src.py:7: no"
    ]  # fmt: skip
    places = [issue["location"] for issue in json.loads((out / "codequality").read_text())]
    assert places[-1] == {"path": "work/src.py", "lines": {"begin": 7}}
    (folder,) = (person.folder / "runs").iterdir()
    recorded = (folder / "result.json").stat().st_mtime
    for kind in KINDS:
        assert SECRET not in (out / kind).read_text()
        assert (out / kind).stat().st_mtime - recorded < 0.5
    assert SECRET in (folder / "journal.jsonl").read_text(), "the test shows something"
    # The schemas that we publish.
    xmlschema.validate(str(out / "junit"), schema(person, "--junit"))
    jsonschema.validate(
        json.loads((folder / "result.json").read_text()), json.loads(schema(person, "--result"))
    )
    validator = jsonschema.Draft202012Validator(json.loads(schema(person, "--journal")))
    for line in (folder / "journal.jsonl").read_text().splitlines():
        validator.validate(json.loads(line))
    assert not validator.is_valid({"event": "started", "call": 1})


def schema(person: Person, which: str) -> str:
    done = person.run([AGENT, "schema", which])
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_a_task_names_the_files_and_a_flag_wins(person: Person) -> None:
    named = {kind: f"out/{kind}" for kind in KINDS} | {"run_dir": "out-run"}
    task = struck.write_task(person, [FINAL], output=named)
    other = person.work / "other.xml"
    done = person.run([AGENT, "run", str(task), "--junit", str(other)])
    assert done.returncode == 0, done.stderr
    assert sorted(os.listdir(task.parent / "out")) == ["codequality", "dotenv", "summary"]
    assert ElementTree.parse(other).getroot().find("testsuite/[@errors='0']") is not None
    assert sorted(os.listdir(task.parent / "out-run")) == ["journal.jsonl", "result.json"]


def test_an_interrupted_run_has_all_its_reports_at_once(person: Person) -> None:
    task = struck.write_task(person, [WAIT, FINAL], verify=["true"])
    out = person.work / "out"
    with person.start([AGENT, "run", str(task), *flags(out)]) as agent:
        until_up(person, agent)
        agent.send_signal(signal.SIGTERM)
        _, err = agent.communicate(timeout=30)
    assert agent.returncode == 143, err
    suite = complete(out)
    assert [part.tag for part in suite.findall("testcase/*")] == ["error", "skipped"]
    (folder,) = (person.folder / "runs").iterdir()
    recorded = (folder / "result.json").stat().st_mtime
    assert max((out / kind).stat().st_mtime for kind in KINDS) - recorded < 0.5
    # Another segment of the run replaces them.
    done = person.run(
        [AGENT, "resume", "last", "--out", str(folder.parent), "--prompt", "go on", *flags(out)]
    )
    assert done.returncode == 0, done.stderr
    assert complete(out).get("errors") == "0"


def test_after_sigkill_the_reports_are_made_from_the_journal(person: Person) -> None:
    task = struck.write_task(person, [WAIT, FINAL], verify=["true"])
    out, folder = person.work / "out", person.work / "agent-run"
    out.mkdir()
    person.own(out)
    person.write(out / "junit", "of an earlier run")
    argv = [AGENT, "run", str(task), "--run-dir", str(folder), "--set", "output.dir=null"]
    with person.start([*argv, *flags(out)]) as agent:
        until_up(person, agent)
        agent.kill()
        agent.communicate(timeout=30)
    assert os.listdir(out) == [], "nothing that could be taken for this run's"
    done = person.run([AGENT, "report", "agent-run", *flags(out)])
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    error = complete(out).find("testcase/error")
    assert error is not None and error.get("message") == (
        "lost: the agent was killed, and its calls ended with it"
    )
    shown = person.run([AGENT, "report", str(folder)])
    assert (shown.returncode, shown.stdout) == (0, (out / "summary").read_text())


def test_github_actions_shows_a_failure_by_itself(person: Person) -> None:
    step = person.write(person.folder / "step.md", "of the step before\n")
    fails = "echo '::stop-commands::x'; echo 'src.py:2: no ##[error]'; exit 1"
    task = struck.write_task(
        person, [{"say": "::add-mask::a", **shell(fails)}, FINAL], verify=[fails]
    )
    (person.work / "src.py").touch()
    env = {
        "GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(step),
        "GITHUB_WORKSPACE": str(person.work),
    }  # fmt: skip
    done = person.run([AGENT, "run", str(task), "--summary", str(step)], env=env)
    assert done.returncode == 1, done.stderr
    text = step.read_text()
    assert text.startswith("of the step before\n## `struck`: failed\n")
    assert text.count("## `struck`: failed") == 1
    commands = [line for line in done.stderr.splitlines() if line.lstrip().startswith("::")]
    assert [line.split(" ")[0] for line in commands] == [
        "::group::sandbox-agent", "::endgroup::", "::error", "::error", "::error",
    ]  # fmt: skip
    assert "title=sandbox-agent%3A run::failed: verify failed: " in commands[2]
    assert "file=src.py,line=2" in commands[-1]
    for written in (done.stderr, done.stdout, text):
        assert "##[" not in written and "##vso[" not in written
        assert "\n::add-mask" not in f"\n{written}" and "\n::stop" not in written
    assert done.stdout == "\\x3a:add-mask::Done\n\\x23#vso[task.complete]now\n"


def test_the_summary_of_a_step_follows_no_link_of_a_tool(person: Person) -> None:
    """Where it lies below what tools can write, another run may have left one."""
    other = person.write(person.folder / "other", "mine\n")
    hooks = person.work / "hooks"
    hooks.mkdir()
    person.own(hooks)
    task = struck.write_task(person, [FINAL])
    step, env = person.work / "step.md", {"GITHUB_ACTIONS": "true"}
    plant = {
        "a link that leads out": lambda: step.symlink_to(other),
        "a link that does not": lambda: step.symlink_to("hooks/pre-commit"),
        "a second name": lambda: os.link(other, step),
        "a pipe": lambda: os.mkfifo(step),
    }
    for name, put in plant.items():
        put()
        done = person.run([AGENT, "run", str(task)], env={**env, "GITHUB_STEP_SUMMARY": str(step)})
        assert done.returncode == 0, name
        assert "$GITHUB_STEP_SUMMARY was not written: " in done.stderr, name
        step.unlink()
    (person.work / "above").symlink_to("hooks")
    env["GITHUB_STEP_SUMMARY"] = str(person.work / "above/pre-commit")
    assert "a link is on the way" in person.run([AGENT, "run", str(task)], env=env).stderr
    assert (other.read_text(), list(hooks.iterdir())) == ("mine\n", [])


def test_a_step_summary_that_a_tool_replaces_is_not_written(person: Person) -> None:
    other = person.write(person.folder / "other", "mine\n")
    step = person.write(person.work / "step.md", "")
    task = struck.write_task(person, [shell(f"rm step.md; ln -s {other} step.md"), FINAL])
    env = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(step)}
    done = person.run([AGENT, "run", str(task)], env=env)
    assert "it was replaced while the run was going" in done.stderr
    assert other.read_text() == "mine\n"


def test_a_stream_of_events_holds_no_command(person: Person) -> None:
    task = struck.write_task(person, [FINAL])
    done = person.run([AGENT, "run", str(task), "--json"])
    assert done.returncode == 0, done.stderr
    assert "##vso[" not in done.stdout
    texts = [json.loads(line).get("text") for line in done.stdout.splitlines()]
    assert FINAL["final"] in texts


IMPORTS = """
import sys
from sandbox_agent.cli import main
code = main(sys.argv[1:])
unwanted = ("sandbox_agent.reports.mask", "sandbox_agent.reports.ci.cases", "xml.etree")
print([name for name in unwanted if name in sys.modules], file=sys.stderr)
sys.exit(code)
"""


def test_a_run_without_reports_imports_nothing_for_them(person: Person) -> None:
    task = struck.write_task(person, [FINAL])
    argv = [str(BIN / "python"), "-c", IMPORTS, "run", str(task)]
    assert person.run(argv).stderr.endswith("[]\n")
    assert not person.run([*argv, "--junit", "x"]).stderr.endswith("[]\n")


# --- what cannot be written -----------------------------------------------------------------


@pytest.mark.parametrize(("verify", "code"), [("true", 0), ("exit 1", 1)])
def test_a_full_disk_changes_no_exit_code(person: Person, verify: str, code: int) -> None:
    out = person.work / "out"
    out.mkdir()
    person.own(out)
    task = struck.write_task(person, [FINAL], verify=[verify])
    with Faults(out, lambda one: errno.ENOSPC if one.name == "write" else None) as faults:
        done = faults.run(person, [AGENT, "run", str(task), *flags(out)])
    assert faults.struck
    assert done.returncode == code, done.stderr
    for kind in KINDS:
        what = f"--{kind}: {out / kind} was not written: No space left on device"
        assert what in done.stderr
    assert os.listdir(out) == []
    (folder,) = (person.folder / "runs").iterdir()
    assert f"hint: `sandbox-agent report {folder}` writes it" in done.stderr


def test_a_folder_that_becomes_read_only_changes_no_exit_code(person: Person) -> None:
    """A tool does it. Root may write all the same."""
    out = person.work / "out"
    task = struck.write_task(person, [shell("chmod 500 out"), FINAL])
    done = person.run([AGENT, "run", str(task), *flags(out)])
    assert done.returncode == 0, done.stderr
    if person.uid == 0:
        complete(out)
        return
    assert done.stderr.count("was not written: Permission denied") == len(KINDS)
    assert os.listdir(out) == []


@pytest.mark.parametrize(("verify", "code"), [("true", 74), ("exit 1", 1)])
def test_a_closed_standard_output_costs_no_report(person: Person, verify: str, code: int) -> None:
    out = person.work / "out"
    task = struck.write_task(person, [FINAL], verify=[verify])
    command = 'exec "$0" "$@" >&-'
    done = person.run(["sh", "-c", command, AGENT, "run", str(task), *flags(out)])
    assert done.returncode == code, "as without reports"
    complete(out)
    assert person.run(["sh", "-c", command, AGENT, "run", str(task)]).returncode == code


PLANTED: dict[str, tuple[str, Callable[[Path], bool]]] = {
    "a link": ("ln -sf ../precious out/junit", lambda out: (out / "junit").is_file()),
    "a folder": ("mkdir out/junit", lambda out: (out / "junit").is_dir()),
    "another folder": ("mv out gone; mkdir out", lambda out: not list(out.iterdir())),
    "a forged file": ("echo '<testsuites/>' > out/junit", lambda out: (out / "junit").is_file()),
}


@pytest.mark.parametrize("what", PLANTED)
def test_a_tool_decides_nothing_about_a_report(person: Person, what: str) -> None:
    command, as_expected = PLANTED[what]
    person.write(person.work / "precious", "precious")
    task = struck.write_task(person, [shell(command), FINAL])
    out = person.work / "out"
    done = person.run([AGENT, "run", str(task), "--junit", str(out / "junit")])
    assert done.returncode == 0, done.stderr
    assert (person.work / "precious").read_text() == "precious"
    assert as_expected(out)
    if (out / "junit").is_file():
        assert ElementTree.parse(out / "junit").getroot().find("testsuite") is not None
        assert not (out / "junit").is_symlink()
    else:
        assert f"--junit: {out / 'junit'} was not written: " in done.stderr


def test_a_file_that_cannot_be_written_ends_the_command_before_the_run(person: Person) -> None:
    task = struck.write_task(person, [FINAL])
    plain = person.write(person.work / "plain", "")
    os.mkfifo(person.work / "pipe")
    person.own(person.work / "pipe")
    for path in (plain / "x", person.work, person.work / "pipe", Path("/proc/x")):
        done = person.run([AGENT, "run", str(task), "--junit", str(path)])
        assert done.returncode == 2, done.stderr
        assert f"--junit: {path} cannot be written: " in done.stderr
        assert "hint: " in done.stderr
    (person.work / "above").symlink_to(person.folder)
    for given, what in (
        (["--junit", "above/x"], "a link leads out of a folder that tools can write"),
        (["--junit", "x", "--summary", "./x"], "--junit and --summary both name "),
    ):
        done = person.run([AGENT, "run", str(task), *given])
        assert (done.returncode, what in done.stderr) == (2, True), done.stderr
    assert not (person.folder / "runs").exists()
    assert not (person.folder / "x").exists()


# --- the verb -------------------------------------------------------------------------------


def test_report_says_what_is_wrong_with_a_run(person: Person) -> None:
    runs = person.folder / "runs"
    for name, content in (("empty", ""), ("torn", '{"event":"jour'), ("new", '{"event":"x"}\n')):
        (runs / name).mkdir(parents=True)
        person.own(runs, runs / name)
        person.write(runs / name / "journal.jsonl", content)
    for run, what in (
        ("nope", "there is no run nope in"),
        ("empty", "has not begun"),
        ("torn", "has not begun"),
        ("new", "journal.jsonl"),
    ):
        done = person.run([AGENT, "report", run, "--out", str(runs)])
        assert done.returncode == 2, (run, done.stderr)
        assert what in done.stderr and "Traceback" not in done.stderr


def test_a_report_that_is_not_written_is_said(person: Person) -> None:
    task = struck.write_task(person, [FINAL])
    assert person.run([AGENT, "run", str(task)]).returncode == 0
    out = person.work / "out"
    out.mkdir()
    person.own(out)

    def full(one: Operation) -> int | None:
        return errno.ENOSPC if one.name == "write" else None

    argv = [AGENT, "report", "last", "--out", str(person.folder / "runs"), *flags(out)]
    with Faults(out, full) as faults:
        done = faults.run(person, argv)
    assert done.returncode == 74, done.stderr
    assert done.stderr.count("was not written: No space left on device") == len(KINDS)
