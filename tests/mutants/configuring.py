"""What people write, and the tools that they name."""

from __future__ import annotations

from mutants.mutant import RUNTIME, mutant

_TASK = f"{RUNTIME}/config/task_file.py"
_TASK_TEST = "runtime/config/test_task_file.py"
_COMMAND_LINE = f"{RUNTIME}/config/command_line.py"
_COMMAND_LINE_TEST = "runtime/config/test_command_line.py"
_REGISTRY = f"{RUNTIME}/tools/registry.py"
_REGISTRY_TEST = "runtime/tools/test_registry.py"

MUTANTS = (
    mutant(
        "a file whose name has spaces is taken for a prompt",
        "cli/test_task_word.py::test_what_exists_is_a_task_and_a_text_is_a_prompt",
        f"{RUNTIME}/cli/task_word.py",
        "    if found is not None:\n",
        '    if found is not None and " " not in word:\n',
    ),
    mutant(
        "a mistyped option with a text as its value is a prompt",
        "cli/test_help.py::test_a_mistyped_word_is_one_message_with_a_guess",
        f"{RUNTIME}/cli/argument_parser.py",
        "    return len(name) > 1 and name[0] == ",
        '    return " " not in word and len(name) > 1 and name[0] == ',
    ),
    mutant(
        "the name of a file forges lines of a message",
        "cli/test_task_word.py::test_the_name_of_a_file_forges_no_line",
        f"{RUNTIME}/errors.py",
        '        file = self.file.replace("\\n", "\\\\n")\n',
        "        file = self.file\n",
    ),
    mutant(
        "a base file wins over the nearer one",
        f"{_TASK_TEST}::test_extends_merges_and_the_nearer_file_wins",
        f"{RUNTIME}/config/settings.py",
        "            merged[key] = value\n",
        "            merged.setdefault(key, value)\n",
    ),
    mutant(
        "a flag that names the model drops its address",
        _COMMAND_LINE_TEST,
        _COMMAND_LINE,
        '            path = ("model", "name")\n',
        '            value = {"name": value}\n            self._data.pop("model", None)\n',
    ),
    mutant(
        "the second of two settings wins without a word",
        _COMMAND_LINE_TEST,
        _COMMAND_LINE,
        "            self._refuse_twice(at, place)\n",
        "",
    ),
    mutant(
        "a prompt is cut at a comment without a word",
        "runtime/config/test_yaml_source.py",
        f"{RUNTIME}/config/yaml_source.py",
        "        if free or near or",
        "        if",
    ),
    mutant(
        "relative paths start at the current folder",
        f"{_TASK_TEST}::test_relative_paths_start_at_the_folder_of_their_file",
        _TASK,
        "            data[key] = str(folder((*at, key)) / value)\n",
        "            data[key] = str(Path.cwd() / value)\n",
    ),
    mutant(
        "a variable without a value is left as it is",
        _TASK_TEST,
        _TASK,
        "            if name not in variables:\n",
        "            if name not in variables:\n                return match[0]\n"
        "            if name not in variables:\n",
    ),
    mutant(
        "of two tools of one name the first is offered",
        _REGISTRY_TEST,
        _REGISTRY,
        "            if known is not tool:\n",
        "            if known is None:\n",
    ),
    mutant(
        "a tool may take longer than the policy allows",
        _REGISTRY_TEST,
        _REGISTRY,
        "times = [limit, tool.timeout,",
        "times = [limit if tool.timeout is None else None, tool.timeout,",
    ),
    mutant(
        "a flag of exec does not win over its policy",
        "runtime/config/test_policy_flags.py",
        f"{RUNTIME}/config/policy_flags.py",
        "if _real(one, workspace) != _real(path)]",
        "if one]",
    ),
)
