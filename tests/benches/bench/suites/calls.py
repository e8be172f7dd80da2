"""One call: to its result, to the proof that its processes are dead, and many at the same time."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Mapping
from time import monotonic

from bench.asked import PROGRAMS, Asked, program
from bench.errors import CannotMeasure
from bench.peers import POOLS, bubblewrap_command
from bench.products import Product, run
from bench.results import WORSE, at_least, at_most, ratio_at_least, ratio_at_most
from bench.rounds import Figures, Taken
from bench.samples import Samples
from bench.setting import Setting

PAUSE = 0.015
"""Seconds between two calls, as a fast model leaves them."""
AT_ONCE = 8
MIB = 1 << 20
POOL = "ProcessPoolExecutor"
KINDS = {"built-in": "built-in tool (list_files)", "user": "user function", "shell": "shell"}
FIRST = "584eb71"
LEAST = {"built-in": 1.5, "user": 1.3, "shell": 1.3}
"""Of the calls a second of the commit FIRST. Beside others they may be 5 % fewer."""


def measure(setting: Setting) -> None:
    with contextlib.ExitStack() as stack:
        ours = {one.name: (one, _asked(stack, one)) for one in setting.products}
        pools = _pools(stack, setting)
        _paced(setting, ours, pools)
        _saturated(setting, ours)
        _session(setting, ours)
    _large(setting)


def _asked(stack: contextlib.ExitStack, product: Product) -> Asked:
    folder = stack.enter_context(product.new_folder())
    return stack.enter_context(product.asked("calls.py", str(folder)))


def _pools(stack: contextlib.ExitStack, setting: Setting) -> dict[str, Asked]:
    here = setting.here
    folder = stack.enter_context(here.new_folder())
    found = {}
    interpreters = {POOL: here.python}
    interpreters |= {name: peer.path for name in POOLS if (peer := setting.peers.get(name))}
    for name, python in interpreters.items():
        argv = [python, str(PROGRAMS / "pools.py"), name, str(folder / "work")]
        environ = {**here.environ(), "PATH": "/usr/bin:/bin"}
        found[name] = stack.enter_context(program(name, argv, env=environ, cwd=folder))
    return found


Ours = Mapping[str, tuple[Product, Asked]]


def _paced(setting: Setting, ours: Ours, pools: Mapping[str, Asked]) -> None:
    count = setting.size(20, 3)

    def call(asked: Asked) -> Callable[[], Figures]:
        def all_kinds() -> Figures:
            found = {}
            for kind in KINDS:
                for figure, seconds in asked.ask("paced", kind, count, PAUSE).items():
                    found[f"{kind} {figure}"] = seconds
            return found

        return all_kinds

    def pool(asked: Asked) -> Callable[[], Figures]:
        return lambda: {"result": asked.ask("paced", count, PAUSE)}

    contestants = {name: call(asked) for name, (_, asked) in ours.items()}
    contestants |= {name: pool(asked) for name, asked in pools.items()}
    taken = setting.interleaved("calls", contestants, setting.times(15))
    _report_paced(setting, taken, list(pools))


def _report_paced(setting: Setting, taken: Taken, pools: list[str]) -> None:
    sheet, here = setting.sheet, taken[setting.here.name]
    for name in pools:
        if name in taken:
            sheet.take(f"{name}: call to result", taken[name]["result"], "ms")
    base = taken[POOL]["result"].p50 if POOL in taken else None
    targets = {"user": at_most(1.2), "shell": at_most(2.0), "built-in": ratio_at_most(1.5)}
    for kind, name in KINDS.items():
        sheet.take(
            f"{name}: call to result",
            here[f"{kind} result"],
            "ms",
            baseline=base,
            p50=targets[kind],
            p99=at_most(1.0) if kind == "built-in" else None,
        )
    for kind, name in KINDS.items():
        first = kind == "built-in"
        sheet.take(
            f"{name}: result to proven dead",
            here[f"{kind} dead"],
            "ms",
            p50=at_most(1.0) if first else None,
            p99=at_most(4.0) if first else None,
        )
    names = {f"{kind} result": f"{name}: call to result" for kind, name in KINDS.items()}
    names |= {f"{kind} dead": f"{name}: result to proven dead" for kind, name in KINDS.items()}
    setting.compare(taken, names, "ms")


# --- many at the same time ------------------------------------------------------------------------


def _saturated(setting: Setting, ours: Ours) -> None:
    count = setting.size(120, 8)
    taken: dict[str, dict[str, Samples]] = {name: {} for name in ours}
    walled = "bubblewrap and python"
    for kind in KINDS:  # one kind after the other: two kinds do not fill each other's caches

        def ask(asked: Asked, kind: str = kind) -> Callable[[], Figures]:
            return lambda: {kind: asked.ask("saturated", kind, count, AT_ONCE)}

        contestants = {name: ask(asked) for name, (_, asked) in ours.items()}
        if kind == "built-in" and (peer := setting.peers.get("bubblewrap")):
            contestants[walled] = _walled(setting, peer.path, count)
        rounds = setting.times(6)
        for name, found in setting.interleaved(f"saturated, {kind}", contestants, rounds).items():
            taken.setdefault(name, {}).update(found)
    sheet, here = setting.sheet, taken[setting.here.name]
    baseline = taken[walled]["built-in"].p50 if taken.get(walled) else None
    if baseline is not None:
        sheet.add(f"saturated, {walled}", baseline, "calls/s")
    for kind, name in KINDS.items():
        against = baseline if kind == "built-in" else None
        sheet.add(
            f"saturated, {name}",
            here[kind].p50,
            "calls/s",
            baseline=against,
            target=None if against is None else ratio_at_least(2.0),
        )
    names = {kind: f"saturated, {name}" for kind, name in KINDS.items()}
    is_first = setting.there is not None and setting.there.commit.startswith(FIRST)
    least = LEAST if is_first else dict.fromkeys(KINDS, round(1 / WORSE, 3))
    setting.compare(taken, names, "calls/s", least)


def _walled(setting: Setting, bwrap: str, count: int) -> Callable[[], Figures]:
    """`bwrap … python -c pass`, so many at once as our calls."""
    here = setting.here

    def measured() -> Figures:
        folder = here.folder / "work"
        argv = bubblewrap_command(bwrap, folder, [here.python, "-c", "pass"])
        left, lock, failures = iter(range(count)), threading.Lock(), []

        def some() -> None:
            while True:
                with lock:
                    if next(left, None) is None:
                        return
                try:
                    run("bubblewrap", argv, env=here.environ(), cwd=folder)
                except CannotMeasure as error:
                    failures.append(error)
                    return

        threads = [threading.Thread(target=some) for _ in range(AT_ONCE)]
        begin = monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]
        return {"built-in": [count / (monotonic() - begin)]}

    return measured


# --- requests to a session, and large results -----------------------------------------------------


def _session(setting: Setting, ours: Ours) -> None:
    count = setting.size(300, 10)

    def ask(asked: Asked) -> Callable[[], Figures]:
        return lambda: {"request": asked.ask("session", count)}

    contestants = {name: ask(asked) for name, (_, asked) in ours.items()}
    taken = setting.interleaved("session", contestants, setting.times(6))
    found = taken[setting.here.name]["request"]
    setting.sheet.take("session request (as to the model process)", found, "µs", p50=at_most(100))
    setting.compare(taken, {"request": "session request"}, "µs")


def _large(setting: Setting) -> None:
    """A large result beside memcpy into fresh memory, and one that is too large."""
    size, too_large = setting.size((64 << 20, 1 << 30), (4 << 20, 257 << 20))

    def once(product: Product) -> Callable[[], Figures]:
        def measured() -> Figures:
            with product.new_folder() as folder:
                out = product.program("large.py", folder, "allowed", size).out
                return json.loads(out)  # type: ignore[no-any-return]

        return measured

    contestants = {one.name: once(one) for one in setting.products}
    taken = setting.interleaved("large results", contestants, setting.times(5))
    sheet, found = setting.sheet, taken[setting.here.name]
    copied = size / found["copied"].p50 / MIB
    sheet.add("memcpy into fresh memory", copied, "MiB/s")
    names = {
        "returned": f"a result of {size >> 20} MiB",
        "printed": f"standard output of {size >> 20} MiB",
    }
    for figure, name in names.items():
        came = found[f"{figure} bytes"].p50
        rate = size / found[figure].p50 / MIB
        if came < size:
            sheet.note(f"{name}: {came:.0f} bytes of {size} came, which counts as none")
            rate = 0.0
        target = ratio_at_least(0.35) if figure == "returned" else None
        sheet.add(name, rate, "MiB/s", baseline=copied, target=target)
    for one in taken.values():  # what did not come as a whole took no time to come
        for figure in list(names):
            if one[f"{figure} bytes"].p50 < size:
                names.pop(figure)
    setting.compare(taken, names, "ms")
    with setting.here.new_folder() as folder:
        out = setting.here.program("large.py", folder, "refused", too_large).out
    refusal = json.loads(out)
    name = f"a result of {too_large >> 20} MiB is refused with a hint (1: yes)"
    sheet.add(name, float(refusal["refused"]), "", target=at_least(1))
    if not refusal["refused"]:
        sheet.note(f"{name}: outcome {refusal['outcome']}, {refusal['came']} bytes of it came")
