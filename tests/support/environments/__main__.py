"""Runs a command in an environment: see the package's docstring."""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from environments import ENVIRONMENTS, entering, runc


def main() -> None:
    names = [*entering.ENTER, *runc.SPECS]
    options, argv = _split(sys.argv[1:])
    name = options.pop(0) if options else ""
    if name not in names or not argv or (options and name not in runc.SPECS):
        sys.exit(f"usage: environments NAME [--as UID --own FOLDER] -- COMMAND...; NAME: {names}")
    given = dict(zip(options[::2], options[1::2], strict=True))
    uid = int(given.get("--as", os.geteuid()))
    os.environ["SANDBOX_AGENT_TEST_PLAN"] = ENVIRONMENTS[name].plan(root=uid == 0)
    try:
        if name in runc.SPECS:
            is_first = given.get("--first") == "command"
            runc.run(name, uid, given.get("--own", os.getcwd()), argv, is_first=is_first)
        entering.ENTER[name]()
    except OSError as error:
        sys.exit(f"environments: {name} cannot be made here: {error.strerror or error}")
    os.execvp(argv[0], argv)


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    at = words.index("--") if "--" in words else len(words)
    return words[:at], words[at + 1 :]


if __name__ == "__main__":
    main()
