"""The paths that a policy names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sandbox_agent_sandbox.errors import PolicyError
from sandbox_agent_sandbox.policy.paths import follow, is_inside_any
from sandbox_agent_sandbox.policy.view import KERNEL_FOLDERS


def workspace_folder(workspace: Path) -> Path:
    """The real path of the workspace. Raises PolicyError if it is not a folder."""
    cwd = resolve(workspace, "workspace")
    if not cwd.is_dir():
        raise PolicyError(f"{cwd} is not a folder", field="workspace", hint="name a folder")
    return cwd


def resolve(path: Path, field: str, writable: Sequence[str] = ()) -> Path:
    """The real path of a path of the policy. writable: the folders that tools can write."""
    other = "choose another folder" if field == "workspace" else "remove the entry"
    try:
        real = path.resolve(strict=True)
    except FileNotFoundError:
        raise PolicyError(
            f"{path} does not exist", field=field, hint=f"create it, or {other}"
        ) from None
    except (OSError, RuntimeError) as error:  # RuntimeError: links that lead to each other
        why = error.strerror if isinstance(error, OSError) else "its links lead to each other"
        raise PolicyError(f"{path} cannot be reached: {why}", field=field, hint=other) from None
    if is_inside_any(str(real), KERNEL_FOLDERS) or real == Path("/"):
        raise PolicyError(
            f"{real} cannot be shared: the sandbox has a /proc and a /dev of its own, and shows no"
            " folder of the kernel",
            field=field,
            hint=other,
        )
    followed = follow(str(path.absolute()), writable)
    if followed.left is not None:
        raise PolicyError(
            f"{path} is, or lies below, a link in {followed.left}, which tools can write; it leads"
            f" to {real}",
            field=field,
            hint=f"name {real} itself, if that is meant",
        )
    return real


def refuse_link(field: str, path: Path, writable: Sequence[str]) -> None:
    """Refuse a path with a link that tools can replace: a later run, or `verify`, would find
    something else at the path."""
    followed = follow(str(path), writable)
    link = next((one for one in followed.links if is_inside_any(one, writable)), None)
    if link is not None:
        raise PolicyError(
            f"{path} leads through the link {link}, which tools can replace",
            field=field,
            hint="remove the link" if followed.loop else f"name {followed.real} itself",
        )
