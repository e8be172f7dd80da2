"""The pytest plugin, in real runs of pytest in projects of their own."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import observer
import pytest
from identity import Person

PERSONS = ["user"]  # what it shows does not depend on who runs the command

PYTEST = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rA", "--color=no"]


class Project:
    """A folder with tests, and real runs of pytest in it. person: who runs it; None for whoever
    runs these tests."""

    def __init__(self, folder: Path, person: Person | None = None) -> None:
        self.folder = folder
        self.person = person
        folder.chmod(0o755)  # tools of root are another user, who imports the test's module
        self.write("pytest.ini", "[pytest]\naddopts = --strict-markers --strict-config\n")

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(textwrap.dedent(text))
        if self.person is not None:
            self.person.own(self.folder / name)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [*PYTEST, *arguments]
        if self.person is not None:
            env = {"TMPDIR": str(self.person.home)}
            return self.person.run(command, env=env, stderr=subprocess.STDOUT, timeout=100)
        return subprocess.run(
            command,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=100,
        )


def outcomes(done: subprocess.CompletedProcess[str]) -> dict[str, set[str]]:
    """What the summary says of each test, by its name."""
    found: dict[str, set[str]] = {}
    for outcome, name in re.findall(
        r"^(PASSED|FAILED|ERROR|SKIPPED) \S*::(\w+)", done.stdout, re.M
    ):
        found.setdefault(name, set()).add(outcome)
    return found


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.fixture
def theirs(person: Person) -> Project:
    return Project(person.work, person)


GOOD = '''
    import subprocess

    import pytest
    from sandbox_agent import CancelToken

    pytestmark = pytest.mark.agent(tools=["shell"])

    SAY = [{"calls": [{"shell": {"command": "echo hello"}}]}, {"final": "said"}]


    def wait(seconds: float, token: CancelToken) -> str:
        """Waits."""
        return "cancelled" if token.wait(seconds) else "waited"


    def test_a_run(agent_run):
        result = agent_run(SAY)
        assert result.status == "done"
        assert result.calls[0].text == "hello\\n"


    @pytest.mark.agent(tools=[wait])
    def test_the_nearest_marker_wins(agent_run):
        steps = [{"calls": [{"wait": {"seconds": 600}}]}, {"final": "over"}]
        with agent_run.start(steps) as run:
            run.wait_for_call("wait")
            run.interrupt()
            assert run.result().outcomes() == ["cancelled"]


    def test_a_tool_of_this_module(agent_run):
        with agent_run.start_tool(wait, {"seconds": 600}) as call:
            call.wait_started()
            call.cancel()
            assert call.result().content == "cancelled"
        assert agent_run.tool(wait, {"seconds": 0}).content == "waited"


    def test_two_runs(agent_run):
        assert agent_run(SAY).run.run_dir != agent_run(SAY).run.run_dir


    def test_what_ends_in_time_is_not_left(agent_run):
        subprocess.Popen(["sleep", "0.2"])


    @pytest.fixture
    def server():
        server = subprocess.Popen(["sleep", "600"])
        yield server
        server.kill()
        server.wait()


    def test_what_a_fixture_ends_is_not_left(server, agent_run):
        assert server.poll() is None


    @pytest.fixture(scope="session")
    def session_server():
        server = subprocess.Popen(["sleep", "600"])
        yield server
        server.kill()
        server.wait()


    def test_what_a_fixture_of_the_session_starts_is_the_sessions(request, agent_run):
        assert request.getfixturevalue("session_server").poll() is None


    def test_it_is_still_there(session_server, agent_run):
        assert session_server.poll() is None


    @pytest.mark.agent(check_processes=False)
    def test_the_check_can_be_off():
        global left
        left = subprocess.Popen(["sleep", "600"])


    def test_and_what_was_there_before_is_not_this_tests():
        left.kill()
        left.wait()


    @pytest.mark.skip(reason="not now")
    def test_skipped(agent_run):
        raise AssertionError


    @pytest.fixture
    def skipping(agent_run):
        pytest.skip("no such thing here")


    def test_a_fixture_that_skips(skipping):
        raise AssertionError


    @pytest.mark.anyio
    async def test_in_an_event_loop(agent_run):
        assert (await agent_run.arun(SAY)).message == "said"
'''

BARE = """
    def test_without_a_marker(agent_run):
        steps = [{"calls": [{"write_file": {"path": "a.txt", "content": "a"}}]}, {"final": "done"}]
        assert agent_run(steps).outcomes() == ["ok"]
        assert (agent_run.workspace / "a.txt").read_text() == "a"
"""


def test_good_tests_pass_under_xdist(theirs: Project) -> None:
    theirs.write("test_good.py", GOOD)
    theirs.write("test_bare.py", BARE)
    done = theirs.run("-n", "2", "--dist", "loadfile", "-k", "not trio")
    assert done.returncode == 0, done.stdout
    expected = {*re.findall(r"def (test_\w+)", GOOD + BARE)}
    expected -= {"test_skipped", "test_a_fixture_that_skips"}
    passed = {name for name, seen in outcomes(done).items() if seen == {"PASSED"}}
    assert passed == expected, done.stdout
    assert "2 skipped" in done.stdout


LEAVING = """
    import os
    import subprocess
    import sys

    import pytest
    from sandbox_agent import Conversation


    @pytest.mark.agent
    def test_a_child():
        subprocess.Popen(["sleep", "300.MARK"])


    @pytest.mark.agent
    def test_a_daemon():
        subprocess.run(["sh", "-c", "setsid sleep 300.MARK & exit 0"])


    def test_a_daemon_beside_a_run(agent_run):
        agent_run([{"final": "done"}])
        subprocess.run(["sh", "-c", "(setsid sleep 300.MARK &) & exit 0"])


    @pytest.mark.agent
    def test_an_open_conversation(tmp_path):
        global conversation
        (tmp_path / "work").mkdir()
        (tmp_path / "steps.yaml").write_text("- final: done")
        conversation = Conversation(
            model=f"scripted:{tmp_path}/steps.yaml", workspace=tmp_path / "work"
        )
        conversation.send_message("Go.")
        conversation.run()


    def test_after_it():
        conversation.close()


    def test_it_is_not_for_others():
        global other
        other = subprocess.Popen(["sleep", "300"])


    @pytest.mark.agent
    def test_what_others_left_is_theirs():
        other.kill()
        other.wait()


    @pytest.fixture
    def breaking():
        yield
        raise RuntimeError("the fixture's own error")


    @pytest.mark.agent
    def test_both_errors_are_told(breaking):
        subprocess.Popen(["sleep", "300.MARK"])


    def test_a_failure_shows_the_run(agent_run):
        result = agent_run([
            {"calls": [{"shell": {"command": "echo the cause >&2; exit 3"}}]}, {"final": "done"}
        ])
        assert result.outcomes() == ["ok"]
"""


def test_a_test_that_leaves_a_process_fails_and_the_process_is_ended(theirs: Project) -> None:
    mark = observer.new_mark()
    theirs.write("test_leaving.py", LEAVING.replace("MARK", mark))
    done = theirs.run("-p", "no:xdist")
    assert observer.marked(mark) == [], done.stdout
    assert done.returncode == 1, done.stdout
    found = outcomes(done)
    assert {name for name, seen in found.items() if "ERROR" in seen} == {
        "test_a_child",
        "test_a_daemon",
        "test_a_daemon_beside_a_run",
        "test_an_open_conversation",
        "test_both_errors_are_told",
    }, done.stdout
    assert {name for name, seen in found.items() if "FAILED" in seen} == {
        "test_a_failure_shows_the_run"
    }
    assert done.stdout.count(f": sleep 300.{mark}") >= 4
    assert "close() what it opens" in done.stdout
    assert "sandbox-init, of a Conversation" in done.stdout
    assert "the fixture's own error" in done.stdout
    assert "call_1_1 error, exit status 3" in done.stdout
    assert "the cause" in done.stdout
    assert "record: " in done.stdout


WRONG = """
    import pytest


    @pytest.mark.agent("shell")
    def test_positional(agent_run):
        raise AssertionError


    @pytest.mark.agent(check_processes="no")
    def test_no_bool(agent_run):
        raise AssertionError


    @pytest.mark.agent(tols=["shell"])
    def test_unknown_option(agent_run):
        agent_run([{"final": "done"}])


    @pytest.mark.agent(budgets={"turns": 0})
    def test_wrong_value(agent_run):
        agent_run([{"final": "done"}])
"""


def test_a_marker_that_is_wrong_is_named(project: Project) -> None:
    project.write("test_wrong.py", WRONG)
    done = project.run("-p", "no:xdist")
    assert done.returncode == 1
    assert all(seen & {"FAILED", "ERROR"} for seen in outcomes(done).values()), done.stdout
    assert len(outcomes(done)) == 4
    for words in ("takes keywords only, not 'shell'", "write True or False", "'tols'", "turns"):
        assert words in done.stdout, done.stdout


ENDLESS = """
    import pytest


    def test_endless(agent_run):
        command = "trap '' INT TERM; setsid sleep 300.MARK & echo up; sleep 300.MARK"
        with agent_run.start(
            [{"calls": [{"shell": {"command": command}}]}, {"final": "over"}],
            interrupt=(0.1, 0.1),
        ) as run:
            run.wait_for_output("up")
            print("reached")
            run.result(600)


    def test_endless_in_the_main_thread(agent_run):
        command = "trap '' INT TERM; sleep 300.MARK"
        agent_run(
            [{"calls": [{"shell": {"command": command}}]}, {"final": "over"}],
            interrupt=(0.1, 0.1),
        )
"""


@pytest.mark.parametrize("method", ["signal", "thread"])
def test_pytest_timeout_ends_a_test_and_nothing_is_left(project: Project, method: str) -> None:
    mark = observer.new_mark()
    project.write("test_endless.py", ENDLESS.replace("MARK", mark))
    done = project.run("-p", "no:xdist", "--timeout", "6", "--timeout-method", method)
    assert done.returncode == 1, done.stdout
    assert "Timeout" in done.stdout
    assert "reached" in done.stdout
    if method == "signal":
        assert list(outcomes(done).values()) == [{"FAILED"}] * 2
    # With the method `thread`, pytest-timeout ends pytest itself by os._exit(2). Nothing outlives
    # it for more than 250 ms.
    with observer.watching(observer.marked(mark)) as handles:
        assert observer.wait_gone(handles, 5)[1] == []


def test_ctrl_c_in_pytest_leaves_nothing(project: Project) -> None:
    mark = observer.new_mark()
    project.write("test_endless.py", ENDLESS.replace("MARK", mark))
    command = [*PYTEST, "-p", "no:xdist", "--timeout", "0"]
    with subprocess.Popen(
        command, cwd=project.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        deadline = time.monotonic() + 60
        while len(found := [one for one in observer.marked(mark) if "sleep 3" in one.command]) < 2:
            assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0]
            time.sleep(0.02)
        with observer.watching(found) as handles:
            process.send_signal(signal.SIGINT)
            said = process.communicate(timeout=60)[0]
            assert observer.wait_gone(handles, 5)[1] == [], said
    assert process.returncode == 2, said
    assert "KeyboardInterrupt" in said
    assert observer.marked(mark) == []


def test_without_the_plugin_the_fixture_is_not_there_and_the_rest_works(project: Project) -> None:
    project.write("test_bare.py", BARE)
    project.write("test_other.py", "def test_other():\n    pass\n")
    done = project.run("-p", "no:xdist", "-p", "no:sandbox_agent")
    assert outcomes(done) == {"test_without_a_marker": {"ERROR"}, "test_other": {"PASSED"}}
    assert "fixture 'agent_run' not found" in done.stdout


def test_a_project_that_does_not_use_it_pays_nothing(project: Project) -> None:
    project.write(
        "test_plain.py",
        """
        import sys


        def test_nothing_of_ours_is_imported():
            ours = {name for name in sys.modules if name.startswith("sandbox_agent")}
            assert ours <= {
                "sandbox_agent", "sandbox_agent.testing", "sandbox_agent.testing.plugin"
            }
            assert not {"psutil", "msgspec", "pydantic", "asyncio"} & set(sys.modules)
        """,
    )
    done = project.run(
        "-p", "no:xdist", "-p", "no:anyio", "-p", "no:hypothesispytest", "-W", "error"
    )
    assert outcomes(done) == {"test_nothing_of_ours_is_imported": {"PASSED"}}, done.stdout


def test_the_import_of_the_plugin_takes_a_few_milliseconds() -> None:
    code = (
        "import pytest, time\n"
        "begun = time.process_time()\n"
        "import sandbox_agent.testing.plugin\n"
        "print(time.process_time() - begun)\n"
    )
    times = [
        float(subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE).stdout)
        for _ in range(3)
    ]
    assert min(times) < 0.01, times


def test_every_name_of_the_package_can_be_imported_and_no_other() -> None:
    from sandbox_agent import testing

    for name in testing.__all__:
        assert getattr(testing, name).__name__ == name
    assert set(testing.__all__) <= set(dir(testing))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        testing.nothing  # noqa: B018
