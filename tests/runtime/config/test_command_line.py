"""`--set`, `--var` and flags: each takes effect or is refused, and the rest of the task stays."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from sandbox_agent.config.command_line import Given
from sandbox_agent.config.task import Task
from sandbox_agent.config.task_file import read_task
from sandbox_agent.errors import ConfigError

HEAD = "version: 1\nprompt: Do it.\n"
ADDRESS = "http://127.0.0.1:9/v1"
MAPPING = f"model: {{name: openai/m, api_base: '{ADDRESS}', retries: 0, params: {{seed: 1}}}}\n"


def task(
    folder: Path,
    text: str,
    *settings: str,
    overrides: Mapping[str, Given] | None = None,
    variables: Mapping[str, str] | None = None,
    default: Given | None = None,
    **files: str,
) -> Task:
    for name, content in {**files, "task": text}.items():
        (folder / f"{name}.yaml").write_text(content)
    return read_task(folder / "task.yaml", variables or {}, settings, overrides, default)[0]


def refusal(
    folder: Path,
    text: str,
    settings: Sequence[str] = (),
    overrides: Mapping[str, Given] | None = None,
    variables: Mapping[str, str] | None = None,
) -> str:
    with pytest.raises(ConfigError) as caught:
        task(folder, text, *settings, overrides=overrides, variables=variables)
    assert caught.value.hint
    return str(caught.value).replace(f"{folder}/", "")


@pytest.mark.parametrize(
    ("settings", "overrides"),
    [
        (["model=openai/other"], None),
        ([], {"model": ("openai/other", "--model")}),
        (["model.name=openai/other"], None),
        (["model={name: openai/other}"], None),
    ],
    ids=["set", "flag", "set-name", "set-mapping"],
)
def test_a_model_that_is_named_keeps_its_other_fields(
    tmp_path: Path, settings: list[str], overrides: Mapping[str, Given] | None
) -> None:
    model = task(tmp_path, HEAD + MAPPING, *settings, overrides=overrides).model
    assert model.name == "openai/other"
    assert (model.api_base, model.retries, model.params) == (
        ADDRESS,
        0,
        {"seed": 1},
    )


def test_a_nearer_file_that_names_a_model_keeps_its_other_fields(tmp_path: Path) -> None:
    near = HEAD + "extends: base.yaml\nmodel: openai/other\n"
    model = task(tmp_path, near, base=HEAD + MAPPING).model
    assert (model.name, model.api_base) == ("openai/other", ADDRESS)
    far = task(tmp_path, HEAD + "extends: base.yaml\n" + MAPPING, base="model: openai/far\n").model
    assert (far.name, far.retries) == ("openai/m", 0)


def test_a_field_of_the_model_beside_its_name_as_text(tmp_path: Path) -> None:
    model = task(tmp_path, HEAD + "model: openai/m\n", f"model.api_base={ADDRESS}").model
    assert (model.name, model.api_base) == ("openai/m", ADDRESS)
    default = ("openai/m", "SANDBOX_AGENT_MODEL")
    address = f"model.api_base={ADDRESS}"
    model = task(tmp_path, HEAD, address, default=default).model
    assert (model.name, model.api_base) == ("openai/m", ADDRESS)
    named = task(tmp_path, HEAD + "model: openai/file\n", default=default).model
    assert named.name == "openai/file"


def test_what_a_model_of_another_kind_cannot_have_is_left_out_and_said(tmp_path: Path) -> None:
    with pytest.warns(UserWarning) as told:
        model = task(
            tmp_path, HEAD + MAPPING, overrides={"model": ("scripted:s.yaml", "--model")}
        ).model
    assert model.model_fields_set == {"name"}
    texts = [str(warning.message) for warning in told]
    assert len(texts) == 3
    for field, text in zip(("api_base", "retries", "params"), texts, strict=True):
        assert "task.yaml:3:" in text and f"model.{field}: has no effect on scripted:" in text
    checked = HEAD + "model: {name: 'replay:last', check: true}\n"
    with pytest.warns(UserWarning, match="model.check: has no effect on openai/m"):
        assert not task(tmp_path, checked, "model=openai/m").model.check


def test_what_the_same_layer_gives_beside_a_model_that_cannot_have_it_is_refused(
    tmp_path: Path,
) -> None:
    assert refusal(
        tmp_path,
        HEAD + "model: scripted:s.yaml\n",
        [f"model.api_base={ADDRESS}"],
    ).startswith("--set model.api_base: model.api_base: api_base is for providers' models")
    assert refusal(tmp_path, HEAD + "model: scripted:s.yaml\n", ["model.params.seed=1"]).startswith(
        "--set model.params.seed: model.params.seed: params is for providers' models"
    )
    flag = {"model": ("scripted:s.yaml", "--model")}
    assert "api_base is for providers" in refusal(
        tmp_path, HEAD + "model: openai/m\n", [f"model.api_base={ADDRESS}"], flag
    )


def test_an_address_that_stays_with_another_provider_is_said(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="anthropic/m is asked there"):
        task(tmp_path, HEAD + MAPPING, "model=anthropic/m")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        task(tmp_path, HEAD + MAPPING, "model=openai/other")
        reset = task(tmp_path, HEAD + MAPPING, "model=anthropic/m", "model.api_base=null")
    assert reset.model.api_base is None


def test_a_mapping_replaces_the_fields_that_it_names(tmp_path: Path) -> None:
    text = HEAD + "model: scripted:s\nsandbox: {network: host, limits: {timeout: 5s, tmp: 2MiB}}\n"
    sandbox = task(tmp_path, text, "sandbox={limits: {timeout: 9s}}").sandbox
    assert (sandbox.network, sandbox.limits.timeout, sandbox.limits.tmp) == ("host", 9, 2 * 2**20)


def test_the_nearer_prompt_wins_in_either_form(tmp_path: Path) -> None:
    (tmp_path / "p.md").write_text("From the file.")
    model = "model: scripted:s\n"
    in_file = "version: 1\nprompt_file: p.md\n" + model
    assert task(tmp_path, in_file, "prompt=Hello.").prompt_file is None
    assert task(tmp_path, HEAD + model, f"prompt_file={tmp_path}/p.md").prompt is None
    near = task(tmp_path, "extends: base.yaml\n" + in_file, base=HEAD + model)
    assert (near.prompt, near.prompt_file) == (None, tmp_path / "p.md")


TASK = HEAD + "model: scripted:s\nbudgets: {time: 5m}\n"


@pytest.mark.parametrize(
    ("settings", "overrides", "message"),
    [
        (["budgets.turns=1", "budgets.turns=2"], {}, "budgets.turns is given by --set budgets"),
        (["budgets={turns: 1}", "budgets.turns=2"], {}, "budgets.turns is given by --set budgets"),
        (["interrupt.grace=1"], {"interrupt.grace": ("2", "--grace")}, "by --set interrupt.grace"),
        (["budgets={time: 1m}"], {"budgets.time": ("2m", "--timeout")}, "by --set budgets"),
        (["prompt=a"], {"prompt": ("b", "--prompt")}, "prompt is given by --set prompt"),
        (["prompt_file=a"], {"prompt": ("b", "--prompt")}, "prompt is given by --set prompt_file"),
        (["model=scripted:a"], {"model": ("scripted:b", "--model")}, "by --set model"),
        (["model.name=scripted:a"], {"model": ("scripted:b", "--model")}, "by --set model.name"),
        (["tools=[shell]", "tools.0=files"], {}, "tools[0] is given by --set tools"),
        (["budgets.turns="], {}, "has no value\n  hint: write budgets.turns=null for no limit"),
        (["prompt=Fix the parser, issue #42"], {}, "the text ends before ' #42'"),
        (["prompt=one\ntwo"], {}, "'one\\ntwo' is read as 'one two'"),
        (["budgets.time.x=1"], {}, "budgets.time is not a mapping"),
        (["tools.\u00b2=files"], {}, "tools: must be a list"),
    ],
)  # fmt: skip
def test_what_could_have_no_effect_is_refused(
    tmp_path: Path, settings: list[str], overrides: dict[str, Given], message: str
) -> None:
    assert message in refusal(tmp_path, TASK, settings, overrides)


def test_a_setting_in_quotes_is_taken_as_it_is(tmp_path: Path) -> None:
    read = task(tmp_path, TASK, "prompt='Fix the parser, issue #42'", "sandbox.network=host")
    assert read.prompt == "Fix the parser, issue #42"


def test_a_variable_that_nothing_names_is_refused(tmp_path: Path) -> None:
    text = TASK.replace("Do it.", "'Do ${what}.'")
    assert task(tmp_path, text, variables={"what": "it"}).prompt == "Do it."
    told = refusal(tmp_path, text, variables={"what": "it", "waht": "it"})
    assert told == "--var waht: task.yaml has no ${waht} to replace\n  hint: did you mean what?"
    # A file that the task extends counts.
    based = "extends: base.yaml\nversion: 1\nmodel: scripted:s\n"
    base = "prompt: '${what}'\n"
    assert task(tmp_path, based, variables={"what": "it"}, base=base).prompt == "it"


def test_a_program_may_make_the_warnings_errors(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match=r"model\.check: has no effect"):
            task(tmp_path, HEAD + "model: {name: 'replay:last', check: true}\n", "model=openai/m")
