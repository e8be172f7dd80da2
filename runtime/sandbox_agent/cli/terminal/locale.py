"""Whether the person's locale has UTF-8."""

from __future__ import annotations

import os
from collections.abc import Mapping


def is_utf8(environ: Mapping[str, str] | None = None) -> bool:
    """Whether the variables of locale(7) name UTF-8. environ: by default, what this process was
    started with: Python itself sets LC_CTYPE to UTF-8 where it was C (PEP 538)."""
    variables = _at_start() if environ is None else environ
    for name in ("LC_ALL", "LC_CTYPE", "LANG"):
        if value := variables.get(name):
            return "utf-8" in value.lower() or "utf8" in value.lower()
    return False


def _at_start() -> Mapping[str, str]:
    """proc(5): /proc/PID/environ."""
    try:
        with open("/proc/self/environ", "rb") as file:
            lines = file.read().split(b"\0")
    except OSError:
        return os.environ
    pairs = (line.partition(b"=") for line in lines)
    return {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}
