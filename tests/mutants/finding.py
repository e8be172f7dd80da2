"""Wrong changes of what lists, reads and removes runs."""

from __future__ import annotations

from mutants.mutant import RUNTIME, mutant

_REMOVING = f"{RUNTIME}/cli/verbs/runs/removing.py"
_SUMMARY = f"{RUNTIME}/reports/runs/summary.py"

MUTANTS = (
    mutant(
        "a run that is going is removed",
        "cli/test_removing.py",
        _REMOVING,
        "        _lock(journal, folder)\n",
        "",
    ),
    mutant(
        "a link in place of a run folder is followed",
        "cli/test_removing.py",
        _REMOVING,
        "    if folder.is_symlink():\n",
        "    if False:\n",
    ),
    mutant(
        "other people's files in a run folder are no reason to keep it",
        "cli/test_removing.py",
        _REMOVING,
        "            names = sorted(os.listdir(inner))\n",
        "            names = []\n",
    ),
    mutant(
        "the lock is not looked at: a run that is going is lost",
        "runtime/reports/runs/test_summary.py",
        _SUMMARY,
        "    held = in_use(journal, 0.0)\n",
        "    held = False\n",
    ),
)
