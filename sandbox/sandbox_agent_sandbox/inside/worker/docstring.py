"""The parts of a docstring that a model needs: what a tool does, and what each parameter means.

It reads the Google, NumPy and reST forms. Anything else stays in the description, unchanged: a form
that is guessed wrongly must lose nothing.
"""

from __future__ import annotations

import re

_PARAMETER_SECTIONS = {
    "args", "arguments", "parameters", "params", "other parameters", "keyword args",
}  # fmt: skip
_OTHER_SECTIONS = {
    "attributes", "example", "examples", "note", "notes", "raises", "references", "return",
    "returns", "see also", "todo", "warning", "warnings", "warns", "yield", "yields",
}  # fmt: skip
_GOOGLE_ITEM = re.compile(r"\*{0,2}(\w+)\s*(?:\(.*?\))?\s*:\s*(.*)")
_NUMPY_ITEM = re.compile(r"(\*{0,2}\w+(?:\s*,\s*\*{0,2}\w+)*)\s*(?::.*)?")
_REST_ITEM = re.compile(r":(\w+)(?:\s+([^:]*))?:\s*(.*)")
_REST_OTHER_FIELDS = {"raise", "raises", "return", "returns", "rtype", "type", "yields"}
_REST_PARAMETER_FIELDS = {"param", "parameter", "arg", "argument", "key", "keyword"}


def read_docstring(text: str | None) -> tuple[str, dict[str, str]]:
    """The description, and parameter -> its description. Sections such as Returns are left out."""
    import inspect  # here: a call does without it

    lines = inspect.cleandoc(text or "").splitlines()
    description: list[str] = []
    found: dict[str, str] = {}
    at = 0
    while at < len(lines):
        name, style = _section(lines, at)
        if style == "rest":
            at = _read_rest(lines, at, found)
        elif style:
            body = at + (2 if style == "numpy" else 1)
            end = _section_end(lines, body, style)
            if name in _PARAMETER_SECTIONS:
                (_read_numpy if style == "numpy" else _read_google)(lines[body:end], found)
            at = end
        else:
            description.append(lines[at])
            at += 1
    return "\n".join(description).strip(), found


def _section(lines: list[str], at: int) -> tuple[str, str]:
    """The section that begins at this line: (its lower-case name, its style), or two blanks."""
    line = lines[at]
    name = line.strip().lower()
    known = _PARAMETER_SECTIONS | _OTHER_SECTIONS
    below = lines[at + 1].strip() if at + 1 < len(lines) else ""
    if name in known and len(below) >= 3 and set(below) == {"-"}:
        return name, "numpy"
    if line.endswith(":") and not line.startswith(" ") and name[:-1] in known:
        return name[:-1], "google"
    rest = _REST_ITEM.match(line)
    if rest and rest[1] in _REST_OTHER_FIELDS | _REST_PARAMETER_FIELDS:
        return rest[1], "rest"
    return "", ""


def _section_end(lines: list[str], at: int, style: str) -> int:
    while at < len(lines):
        if _section(lines, at)[1]:
            break
        # A Google section ends where the indentation ends.
        if style == "google" and lines[at] and not lines[at].startswith(" "):
            break
        at += 1
    return at


def _read_google(body: list[str], found: dict[str, str]) -> None:
    indents = [len(line) - len(line.lstrip()) for line in body if line.strip()]
    outer = min(indents, default=0)
    current = ""
    for line in body:
        indent = len(line) - len(line.lstrip())
        item = _GOOGLE_ITEM.match(line.strip()) if indent == outer else None
        if item:
            current = item[1]
            found[current] = item[2].strip()
        elif current:
            _append(found, current, line)


def _read_numpy(body: list[str], found: dict[str, str]) -> None:
    current: list[str] = []
    for line in body:
        item = _NUMPY_ITEM.fullmatch(line) if not line.startswith(" ") else None
        if item:
            current = [name.strip(" *") for name in item[1].split(",")]
            found.update(dict.fromkeys(current, ""))
        else:
            for name in current:
                _append(found, name, line)


def _read_rest(lines: list[str], at: int, found: dict[str, str]) -> int:
    item = _REST_ITEM.match(lines[at])
    assert item is not None
    # ":param int count: text" puts the type before the name.
    words = (item[2] or "").split()
    wanted = item[1] in _REST_PARAMETER_FIELDS and bool(words)
    name = words[-1].lstrip("*") if words else ""
    if wanted:
        found[name] = item[3].strip()
    at += 1
    while at < len(lines) and lines[at].startswith(" "):
        if wanted:
            _append(found, name, lines[at])
        at += 1
    return at


def _append(found: dict[str, str], name: str, line: str) -> None:
    found[name] = f"{found[name]} {line.strip()}".strip()
