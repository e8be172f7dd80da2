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

PUT_BACK = "protect: restored"
"""They succeed, and are undone when the call has ended."""
_SHOWN = "hide: missing"
_ONE_PROC = "names of processes"
_METADATA = "metadata of files outside"
WITHOUT_NAMESPACES = {
    "reading.arguments_in_proc": _ONE_PROC,
    "reading.ports_of_the_host": _ONE_PROC,
    "reading.unix_sockets_of_the_host": _ONE_PROC,
    "reading.sockets_by_a_helper": _ONE_PROC,
    "reading.hidden_file": _SHOWN,
    "reading.hidden_file_by_hard_link": _SHOWN,
    "reading.hidden_file_after_its_folder_moved": _SHOWN,
    "reading.hidden_file_by_root_of_a_process": _SHOWN,
    "reading.hidden_file_uncovered": _SHOWN,
    "view.mode_of_a_readable_file": _METADATA,
    "view.times_of_a_readable_file": _METADATA,
    "view.attribute_of_a_readable_file": _METADATA,
    "view.protected_file": PUT_BACK,
    "view.file_in_a_protected_folder": PUT_BACK,
    "view.parent_of_a_protected_folder": PUT_BACK,
    "view.protected_file_linked": PUT_BACK,
    "view.protected_file_exchanged": PUT_BACK,
}
"""What the plan for hosts without namespaces does not stop beside them. The reason is what `doctor`
says of it: the name of a line of what is left open, or a field and its level. A run that hides
something there is refused; here it is allowed to go on, so that it can be counted."""

SHARED_PROC: dict[str, str] = {}
"""What the plan with a copy of the starter's /proc does not stop beside them. The reasons: as
above."""

OPEN: dict[str, str] = {}
"""Work for the walls: these could be stopped."""
