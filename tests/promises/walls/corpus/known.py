"""Attempts that succeed all the same. Each stays in the corpus and is counted."""

from __future__ import annotations

NO_WALL = {
    "planting.new_nested_repository": (
        "a direct workspace takes new folders; the run lists the repository"
    ),
    "planting.hooks_where_there_were_none": (
        "what is not there cannot be bound; the run lists the hook"
    ),
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

_PROTECTED = "not protected by default"
_SETTINGS = "settings of git that run programs are not restored"
_MEMORY = "memory of the whole sandbox is not limited"

OPEN: dict[str, str] = {
    "bombs.memory_files": _MEMORY,
    "bombs.memory_of_many": _MEMORY,
    "bombs.shared_memory": _MEMORY,
    "bombs.shared_segments": _MEMORY,
    "planting.environment_of_a_folder": _PROTECTED,
    "planting.file_instead_of_repository": _PROTECTED,
    "planting.filter_of_content": _SETTINGS,
    "planting.folder_of_the_editor_exchanged": _PROTECTED,
    "planting.hook": _PROTECTED,
    "planting.hook_of_a_nested_repository": _PROTECTED,
    "planting.hooks_exchanged": _PROTECTED,
    "planting.included_settings": _SETTINGS,
    "planting.marks_for_an_overlay": "attributes of overlays are not removed",
    "planting.monitor": _SETTINGS,
    "planting.other_hooks": _SETTINGS,
    "planting.program_for_differences": _SETTINGS,
    "planting.program_for_signatures": _SETTINGS,
    "planting.program_for_ssh": _SETTINGS,
    "planting.repository_exchanged": _PROTECTED,
    "planting.settings_of_a_worktree": _SETTINGS,
    "planting.tasks_of_the_editor": _PROTECTED,
}
"""Work for the walls: these could be stopped."""
