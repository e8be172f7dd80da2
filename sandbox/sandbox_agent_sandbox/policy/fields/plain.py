"""A policy as plain data: the one place of its fields' defaults.

`policy.Policy` has the same fields, and checks what people write. Planning reads either of them. A
command whose policy nobody has written is planned from this one, and does not pay for pydantic.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec


class PlainEnv(msgspec.Struct, frozen=True, rename={"pass_": "pass"}):
    """See `policy.EnvPolicy`."""

    pass_: list[str] = []
    set: dict[str, str] = {}


class PlainLimits(msgspec.Struct, frozen=True):
    """See `policy.Limits`. Seconds, bytes and counts; None for no limit."""

    timeout: float | None = 120.0
    memory: int | None = 4 * 2**30
    call_memory: int | None = None
    process_memory: int | None = None
    processes: int | None = 1024
    cpu_time: float | None = 3600.0
    open_files: int | None = 4096
    file_size: int | None = 4 * 2**30
    tmp: int | None = 10 * 2**30
    shm: int | None = 256 * 2**20
    disk: int | None = 20 * 2**30
    output: int | None = 2**20


class PlainPolicy(msgspec.Struct, frozen=True):
    """See `policy.Policy`."""

    read: list[Path] = []
    write: list[Path] = []
    hide: list[Path] = []
    protect: list[Path] = []
    network: Literal["none", "loopback", "host"] = "none"
    env: PlainEnv = PlainEnv()
    limits: PlainLimits = PlainLimits()
    protect_defaults: bool = True
    plan: Literal["auto", "full", "shared_proc", "no_namespaces"] = "auto"
    allow_degraded: list[str] = []


POLICY = PlainPolicy()
"""The default policy."""
