"""A task file means what it says; whatever is wrong with it is told with file, line and hint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sandbox_agent.config.task import Task
from sandbox_agent.config.task_file import load_task, prompt_of, read_task
from sandbox_agent.errors import ConfigError

HEAD = "version: 1\nprompt: Do it.\nmodel: scripted:steps.yaml\n"


def write(folder: Path, text: str, name: str = "task.yaml") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def task(folder: Path, more: str = "", *settings: str, **variables: str) -> Task:
    return read_task(write(folder, HEAD + more), variables, settings)[0]


def refusal(folder: Path, text: str, *settings: str, **variables: str) -> str:
    path = write(folder, text)
    with pytest.raises(ConfigError) as caught:
        read_task(path, variables, settings)
    return str(caught.value).replace(f"{folder}/", "")


def test_a_short_file_gets_the_documented_defaults(tmp_path: Path) -> None:
    read = load_task(write(tmp_path, HEAD))
    assert read.model.steps == tmp_path / "steps.yaml"
    assert read.workspace.path == Path(".")
    assert [tool.tool for tool in read.tools] == ["shell", "files"]
    assert (read.interrupt.grace, read.interrupt.term) == (2.0, 1.0)
    assert (read.parallel, read.verify, read.output.dir) == (8, [], None)


def test_relative_paths_start_at_the_folder_of_their_file(tmp_path: Path) -> None:
    read = task(
        tmp_path,
        "workspace: {path: ws}\noutput: {dir: runs}\n"
        "sandbox: {read: [data, /abs], protect: [tests/]}\n",
    )
    assert read.workspace.path == tmp_path / "ws"
    assert read.output.dir == tmp_path / "runs"
    assert read.sandbox.read == [tmp_path / "data", Path("/abs")]
    assert read.sandbox.protect == [tmp_path / "tests"]


def test_relative_paths_of_a_setting_start_at_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    read = task(tmp_path, "sandbox: {read: [a]}\n", "workspace.path=ws", "sandbox.read.0=b")
    assert read.workspace.path == here / "ws"
    assert read.sandbox.read == [here / "b"]
    assert task(tmp_path, "", "model=scripted:other.yaml").model.steps == here / "other.yaml"
    assert task(tmp_path, "", "model=replay:./run").model.replayed == str(here / "run")
    assert task(tmp_path, "", "model=replay:last").model.replayed == "last"


def test_settings_are_yaml_and_win_over_the_file(tmp_path: Path) -> None:
    read = task(
        tmp_path,
        "budgets: {turns: 3, tokens: 200k, cost_usd: 2}\n",
        "budgets.turns=7",
        "verify=[a, b]",
        "tools=[files]",
    )
    assert read.budgets.turns == 7
    assert (read.budgets.tokens, read.budgets.cost_usd, read.budgets.repeats) == (200_000, 2.0, 5)
    assert read.verify == ["a", "b"]
    assert [tool.tool for tool in read.tools] == ["files"]
    assert task(tmp_path, "", "sandbox.limits.timeout=null").sandbox.limits.timeout is None


def test_variables_are_substituted_in_strings_after_parsing(tmp_path: Path) -> None:
    read = read_task(
        write(tmp_path, HEAD.replace("Do it.", "'${who}: ${what}, $${who}, $5'")),
        {"who": "a: b", "what": '"]'},
    )[0]
    assert read.prompt == 'a: b: "], ${who}, $5'


def test_extends_merges_and_the_nearer_file_wins(tmp_path: Path) -> None:
    write(
        tmp_path,
        "version: 1\nmodel: scripted:base.yaml\nverify: [a, b]\n"
        "sandbox: {network: host, read: [data], limits: {memory: 2GiB, timeout: 5s}}\n",
        "bases/base.yaml",
    )
    read, source = read_task(
        write(
            tmp_path,
            "extends: bases/base.yaml\nprompt: Do it.\nverify: [c]\n"
            "sandbox: {limits: {timeout: 9s}, write: [out]}\n",
        ),
        {},
    )
    assert read.model.steps == tmp_path / "bases" / "base.yaml"
    assert read.verify == ["c"]
    assert read.sandbox.network == "host"
    assert (read.sandbox.limits.memory, read.sandbox.limits.timeout) == (2 * 2**30, 9.0)
    assert read.sandbox.read == [tmp_path / "bases" / "data"]
    assert read.sandbox.write == [tmp_path / "out"]
    assert source.where(("sandbox", "network")).endswith("base.yaml:4")
    assert source.where(("sandbox", "write", 0)).endswith("task.yaml:4")


def test_tools_take_options(tmp_path: Path) -> None:
    read = task(tmp_path, "tools: [{shell: {timeout: 60s}}, files:, 'my.tools:search']\n")
    assert [(tool.tool, tool.timeout) for tool in read.tools] == [
        ("shell", 60.0),
        ("files", None),
        ("my.tools:search", None),
    ]


def test_a_prompt_file_is_taken_as_it_is(tmp_path: Path) -> None:
    write(tmp_path, "Use ${HOME}.\n", "prompt.md")
    path = write(tmp_path, HEAD.replace("prompt: Do it.", "prompt_file: prompt.md"))
    assert prompt_of(*read_task(path, {})) == "Use ${HOME}.\n"


DURATION = "write a number of seconds, or a number with ms, s, m, h or d, like 500ms, 90s or 1h30m"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            "sandbox:\n  netwrok: none\n",
            "task.yaml:5:3: sandbox.netwrok: there is no such field\n  hint: did you mean network?",
        ),
        (
            "colour: red\n",
            "task.yaml:4:1: colour: there is no such field\n  hint: known here: agents_md, "
            "budgets, instructions, interrupt, model, name, output, parallel, prompt, prompt_file, "
            "sandbox, spares, tools, "
            "verify, version, workspace",
        ),
        (
            "sandbox: {limits: {timeout: 5 parsecs}}\n",
            "task.yaml:4:20: sandbox.limits.timeout: '5 parsecs' is not a duration\n"
            f"  hint: {DURATION}",
        ),
        (
            "sandbox: {limits: {memory: 1 jar}}\n",
            "task.yaml:4:20: sandbox.limits.memory: '1 jar' is not a size\n  hint: write a number "
            "of bytes, or a number with kB, MB, GB, KiB, MiB or GiB, like 64k or 256MiB",
        ),
        (
            "sandbox: {limits: {timeout: 0}}\n",
            "task.yaml:4:20: sandbox.limits.timeout: 0 is out of range\n  hint: write more than 0",
        ),
        (
            "interrupt: {grace: -1}\n",
            f"task.yaml:4:13: interrupt.grace: -1 is not a duration\n  hint: {DURATION}",
        ),
        (
            "tools:\n  - shell\n  - shel\n",
            "task.yaml:6:5: tools[1]: 'shel' is not a tool\n  hint: did you mean shell?",
        ),
        (
            "tools: [raed_file]\n",
            "task.yaml:4:9: tools[0]: 'raed_file' is not a tool\n"
            "  hint: write files, the set that read_file is in",
        ),
        (
            "tools: [web]\n",
            "task.yaml:4:9: tools[0]: 'web' is not a tool\n"
            "  hint: write shell, files, or package.module:function",
        ),
        (
            "tools: [{shell: {timout: 3s}}]\n",
            "task.yaml:4:18: tools[0].shell.timout: there is no such field\n"
            "  hint: did you mean timeout?",
        ),
        (
            "tools: [{shell: {timeout: soon}}]\n",
            f"task.yaml:4:18: tools[0].shell.timeout: 'soon' is not a duration\n  hint: {DURATION}",
        ),
        (
            "tools: shell\n",
            "task.yaml:4:1: tools: must be a list, not text\n  hint: write [shell]",
        ),
        (
            "tools: [3]\n",
            "task.yaml:4:9: tools[0]: must be a tool, not a number\n"
            "  hint: write shell, files or module:function",
        ),
        (
            "tools: [shell, shell]\n",
            "task.yaml:4:1: tools: shell is listed twice\n  hint: remove one of them",
        ),
        (
            "tools: [python]\n",
            "task.yaml:4:9: tools[0]: this version does not enforce the python tool\n"
            "  hint: remove it, or use shell",
        ),
        (
            "tools: [{mcp: {command: [server]}}]\n",
            "task.yaml:4:9: tools[0]: this version does not enforce MCP servers (tools: mcp)\n"
            "  hint: remove it",
        ),
        (
            "workspace: here\n",
            "task.yaml:4:1: workspace: must be a mapping, not text\n"
            "  hint: write `name: value` lines under it",
        ),
        (
            "workspace: {mode: overlay}\n",
            "task.yaml:4:13: workspace.mode: this version does not enforce staged changes "
            "(workspace.mode: overlay)\n  hint: write mode: direct",
        ),
        (
            "approval: ask\n",
            "task.yaml:4:1: approval: this version does not enforce approval of calls (approval)\n"
            "  hint: remove it",
        ),
        (
            "budgets: {tokens: lots}\n",
            "task.yaml:4:11: budgets.tokens: 'lots' is not a count\n"
            "  hint: write a whole number, or one with k or M, like 200k",
        ),
        (
            "budgets: {cost_usd: 2 dollars}\n",
            "task.yaml:4:11: budgets.cost_usd: '2 dollars' is not an amount of money\n"
            "  hint: write a number such as 2 or 0.5",
        ),
        (
            "budgets: {cost_usd: .inf}\n",
            "task.yaml:4:11: budgets.cost_usd: inf is not an amount of money\n"
            "  hint: write a number such as 2 or 0.5",
        ),
        (
            "budgets: {repeats: 1}\n",
            "task.yaml:4:11: budgets.repeats: 1 is out of range\n  hint: write at least 2",
        ),
        (
            "sandbox:\n  env: {secret: [KEY]}\n",
            "task.yaml:5:9: sandbox.env.secret: this version does not enforce secret variables "
            "(env.secret)\n  hint: remove it",
        ),
        (
            "sandbox:\n  network: {allow: [a.b]}\n",
            "task.yaml:5:3: sandbox.network: this version does not enforce an allow-list of hosts "
            "(network: {allow: ...})\n  hint: write network: none, loopback or host",
        ),
        (
            "sandbox: {env: {set: {A: 1}}}\n",
            "task.yaml:4:23: sandbox.env.set.A: must be text, not 1\n"
            '  hint: put it in quotes: "1"',
        ),
        (
            "parallel: 0\n",
            "task.yaml:4:1: parallel: 0 is out of range\n  hint: write at least 1",
        ),
        (
            "name: a b\n",
            "task.yaml:4:1: name: 'a b' has characters that are not possible here\n"
            "  hint: write at most 64 letters, digits, dots, dashes and underscores",
        ),
        (
            "verify: ['']\n",
            "task.yaml:4:10: verify[0]: is empty\n  hint: write some text or remove it",
        ),
        (
            "prompt_file: p.md\n",
            "task.yaml:1:1: prompt and prompt_file are both there\n  hint: remove one of them",
        ),
        (
            "name: ${who}\n",
            "task.yaml:4:1: name: the variable who has no value\n"
            "  hint: give --var who=..., or write $${who} for plain text",
        ),
        (
            "verify: ['echo ${1+x}']\n",
            "task.yaml:4:10: verify[0]: `${` without a name and `}`\n"
            "  hint: write $${ for a plain ${",
        ),
        (
            "sandbox: {env: {set: {'${who}': x}}}\n",
            "task.yaml:4:23: sandbox.env.set.${who}: `${` is in a key, and variables stand for "
            "values only\n  hint: write the name itself",
        ),
        (
            "extends: " + "x" * 5000 + "\n",
            "task.yaml:4:1: extends: there is no file " + "x" * 5000 + "\n"
            "  hint: check the path",
        ),
        (
            "extends: nowhere.yaml\n",
            "task.yaml:4:1: extends: there is no file nowhere.yaml\n  hint: check the path",
        ),
        (
            "extends: task.yaml\n",
            "task.yaml:4:1: extends: task.yaml extends this file, so they form a circle\n"
            "  hint: remove one",
        ),
    ],
)  # fmt: skip
def test_a_bad_field_is_told_with_place_and_mend(tmp_path: Path, more: str, message: str) -> None:
    assert refusal(tmp_path, HEAD + more) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n", "task.yaml:1:1: must be a mapping\n"
         "  hint: write `name: value` lines, `version: 1` first"),
        ("version: 1\nprompt: x\n", "task.yaml:1:1: model: is required\n"
         "  hint: add `model: scripted:steps.yaml`"),
        ("prompt: x\nmodel: scripted:a\n", "task.yaml:1:1: version: is required\n"
         "  hint: add `version: 1`"),
        ("version: 2\nmodel: scripted:a\n", "task.yaml:1:1: version: version 2 is not known\n"
         "  hint: write version: 1, or upgrade"),
        ("version: 1\nmodel: {name: openai/gpt-5, api_base: localhost}\n",
         "task.yaml:2:29: model.api_base: 'localhost' is not an address\n"
         "  hint: write http://host:port/path"),
        ("version: 1\nmodel: {name: openai/gpt-5, api_base: 'http://me:pw@h/v1'}\n",
         "task.yaml:2:29: model.api_base: has a user or password in it\n"
         "  hint: put the key into the environment"),
        ("version: 1\nmodel: {name: openai/gpt-5, params: {api_key: x}}\n",
         "task.yaml:2:1: model: api_key is called like a secret\n"
         "  hint: put it into the environment variable that litellm reads it from"),
        ("version: 1\nmodel: {name: openai/gpt-5, params: {extra_headers: {Authorization: 5}}}\n",
         "task.yaml:2:1: model: Authorization is called like a secret\n"
         "  hint: put it into the environment variable that litellm reads it from"),
        ("version: 1\nmodel: {name: openai/gpt-5, params: {proxies: ['http://me:pw@h']}}\n",
         "task.yaml:2:1: model: proxies holds a password in a URL\n"
         "  hint: put it into the environment variable that litellm reads it from"),
        ("version: 1\nmodel: {name: openai/gpt-5, params: {messages: []}}\n",
         "task.yaml:2:1: model: messages is not for params\n"
         "  hint: remove it, or write model.messages"),
        ("version: 1\nmodel: 'replay: '\n", "task.yaml:2:1: model: 'replay: ' names nothing\n"
         "  hint: write scripted:steps.yaml or replay:RUN"),
        ("version: 1\nmodel: {name: 'scripted:a', check: true}\n",
         "task.yaml:2:1: model: 'scripted:a' has no recorded results to check against\n"
         "  hint: write replay:RUN"),
        ("version: 1\nmodel: {name: 'scripted:a', stream: true}\n",
         "task.yaml:2:1: model: stream is for providers' models\n  hint: remove it"),
    ],
)  # fmt: skip
def test_a_bad_head_is_told_with_place_and_mend(tmp_path: Path, text: str, message: str) -> None:
    assert refusal(tmp_path, text) == message


def test_all_problems_are_told_at_once_in_their_order(tmp_path: Path) -> None:
    told = refusal(tmp_path, HEAD + "parallel: x\nsandbox: {netwrok: 1}\nbudgets: {turns: 0}\n")
    places = [line.split(": ")[1] for line in told.splitlines() if line.startswith("task.yaml")]
    assert places == ["parallel", "sandbox.netwrok", "budgets.turns"]


def test_a_fault_of_a_base_file_is_placed_there(tmp_path: Path) -> None:
    write(tmp_path, "sandbox:\n  netwrok: none\n", "base.yaml")
    told = refusal(tmp_path, HEAD + "extends: base.yaml\n")
    assert told.startswith("base.yaml:2:3: sandbox.netwrok: there is no such field")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("nothing", "--set nothing is not a setting\n  hint: write --set sandbox.network=host"),
        (".=1", "--set .=1 is not a setting\n  hint: write --set sandbox.network=host"),
        (
            "sandbox.netwrok=none",
            "--set sandbox.netwrok: sandbox.netwrok: there is no such field\n"
            "  hint: did you mean network?",
        ),
        (
            "tools.7=shell",
            "--set tools.7: tools is a list of 1\n"
            "  hint: name an entry by its number, or set tools as a whole",
        ),
        (
            "verify=[a",
            "--set verify: malformed YAML: expected ',' or ']', but got '<stream end>'\n"
            "  hint: check the indentation and the quotes around here",
        ),
    ],
)
def test_a_bad_setting_is_told(tmp_path: Path, setting: str, message: str) -> None:
    assert refusal(tmp_path, HEAD + "tools: [shell]\n", setting) == message


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "No such file or directory\n  hint: name a file with the prompt"),
        (lambda path: path.mkdir(), "Is a directory\n  hint: name a file with the prompt"),
    ],
)
def test_a_missing_prompt_file_is_told(tmp_path: Path, make: Any, message: str) -> None:
    make(tmp_path / "p.md")
    path = write(tmp_path, HEAD.replace("prompt: Do it.", "prompt_file: p.md"))
    with pytest.raises(ConfigError) as caught:
        prompt_of(*read_task(path, {}))
    assert str(caught.value) == f"{path}:2:1: prompt_file: {tmp_path}/p.md: {message}"
