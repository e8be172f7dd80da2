"""The template `ci-workflow`: the project of `fix-tests`, and the workflow that runs its task."""

from __future__ import annotations

from sandbox_agent.cli.templates import fix_tests

_WORKFLOW = """\
# Runs the task of this project on GitHub. The repository's variable SANDBOX_AGENT_WHEEL names the
# wheel of sandbox-agent: an address, or a file in the repository (in a clone: scripts/wheel).
name: agent
on: [workflow_dispatch, pull_request]
permissions: {contents: read}
jobs:
  agent:
    runs-on: ubuntu-latest
    timeout-minutes: 15
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-python@v5
        with: {python-version: "3.12"}
      # Ubuntu 24.04 forbids user namespaces, which the sandbox is made of.
      - run: sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0
      - run: pip install "${{ vars.SANDBOX_AGENT_WHEEL }}"
      # `exec`: GitHub signals the shell only, and the shell keeps a signal to itself.
      - run: exec sandbox-agent run task.yaml --run-dir out/run --junit out/junit.xml
        # env: {OPENAI_API_KEY: "${{ secrets.OPENAI_API_KEY }}"}   # for another model
      - if: always()
        run: sandbox-agent show out/run --html out/run.html
      - if: always()
        uses: actions/upload-artifact@v4
        with: {name: agent, path: out}
"""

_README = """# A task in CI

`task.yaml` fixes the code until the tests pass. `.github/workflows/agent.yml` runs it on GitHub.

    sandbox-agent run task.yaml

1. Build the wheel of sandbox-agent (`scripts/wheel` in its clone), and put it where CI can read it.
2. Set the repository's variable SANDBOX_AGENT_WHEEL to its address.
3. Push. The artifact of each job has the record of its run, a JUnit file, and a page to read.
"""


def files(python: str) -> dict[str, str]:
    """Text by path, relative to the project. python: the interpreter, as a shell names it."""
    return {
        **fix_tests.files(python),
        ".github/workflows/agent.yml": _WORKFLOW,
        "README.md": _README,
        ".gitignore": "__pycache__/\nout/\n",
    }
