"""A glob is understood as people write it, or refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from sandbox_agent_sandbox.inside.tools.globs import MAX_ALTERNATIVES, glob_matcher
from sandbox_agent_sandbox.inside.worker.tool_result import ToolError

NAMES = [
    "!odd.py",
    "README.md",
    "[x].txt",
    "a.py",
    "build/lib/a.o",
    "sub/build/b.o",
    "src/b.py",
    "src/deep/er/c.py",
    "src/ui/a.ts",
    "src/ui/b.tsx",
    "src/{id}.ts",
    "test/deep/d.py",
    "x,y.c",
    "x-1.c",
    "x_(copy).c",
]


def matched(pattern: str, top: str = ".") -> list[str]:
    glob = glob_matcher(pattern, top)
    return [name for name in NAMES if glob.fullmatch(name)]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*.md", ["README.md"]),
        ("b.*", ["sub/build/b.o", "src/b.py", "src/ui/b.tsx"]),
        ("src/*.py", ["src/b.py"]),
        ("./src/**/*.py", ["src/b.py", "src/deep/er/c.py"]),
        ("././src//b.py", ["src/b.py"]),
        ("src/./b.py", ["src/b.py"]),
        ("**/deep/**", ["src/deep/er/c.py", "test/deep/d.py"]),
        ("**/er/c.py", ["src/deep/er/c.py"]),
        ("src/**/er/*", ["src/deep/er/c.py"]),
        ("src/**", [name for name in NAMES if name.startswith("src/")]),
        ("[!a].p?", ["src/b.py", "src/deep/er/c.py", "test/deep/d.py"]),
        ("[^a-c].py", ["test/deep/d.py"]),
        ("[[]x].txt", ["[x].txt"]),
        ("[]x[]*", ["[x].txt", "x,y.c", "x-1.c", "x_(copy).c"]),
        ("x[!-_]*", ["x,y.c"]),
        ("a.py[", []),
        ("*.PY", []),
        ("*.{ts,tsx}", ["src/ui/a.ts", "src/ui/b.tsx", "src/{id}.ts"]),
        ("*.t{s,sx}", ["src/ui/a.ts", "src/ui/b.tsx", "src/{id}.ts"]),
        ("b.ts{,x}", ["src/ui/b.tsx"]),
        ("{src,test}/**/*.py", ["src/b.py", "src/deep/er/c.py", "test/deep/d.py"]),
        ("{src/{b,x},test/**/d}.py", ["src/b.py", "test/deep/d.py"]),
        ("src/{ui/a,b}.*", ["src/b.py", "src/ui/a.ts"]),
        ("{a.py,src/b.py}", ["a.py", "src/b.py"]),
        ("{**/er,x}/c.py", ["src/deep/er/c.py"]),
        ("x{\\,,-}*.c", ["x,y.c", "x-1.c"]),
        ("\\{id\\}.*", ["src/{id}.ts"]),
        ("[{]id[}].ts", ["src/{id}.ts"]),
        ("x[,{]y.c", ["x,y.c"]),
        ("x,y.c", ["x,y.c"]),
        ("\\!odd.py", ["!odd.py"]),
        ("*(copy).c", ["x_(copy).c"]),
        ("build/", ["build/lib/a.o", "sub/build/b.o"]),
        ("src/ui/", ["src/ui/a.ts", "src/ui/b.tsx"]),
        ("./build/lib/", ["build/lib/a.o"]),
    ],
)
def test_a_glob_means_what_it_means_elsewhere(pattern: str, names: list[str]) -> None:
    assert matched(pattern) == names


def test_an_absolute_glob_begins_with_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert matched(f"{tmp_path}/src/*.py") == ["src/b.py"]
    assert matched("~/src/*.py") == ["src/b.py"]
    assert matched("/usr/src/*.py", "/usr") == ["src/b.py"]
    assert matched(f"{tmp_path}/*.py") == ["!odd.py", "a.py"]
    with pytest.raises(ToolError, match=r"does not begin with .*name the folder in `path`"):
        matched("/usr/src/*.py")
    with pytest.raises(ToolError, match="does not begin with"):
        matched(f"{tmp_path}-other/a.py")


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("", "empty"),
        ("./", "empty"),
        ("[z-a]", "cannot be used"),
        ("*.{ts,tsx", "no partner"),
        ("*.ts,tsx}", "no partner"),
        ("{a,{b}", "no partner"),
        ("{id}.ts", "no comma"),
        ("f{1..3}.py", "no comma"),
        ("../*.py", r"`\.\.`"),
        ("src/../a.py", r"`\.\.`"),
        ("!*.py", "begins with `!`"),
        ("@(a|b).py", "is not understood"),
        ("!(a).py", "begins with `!`"),
        ("src/!(a).py", "is not understood"),
        ("+(a).py", "is not understood"),
        ("[[:digit:]].py", "named class"),
        ("{0,1}" * 11, f"more than {MAX_ALTERNATIVES} patterns"),
    ],
)
def test_what_is_not_understood_is_refused(pattern: str, why: str) -> None:
    with pytest.raises(ToolError, match=why):
        matched(pattern)
