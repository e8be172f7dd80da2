"""The projects that `init` writes. Each runs at once, without a key, and needs nothing but the
standard library: the model is a list of turns in a file, which you then replace."""

from __future__ import annotations

from collections.abc import Mapping

TEMPLATES: Mapping[str, str] = {
    "fix-tests": "a failing test suite, and a task that fixes the code",
    "review-diff": "a change, and a task that reviews it",
    "custom-tool": "a tool of your own, and a task that uses it",
    "ci-workflow": "a task, and the workflow that runs it in CI",
}
"""What each template is, by its name. The first one is the default."""


def files(template: str, python: str) -> dict[str, str]:
    """Text by path, relative to the project. python: the interpreter that runs its tests, as a
    shell command names it."""
    from sandbox_agent.cli.templates import ci_workflow, custom_tool, fix_tests, review_diff

    match template:
        case "review-diff":
            return review_diff.files()
        case "custom-tool":
            return custom_tool.files()
        case "ci-workflow":
            return ci_workflow.files(python)
        case _:
            return fix_tests.files(python)
