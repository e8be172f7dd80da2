"""What is hidden from tools, inside what they are shown."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sandbox_agent_sandbox.errors import PolicyError
from sandbox_agent_sandbox.plan import Mask, MaskedFor
from sandbox_agent_sandbox.policy.git import is_tracked
from sandbox_agent_sandbox.policy.named_paths import refuse_link
from sandbox_agent_sandbox.policy.paths import is_inside
from sandbox_agent_sandbox.policy.view import OWN_FOLDERS, View

if TYPE_CHECKING:
    from sandbox_agent_sandbox.policy.any_policy import AnyPolicy


def masks(policy: AnyPolicy, workspace: Path, view: View) -> Iterator[Mask]:
    """Of what `hide` names."""
    for path in policy.hide:
        refuse_link("hide", workspace / path, view.writable)
        real = Path(view.follow(workspace / path).real)
        if real == Path("/dev") or is_inside(str(real), "/proc"):
            raise PolicyError(
                f"{real} cannot be hidden: every sandbox has a /proc and a /dev of its own",
                field="hide",
                hint="remove the entry",
            )
        below = [bind.path for bind in view.binds if is_inside(bind.path, str(real))]
        if not below and not view.shows(str(real)):
            continue
        if not os.path.exists(real):
            raise PolicyError(
                f"{real} does not exist, so it cannot be hidden",
                field="hide",
                hint="create it first, or remove the entry",
            )
        if real == workspace or real in workspace.parents:
            what = f"{real} would hide the workspace {workspace}"
            raise PolicyError(what, field="hide", hint="name the paths in it that you mean")
        for field in ("read", "write", "protect"):
            for named in getattr(policy, field):
                if is_inside(view.follow(workspace / named).real, str(real)):
                    raise PolicyError(
                        f"{real} would hide {named}, which {field} names",
                        field="hide",
                        hint="remove one of them",
                    )
        if not view.shows(str(real)):
            yield from _masks_below(real, below, view)
            continue
        kept = view.can_write(str(real)) and is_tracked(str(workspace), str(real))
        yield Mask(str(real), real.is_dir(), unreadable=kept)


def masks_of_records(workspace: Path, hidden: Sequence[Path], view: View) -> Iterator[Mask]:
    """Of the folders with records. hidden: these folders."""
    for path in hidden:
        refuse_link("output.dir", path.absolute(), view.writable)
        real = Path(view.follow(path.absolute()).real)
        if not view.shows(str(real)):
            continue
        if real == workspace or real in workspace.parents:
            raise PolicyError(
                f"the run's records in {real} would be in reach of the tools in {workspace}",
                field="output.dir",
                hint="choose a folder of their own (--out)",
            )
        yield Mask(str(real), True, reason=MaskedFor.RECORDS)


def _masks_below(folder: Path, shown: Sequence[str], view: View) -> Iterator[Mask]:
    """Hide a folder that is not shown as a whole. shown: what of it is, such as folders of
    `$PATH`."""
    for path in (view.facts.prefix, view.facts.base_prefix, *view.facts.code):
        real = view.follow(path).real
        if is_inside(real, str(folder)):
            raise PolicyError(
                f"{folder} would hide {real}, which the sandbox itself runs from",
                field="hide",
                hint="name the folders in it that you mean",
            )
    # A folder that every sandbox has of its own, such as /tmp, stays usable.
    for name in shown if str(folder) in OWN_FOLDERS else (str(folder),):
        yield Mask(name, os.path.isdir(name))
