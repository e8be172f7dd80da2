"""The pictures of the bench."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from bench import plots
from bench.results import Result

SVG = "{http://www.w3.org/2000/svg}"


def results(*names: tuple[str, str, float]) -> list[plots.Data]:
    return [Result(suite, name, value, "ms").data() for suite, name, value in names]


def test_bars_are_as_long_as_their_figures_and_say_them(tmp_path: Path) -> None:
    found = results(
        ("exec", "exec -- /bin/true, p50", 50.0),
        ("exec", "exec -- /bin/true, p99", 80.0),
        ("exec", "bubblewrap: true <&>, p50", 5.0),
    )
    [path] = plots.draw(found, tmp_path / "new")
    assert path.name == "commands.svg"
    root = ElementTree.fromstring(path.read_text())
    bars = [one for one in root.iter(f"{SVG}rect") if one.get("class") != "ground"]
    assert [one.get("class") for one in bars] == ["ours", "others"]
    ours, others = (float(one.get("width", "")) for one in bars)
    assert abs(ours - 10 * others) < 1
    texts = [one.text for one in root.iter(f"{SVG}text")]
    assert {"bubblewrap: true <&>", "50.0 ms", "5.00 ms"} <= set(texts)
    width = float(root.get("width", ""))
    assert all(float(one.get("x", "0")) < width for one in root.iter(f"{SVG}text"))


def test_it_can_be_read_in_the_light_and_in_the_dark(tmp_path: Path) -> None:
    found = results(("memory", "PSS: agent, idle", 30.0), ("memory", "PSS: spawner", 7.0))
    [path] = plots.draw(found, tmp_path)
    text = path.read_text()
    assert "prefers-color-scheme: dark" in text
    assert 'class="ground"' in text


def test_without_figures_nothing_is_drawn(tmp_path: Path) -> None:
    assert plots.draw([], tmp_path) == []
    assert plots.draw(results(("exec", "exec -- /bin/true, p50", 50.0)), tmp_path) == []
