"""The record of a run holds no secret that the runtime knows of."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from sandbox_agent.conversation import Conversation
from sandbox_agent.errors import ConfigError
from sandbox_agent.journal.result_file import read_record
from sandbox_agent.journal.status import Status
from sandbox_agent.models.provider import ProviderModel
from sandbox_agent.models.scripted import ScriptedModel
from sandbox_agent.run.truncate import MODEL_BYTES
from talking import FINAL, Watch, calls, shell, soon, talk

SECRET = "pl4nted-s3cr3t-c0ffee"
HASH = hashlib.sha256(SECRET.encode()).hexdigest()
KNOWN = f'test "$(printf %s "$SERVICE_TOKEN" | sha256sum)" = "{HASH}  -"'


def holders(folder: Path) -> list[str]:
    """Files that hold the secret, or are called so."""
    return [
        str(path)
        for path in folder.rglob("*")
        if SECRET in str(path) or (path.is_file() and SECRET.encode() in path.read_bytes())
    ]


def test_what_is_passed_to_tools_is_in_no_file_of_the_run(
    tmp_path: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVICE_TOKEN", SECRET)
    monkeypatch.setenv("PROVIDER_API_KEY", SECRET)  # the agent's own: tools do not get it
    long = f"head -c {2 * MODEL_BYTES} /dev/zero | tr '\\0' x"
    hanging = 'test -e go || { touch begun; echo up; exec -a "$SERVICE_TOKEN" sleep 300; }'
    steps = (
        shell(KNOWN, 'test -z "$PROVIDER_API_KEY"', long, "exit 3"),
        calls(("no_such_tool", {}), ("shell", {"comand": 1})),
        shell(hanging),
        FINAL,
    )
    sandbox = {"env": {"pass": ["SERVICE_TOKEN"]}}
    with talk(tmp_path, watch, *steps, sandbox=sandbox, verify=[KNOWN]) as conv:
        conv.send_message("go")
        # The command line of what is stopped holds the secret, too.
        soon(lambda: (watch.wait_up(), conv.interrupt()))
        assert conv.run().status is Status.INTERRUPTED
        assert conv.run().status is Status.DONE
    calls_made = read_record(conv.run_dir).calls
    assert [call.exit_status for call in calls_made[:2]] == [0, 0]
    assert len(list((conv.run_dir / "output").iterdir())) == 1
    assert holders(conv.run_dir) == []
    # And it is gone on with without it.
    model = ScriptedModel([*steps, FINAL])
    with Conversation.resume(conv.run_dir, message="more", model=model) as again:
        assert again.run().status is Status.DONE
    assert holders(conv.run_dir) == []


def test_the_search_finds_what_a_tool_prints(
    tmp_path: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control. What a tool says is its own: it is told to the model, and recorded."""
    monkeypatch.setenv("SERVICE_TOKEN", SECRET)
    sandbox = {"env": {"pass": ["SERVICE_TOKEN"]}}
    with talk(tmp_path, watch, shell('echo "$SERVICE_TOKEN"'), FINAL, sandbox=sandbox) as conv:
        conv.run()
    assert [Path(path).name for path in holders(conv.run_dir)] == ["journal.jsonl"]


def test_a_secret_that_is_set_is_refused_before_anything_is_written(
    tmp_path: Path, watch: Watch
) -> None:
    sandbox = {"env": {"set": {"SERVICE_TOKEN": SECRET}}}
    with pytest.raises(ConfigError, match=r"(?s)SERVICE_TOKEN.*env\.pass") as caught:
        talk(tmp_path, watch, FINAL, sandbox=sandbox)
    assert caught.value.field == "sandbox.env.set.SERVICE_TOKEN"
    assert SECRET not in str(caught.value)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("key", ["OPENAI_API_KEY", "DEPLOY_TOKEN"])
@pytest.mark.parametrize("value", [SECRET, f"Bearer {SECRET}"])
def test_a_secret_from_outside_under_another_name_is_refused(
    tmp_path: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch, key: str, value: str
) -> None:
    monkeypatch.setenv(key, SECRET)
    with pytest.raises(ConfigError, match=key) as caught:
        talk(tmp_path, watch, FINAL, sandbox={"env": {"set": {"FOO": value}}})
    assert caught.value.field == "sandbox.env.set.FOO"
    assert SECRET not in str(caught.value)
    assert not (tmp_path / "runs").exists()
    # Another value is none of our business, and neither is what stands for a key.
    monkeypatch.setenv("ANTHROPIC_API_KEY", "none")
    env = {"set": {"FOO": SECRET[:-1], "BAR": "none"}}
    with talk(tmp_path, watch, FINAL, sandbox={"env": env}) as conv:
        assert conv.run().status is Status.DONE


def test_the_models_own_key_is_not_handed_to_tools(
    tmp_path: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    monkeypatch.setenv("ANTHROPIC_API_KEY", SECRET)
    passed = {"env": {"pass": ["LANG", "OPENAI_API_KEY"]}}
    for name in ("openai/gpt-4o", "gpt-4o"):
        with pytest.raises(ConfigError, match="OPENAI_API_KEY holds the key") as caught:
            talk(tmp_path, watch, model=ProviderModel(name), sandbox=passed)
        assert caught.value.field == "sandbox.env.pass"
    assert not (tmp_path / "runs").exists()
    # For a model that is not asked with this key, it is a secret like any other.
    talk(tmp_path, watch, model=ProviderModel("anthropic/claude-sonnet-4-5"), sandbox=passed)
    with talk(tmp_path, watch, shell('test -n "$OPENAI_API_KEY"'), FINAL, sandbox=passed) as conv:
        assert conv.run().status is Status.DONE
    assert [call.exit_status for call in read_record(conv.run_dir).calls] == [0]
