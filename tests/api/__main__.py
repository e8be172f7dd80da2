"""`scripts/api`: writes or checks the files beside this one, and what models are told of tools."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from paths import CHECKOUT
from sandbox_agent.tools.built_in import DESCRIBED

from api.changes import changes, newest, unsaid
from api.surface import Surface, built_in_tools, read

HERE = Path(__file__).resolve().parent
NOW = HERE / "python.json"
RELEASED = HERE / "released.json"


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/api", description=__doc__)
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument("--check", action="store_true", help="write nothing; fail for a difference")
    kinds.add_argument("--release", action="store_true", help="count changes from here on")
    options = parser.parse_args()
    surface = read()
    if options.check:
        return check(surface)
    if options.release and RELEASED.exists() and "unreleased" in heading():
        print(f"CHANGELOG.md says {heading()!r}: date the version first", file=sys.stderr)
        return 2
    write(NOW, surface)
    DESCRIBED.write_bytes(built_in_tools())
    if options.release or not RELEASED.exists():
        write(RELEASED, surface)
    return 0


def check(surface: Surface) -> int:
    wrong = [f"  {one}" for one in changes(load(NOW), surface)]
    if wrong:
        print(f"The public surface is not what {NOW.relative_to(CHECKOUT)} says:", *wrong, sep="\n")
        print("  hint: if that is meant, run scripts/api and commit the file")
    changelog = (CHECKOUT / "CHANGELOG.md").read_text()
    left = unsaid(list(changes(load(RELEASED), surface)), changelog)
    if left:
        print(f"CHANGELOG.md, {heading()!r}, has no line for:")
        print(*(f"  - {' or '.join(one.lines)} `{one.name}`   ({one})" for one in left), sep="\n")
    return 1 if wrong or left else 0


def heading() -> str:
    return newest((CHECKOUT / "CHANGELOG.md").read_text()).partition("\n")[0]


def load(path: Path) -> Surface:
    surface: Surface = json.loads(path.read_text())
    return surface


def write(path: Path, surface: Surface) -> None:
    """One entry a line, so that a diff reads as the list of changes."""
    sections = []
    for section, entries in surface.items():
        lines = [
            f"  {json.dumps(name)}: {json.dumps(entry, sort_keys=True)}"
            for name, entry in sorted(entries.items())
        ]
        sections.append(f" {json.dumps(section)}: {{\n" + ",\n".join(lines) + "\n }")
    path.write_text("{\n" + ",\n".join(sections) + "\n}\n")


if __name__ == "__main__":
    raise SystemExit(main())
