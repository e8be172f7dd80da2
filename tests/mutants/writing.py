"""Tools that write: the order of a turn, and what others write at the same time."""

from __future__ import annotations

from mutants.mutant import RUNTIME, SANDBOX, mutant

_GROUP = f"{RUNTIME}/run/call_group.py"
_GROUP_TEST = "runtime/run/test_call_group.py"
_SECOND = f"{SANDBOX}/inside/tools/second_file.py"
_IN_PLACE = f"{SANDBOX}/inside/tools/in_place.py"
_WHOLE = f"{SANDBOX}/inside/tools/whole_file.py"
_WHOLE_TEST = "sandbox/inside/test_whole_file.py"

MUTANTS = (
    mutant(
        "an exclusive call does not wait for those before it",
        _GROUP_TEST,
        _GROUP,
        "                if exclusive and going:\n                    break\n",
        "",
    ),
    mutant(
        "calls behind an exclusive one do not wait for it",
        _GROUP_TEST,
        _GROUP,
        "            while waiting and alone is None and len(going) < self._parallel:\n",
        "            while waiting and len(going) < self._parallel:\n",
    ),
    mutant(
        "a cancelled call stays in the queue",
        f"{_GROUP_TEST}::test_a_call_cancelled_while_it_waits_leaves_the_queue_at_once",
        _GROUP,
        "            self._home.call_soon(self._wake)\n        return True\n",
        "        return True\n",
    ),
    mutant(
        "what was replaced is not looked at",
        _WHOLE_TEST,
        _SECOND,
        "    if came == seen.inode and unchanged():\n",
        "    if came is not None:\n",
    ),
    mutant(
        "a program that has the file open is not noticed",
        _WHOLE_TEST,
        _SECOND,
        "            if leased is False:\n",
        "            if leased is None:\n",
    ),
    mutant(
        "an edit is not compared with what it replaces",
        _WHOLE_TEST,
        _SECOND,
        "            if not seen.is_unchanged(old) or not unchanged():\n"
        "                raise Changed\n",
        "",
    ),
    mutant(
        "hard links are parted",
        _WHOLE_TEST,
        _WHOLE,
        "    if seen.status.st_nlink > 1:\n",
        "    if seen.status.st_nlink > 99:\n",
    ),
    mutant(
        "a write in place that fails leaves a part",
        _WHOLE_TEST,
        _IN_PLACE,
        "            _restore(seen.fd, overwritten, before.st_size, error)\n",
        "            pass\n",
    ),
    mutant(
        "a workspace's modules come first",
        "sandbox/inside/test_invoke.py",
        f"{SANDBOX}/inside/worker/load.py",
        "    sys.path[:] = [*standard, *installed, *dict.fromkeys(last)]\n",
        "    sys.path[:] = [*dict.fromkeys(last), *standard, *installed]\n",
    ),
)
