"""What the walls cost: the working tree beside another commit.

The figures are differences. Ratios would say nothing here: a simple system call takes 100 ns, and a
filter of system calls adds 30 ns to it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import NamedTuple

from bench.products import Product
from bench.results import SCALES, Target
from bench.rounds import Figures
from bench.setting import Setting

CALLS = 40
"""Of one sandbox."""
COMMANDS = 4
"""In a round."""


class Bound(NamedTuple):
    """unit: of what is printed. most: seconds that a figure may be more than the other's."""

    unit: str
    most: float


BOUNDS = {
    "a call in an open sandbox": Bound("ms", 0.5e-3),
    "exec -- /bin/true": Bound("ms", 0.5e-3),
    "a simple system call (getppid)": Bound("ns", 40e-9),
    "open and close a file": Bound("ns", 1.5e-6),
}


def measure(setting: Setting) -> None:
    there = setting.there
    assert there is not None, "the command line wants --against for this suite"
    calls, commands = setting.size((CALLS, COMMANDS), (4, 1))
    contestants = {one.name: _figures(one, calls, commands) for one in setting.products}
    taken = setting.interleaved("walls", contestants, setting.times(25))
    if there.name not in taken:
        return
    for name, (unit, most) in BOUNDS.items():
        here, other = taken[setting.here.name][name], taken[there.name][name]
        more, noise = here.more_than(other)
        scale = SCALES[unit]
        setting.sheet.add(name, here.p50 * scale, unit, baseline=other.p50 * scale)
        # Over its bound only by more than noise explains.
        target = Target(most * scale, noise=2 * noise * scale)
        setting.sheet.add(f"{name}: more than at {there.name}", more * scale, unit, target=target)


def _figures(one: Product, calls: int, commands: int) -> Callable[[], Figures]:
    call, execution, simple, opening = BOUNDS

    def measured() -> Figures:
        with one.new_folder() as folder:
            system_call, opened = json.loads(one.program("walls.py", "system_calls", folder, 1).out)
        with one.new_folder() as folder, one.asked("calls.py", str(folder)) as asked:
            asked.ask("paced", "shell", 1, 0.0)
            found = asked.ask("paced", "shell", calls, 0.0)
            each = [sum(both) for both in zip(found["result"], found["dead"], strict=True)]
        with one.new_folder() as folder:
            argv = [one.agent, "exec", "--out", str(folder), "--", "/bin/true"]
            walls = [one.run(argv).wall for _ in range(commands)]
        # Of many the fast ones: what else the machine does only makes one slower.
        return {
            call: [sorted(each)[len(each) // 10]],
            execution: [min(walls)],
            simple: [system_call],
            opening: [opened],
        }

    return measured
