"""Which lines of the product the tests execute, in all processes (`scripts/test --coverage`).

    python line_coverage.py make       makes the environment to run tests in; prints its interpreter
    python line_coverage.py report     prints what was executed since

The environment lies in the one of `scripts/setup`, and holds the same packages by hard links, plus
`line_marks.py`. The product's own sources are not changed.

Not measured: the one line that starts the spawner (python -c), up to its first import; and what
runs under another trace function, as some tests of ipc do.
"""

from __future__ import annotations

import ast
import compileall
import os
import py_compile
import shutil
import sys
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType

import line_marks
from paths import CHECKOUT

ROOTS = ("ipc", "sandbox", "runtime")
HERE = Path(sys.prefix) / "line-coverage"
HOOK = "sandbox_agent_line_marks"
PACKAGES = HERE / Path(compileall.__file__).parent.relative_to(sys.base_prefix) / "site-packages"
MARKS = PACKAGES / f"{HOOK}.bin"
LOW = 0.9
"""Files of which less than this was executed are listed."""


@dataclass(frozen=True)
class Source:
    """A source file of the product. offset: of its line 0 in the marks."""

    path: Path
    offset: int
    length: int

    @property
    def name(self) -> str:
        return str(self.path.relative_to(CHECKOUT))

    def lines(self) -> set[int]:
        """The lines that can be executed. What only type checkers read cannot."""
        text = self.path.read_text()
        found: set[int] = set()
        queue = [compile(text, str(self.path), "exec")]
        while queue:
            code = queue.pop()
            found |= line_marks.lines_of(code)
            queue += [one for one in code.co_consts if isinstance(one, CodeType)]
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
                found -= set(range(node.body[0].lineno, (node.body[-1].end_lineno or 0) + 1))
        return found


def sources() -> list[Source]:
    found, offset = [], 0
    for root in ROOTS:
        for path in sorted((CHECKOUT / root).rglob("*.py")):
            length = len(path.read_bytes().splitlines()) + 1
            found.append(Source(path, offset, length))
            offset += length
    return found


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copy2(source, target)


def make() -> Path:
    """Makes the environment anew, without a mark. Returns its interpreter."""
    shutil.rmtree(HERE, ignore_errors=True)
    venv.create(HERE, symlinks=True)
    theirs = Path(sys.prefix) / PACKAGES.relative_to(HERE)
    shutil.copytree(theirs, PACKAGES, symlinks=True, copy_function=_link, dirs_exist_ok=True)
    python = HERE / "bin" / "python"
    for script in (Path(sys.prefix) / "bin").iterdir():
        target = HERE / "bin" / script.name
        if target.exists() or not script.is_file():
            continue
        data = script.read_bytes()
        first, _, rest = data.partition(b"\n")
        if first.startswith(b"#!") and b"python" in first:
            target.write_bytes(b"#!" + os.fsencode(python) + b"\n" + rest)
            target.chmod(0o755)
    _hook()
    return python


def _hook() -> None:
    known = sources()
    MARKS.write_bytes(bytes(known[-1].offset + known[-1].length))
    MARKS.chmod(0o666)  # commands under test run as several users
    offsets = {str(source.path): source.offset for source in known}
    text = Path(line_marks.__file__).read_text()
    hook = PACKAGES / f"{HOOK}.py"
    hook.write_text(f"{text}\n\nstart({str(MARKS)!r}, {offsets!r})\n")
    (PACKAGES / f"{HOOK}.pth").write_text(f"import {HOOK}\n")
    msgspec = PACKAGES / "msgspec" / "__init__.py"
    text = msgspec.read_text()
    msgspec.unlink()  # a hard link
    msgspec.write_text(f"{text}\nimport {HOOK}\n")
    for path in (hook, msgspec):
        Path(py_compile.compile(str(path), doraise=True) or path).chmod(0o644)


# --- the report -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Covered:
    """Of one file, or of a folder: lines, and those that were executed."""

    name: str
    lines: int
    missed: tuple[int, ...]

    @property
    def share(self) -> float:
        return 1.0 if not self.lines else 1 - len(self.missed) / self.lines

    def line(self) -> str:
        return f"{self.name:60} {self.lines:6} {self.lines - len(self.missed):6} {self.share:6.1%}"


def covered() -> Iterator[Covered]:
    marks = MARKS.read_bytes()
    for source in sources():
        lines = source.lines()
        missed = sorted(line for line in lines if not marks[source.offset + line])
        yield Covered(source.name, len(lines), tuple(missed))


def _together(name: str, files: list[Covered]) -> Covered:
    missed = [0] * sum(len(one.missed) for one in files)
    return Covered(name, sum(one.lines for one in files), tuple(missed))


def _ranges(lines: tuple[int, ...]) -> str:
    found: list[list[int]] = []
    for line in lines:
        if found and line == found[-1][1] + 1:
            found[-1][1] = line
        else:
            found.append([line, line])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in found)


def report() -> None:
    files = list(covered())
    folders: dict[str, list[Covered]] = {}
    for one in files:
        folders.setdefault(str(Path(one.name).parent), []).append(one)
    print(f"\n{'coverage of lines, all processes':60} {'lines':>6} {'run':>6}")
    for name, within in folders.items():
        print(_together(name, within).line())
    low = sorted((one for one in files if one.share < LOW), key=lambda one: one.share)
    if low:
        print(f"\nfiles below {LOW:.0%}, and the lines that were not executed:")
    for one in low:
        print(f"{one.line()}  {_ranges(one.missed)}")
    print(f"\n{_together('coverage', files).line()}")


if __name__ == "__main__":
    if sys.argv[1] == "make":
        print(make())
    else:
        report()
