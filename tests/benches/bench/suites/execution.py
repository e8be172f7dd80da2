"""`sandbox-agent exec -- /bin/true`, beside a bare Python and other sandboxes for commands."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bench.ending import temporary_folder
from bench.peers import bubblewrap_command
from bench.products import Product, run
from bench.results import at_most, ratio_at_most
from bench.rounds import Figures
from bench.setting import Setting

BARE = "python -c pass"
OURS = "exec -- /bin/true"
TRUE = "/bin/true"


def measure(setting: Setting) -> None:
    here, sheet = setting.here, setting.sheet
    count = setting.size(3, 1)
    contestants = {one.name: _ours(one, count) for one in setting.products}
    contestants |= {
        TRUE: _command(setting, TRUE, [TRUE], count),
        BARE: _command(setting, BARE, [here.python, "-c", "pass"], count),
    }
    # codex wants a home that is not below /tmp.
    with temporary_folder("/var/tmp") as homes:
        for name, argv, environ in _peers(setting, homes):
            contestants[name] = _command(setting, name, argv, count, environ)
        taken = setting.interleaved("exec", contestants, setting.times(20))
    bare = taken[BARE]["wall"].p50
    for name in contestants:
        if name in taken and name not in {one.name for one in setting.products}:
            baseline = None if name in (TRUE, BARE) else bare
            sheet.take(name, taken[name]["wall"], "ms", baseline=baseline)
    mine = taken[here.name]
    sheet.take(OURS, mine["wall"], "ms", baseline=bare, p50=ratio_at_most(9))
    second = mine["wall"].p50 * 1e3
    name = f"{OURS}, the second goal"
    sheet.add(f"{name}, ratio", second, "ms", baseline=bare * 1e3, target=ratio_at_most(7.5))
    sheet.add(f"{name}, time", second, "ms", target=at_most(55))
    cpu = taken[BARE]["cpu"].p50
    sheet.take(f"{OURS}: processor time", mine["cpu"], "ms", baseline=cpu)
    setting.compare(taken, {"wall": OURS, "cpu": f"{OURS}: processor time"}, "ms")


def _ours(product: Product, count: int) -> Callable[[], Figures]:
    def measured() -> Figures:
        with product.new_folder() as folder:
            argv = [product.agent, "exec", "--out", str(folder), "--", TRUE]
            costs = [product.run(argv) for _ in range(count)]
            return {"wall": [one.wall for one in costs], "cpu": [one.cpu for one in costs]}

    return measured


def _command(
    setting: Setting,
    name: str,
    argv: Sequence[str],
    count: int,
    more: Mapping[str, str] | None = None,
) -> Callable[[], Figures]:
    here = setting.here
    environ = {**here.environ(), **(more or {})}

    def measured() -> Figures:
        work = here.folder / "work"
        costs = [run(name, argv, env=environ, cwd=work) for _ in range(count)]
        return {"wall": [one.wall for one in costs], "cpu": [one.cpu for one in costs]}

    return measured


def _peers(setting: Setting, homes: Path) -> list[tuple[str, list[str], Mapping[str, str]]]:
    """Those that are there: names, commands and variables."""
    work = setting.here.folder / "work"
    found: list[tuple[str, list[str], Mapping[str, str]]] = []
    if bwrap := setting.peers.get("bubblewrap"):
        for argv in ([TRUE], [setting.here.python, "-c", "pass"]):
            words = bubblewrap_command(bwrap.path, work, argv)
            name = " ".join(["bubblewrap:", Path(argv[0]).name, *argv[1:]])
            found.append((name, words, bwrap.environ))
    if codex := setting.peers.get("codex"):
        words = [codex.path, "sandbox", "-c", 'sandbox_mode="workspace-write"', "--", TRUE]
        found.append(("codex: true", words, {**codex.environ, "CODEX_HOME": str(homes)}))
    if runtime := setting.peers.get("sandbox-runtime"):
        settings = {
            "network": {"allowedDomains": [], "deniedDomains": []},
            "filesystem": {"denyRead": [], "allowWrite": [str(work)], "denyWrite": []},
        }
        path = homes / "srt.json"
        path.write_text(json.dumps(settings))
        words = [runtime.path, "--settings", str(path), TRUE]
        found.append(("sandbox-runtime: true", words, runtime.environ))
    return found
