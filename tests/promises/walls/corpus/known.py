"""Attempts that succeed all the same. Each stays in the corpus and is counted."""

from __future__ import annotations

NO_WALL = {
    "planting.new_nested_repository": (
        "a direct workspace takes new folders; the run lists the repository"
    ),
    "planting.new_bare_repository": "the same",
    "planting.hooks_where_there_were_none": (
        "what is not there cannot be bound; the run lists the hook"
    ),
    "view.protected_file_by_its_other_name": (
        "a file with two names is one file; to find the other name, all of the disk must be read"
    ),
    "view.readable_file_by_its_other_name": "the same",
    "view.lock_of_a_readable_file": (
        "flock(2) needs no right to write, and the kernel has no way to refuse it for some files"
    ),
    "bombs.disk": (
        "the workspace is on the user's disk; without a quota, the calls are ended only soon after"
    ),
    "bombs.memory_of_pipes": (
        "for an ordinary user; the kernel counts pipe buffers for a user, in whatever namespace"
    ),
}
"""No wall can stop these in a direct workspace, or for an ordinary user."""

OPEN: dict[str, str] = {}
"""Work for the walls: these could be stopped."""
