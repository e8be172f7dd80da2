"""Reads the code blocks and commands of a Markdown file. Standard library only."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_FENCE = re.compile(r"^```(\w*)$")
_NAME = re.compile(r"# (\S+\.(?:yaml|py|txt))\n")
_INLINE = re.compile(r"`([^`\n]+)`")


@dataclass(frozen=True)
class Block:
    """A fenced block. line: of its first line. section: the `##` heading above it, or ""."""

    file: Path
    line: int
    section: str
    language: str
    text: str

    @property
    def name(self) -> str | None:
        """NAME where the first line is `# NAME`: the file that the block is."""
        found = _NAME.match(self.text)
        return found[1] if found and self.language in ("yaml", "python") else None

    @property
    def place(self) -> str:
        return f"{self.file.parent.name}/{self.file.name}:{self.line}"


@dataclass(frozen=True)
class Command:
    """A command of a block, and the lines that the block shows as its output."""

    text: str
    output: tuple[str, ...] = ()


@cache
def blocks(file: Path) -> tuple[Block, ...]:
    """Every fenced block of a file, in its order. Raises ValueError for one that is not closed."""
    return tuple(_read(file))


def _read(file: Path) -> Iterator[Block]:
    section, start, language, lines = "", 0, "", list[str]()
    for number, line in enumerate(file.read_text().splitlines(), 1):
        fence = _FENCE.match(line)
        if not start and line.startswith("## "):
            section = line[3:]
        elif not start and fence:
            start, language, lines = number + 1, fence[1], []
        elif start and line == "```":
            yield Block(file, start, section, language, "\n".join([*lines, ""]))
            start = 0
        elif start:
            lines.append(line)
    if start:
        raise ValueError(f"{file}:{start}: the block is not closed")


def commands(block: Block) -> list[Command]:
    """The commands of an `sh` block (each line) or a `console` block (each line after `$ `)."""
    lines = block.text.splitlines()
    if block.language == "sh":
        return [Command(line) for line in lines if line and not line.startswith("#")]
    found: list[tuple[str, list[str]]] = []
    for line in lines:
        if line.startswith("$ "):
            found.append((line[2:], []))
        else:
            found[-1][1].append(line)
    return [Command(text, tuple(output)) for text, output in found]


def inline_code(file: Path) -> list[str]:
    """Every `code` in the running text, also that of tables."""
    text = re.sub(r"^```.*?^```$", "", file.read_text(), flags=re.M | re.S)
    return _INLINE.findall(text)


def links(file: Path) -> list[str]:
    """The targets of a file's links, without those to other hosts and to places in the file."""
    found = re.findall(r"\]\(([^)\s]+)\)", file.read_text())
    return [target for target in found if not re.match(r"https?:|#", target)]
