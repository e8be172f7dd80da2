"""Makes task files that people would never write, the same ones for the same number."""

from __future__ import annotations

import random
from dataclasses import dataclass

_TYPICAL = {
    "version": ["1"],
    "name": ["demo", "a-b.c"],
    "prompt": ['"Do it."', "Do it.", "|\n  Do\n  it.", '"${x}"', "Fix #42"],
    "prompt_file": ["prompt.md"],
    "extends": ["base.yaml"],
    "model": [
        "scripted:steps.yaml",
        "{name: 'scripted:steps.yaml'}",
        "openai/m",
        "{name: openai/m, api_base: 'http://127.0.0.1:9/v1', timeout: 5s, retries: 0}",
        "{name: openai/m, stream: false, params: {max_tokens: 5, temperature: 1e-3}}",
        "replay:last",
    ],
    "workspace": ["{path: .}", "{path: work}", "{mode: direct}"],
    "tools": ["[shell]", "[shell, files]", "[{shell: {timeout: 5s}}]", "['json:loads']", "[]"],
    "sandbox": [
        "{network: none}",
        "{network: host, read: [steps.yaml], hide: [base.yaml]}",
        "{protect: [work], write: [work]}",
        "{env: {pass: [LANG], set: {A: b}}}",
        "{limits: {timeout: 5s, memory: 64MiB, processes: 1k, tmp: 2MiB, output: 2k}}",
    ],
    "interrupt": ["{grace: 500ms, term: 0}", "{grace: 1h}"],
    "budgets": ["{turns: 4, tokens: 200k, cost_usd: 0.5, time: 1h30m, repeats: null}"],
    "parallel": ["1", "64"],
    "verify": ["['true']", "[\n  make # all\n]"],
    "output": ["{dir: runs}", "{dir: null}"],
}
"""Fields, and values as they are written."""

_ODD = [
    "", "~", "null", "true", "on", "no", "0", "-0", "-1", "1e3", "1e400", "-1e400", "9" * 400,
    "9" * 5000, "18446744073709551616", ".inf", "-.inf", ".nan", "0123", "0o17", "0x1f", "0b1",
    "1_000", "12:30:45", "2024-01-01", "2024-01-01T00:00:00Z", "=", "<<", "5s", "5 parsecs",
    "1h1h", "64k", "1GiB", "1.5", "1.5k", "0.5ms", "1m1s", "500", '"5"', "'5'", '""', "' '",
    '"\\0"', '"\\ud83d"', '"\\ud83d\\ude00"', '"\\UFFFFFFFF"', '"\\x"', '"\\u0007"', "\U0001f600",
    "\u00e9", "\u2028", "\ufeff", "\x85", "${x}", "'${x}'", "'${y}'", "'${}'", "'${'", "'$${'",
    "{}", "[]", "[[]]", "[null]", "[{}]", "{a: b}", "{a: {b: {c: d}}}", "{1: 2}", "{true: 1}",
    "{? [a] : b}", "{a: 1, a: 2}", "&a [*a]", "&a {a: *a}", "*a", "&b c", "{<<: [{a: 1}, {b: 2}]}",
    "{<<: 5}", "!!python/object/apply:os.system [x]", "!!binary aGk=", "!!set {a}", "!!str 5",
    "!!int x", "!x y", "a: b", "a # b", "a #b", "@x", "%x", "`x`", "- x", "? x", "|", ">", "|2\n x",
    "'", '"', "[", "{", "]", "}", ",", "#", "\t", "x" * 300, "x" * 5000, "..", "/", "~", "~/x",
    "~nobody-of-this-name/x", "/proc/self/mem", "/dev/null", "/dev/full", "nowhere", "work",
    "steps.yaml", "scripted:", "'scripted: '", "scripted:nowhere", "scripted:/", "scripted:~",
    "'replay:'", "replay:/", "replay:x", "openai/", "/", "exec", "anthropic/m", "shell", "files",
    "python", "mcp", "os:system", "a.b:c", ":", "a:", "http://u:p@h", "'http://[::1'", "http://h:0",
    "'http://h:99999'", "'http://h/?k=v'", "api_key", "sk-aaaaaaaaaaaaaaaaaaaaa", "A=B", "'A\\0'",
    "[" * 80 + "]" * 80, "{a: " * 70 + "1" + "}" * 70, "[shell, shell]", "[[shell]]", "[5]",
    "[{shell: {timeout: nope}}]", "{name: x}", "{name: [x]}", "{path: [x]}", "{set: {A: 5}}",
]  # fmt: skip
"""Values as they are written, of any kind."""

_INNER = [
    "model.name", "model.api_base", "model.timeout", "model.retries", "model.stream",
    "model.params", "model.check", "workspace.path", "workspace.mode", "sandbox.read",
    "sandbox.write",
    "sandbox.hide", "sandbox.protect", "sandbox.network", "sandbox.env", "sandbox.env.pass",
    "sandbox.env.set", "sandbox.env.set.A", "sandbox.limits", "sandbox.limits.timeout",
    "sandbox.limits.memory", "sandbox.limits.cpu_time", "sandbox.limits.output", "interrupt.grace",
    "interrupt.term", "budgets.turns", "budgets.time", "budgets.tokens", "budgets.cost_usd",
    "budgets.repeats", "output.dir", "output.junit", "approval", "tools.0", "tools.5", "verify.0",
    "model.params.n", "model.params.api_key", "sandbox.netwrok", "x.y.z", "extends", "0", "..",
]  # fmt: skip

_TEXT = ["\t", "\r\n", "\0", "\ufeff", "\x07", "\n---\n", "\n...\n", "%YAML 1.2\n", "#", "'", '"']
_BYTES = [b"\xff", b"\xc3", b"\xef\xbb\xbf", b"\xed\xa0\xbd", b"\xf4\x90\x80\x80"]

_FLAGS = [
    "--set", "--set", "--set", "--var", "--model", "--prompt", "--grace", "--timeout",
    "--workspace", "--out", "--check",
]  # fmt: skip

STEPS = b"- calls: [{shell: {command: ls}}]\n- final: Done.\n"
BASE = b"prompt: From the base.\nbudgets: {turns: 3}\nmodel: {name: 'scripted:steps.yaml'}\n"


@dataclass(frozen=True)
class Case:
    """Files by their names, and arguments of `validate`."""

    files: dict[str, bytes]
    argv: list[str]


def make(number: int) -> Case:
    rng = random.Random(number)
    files = {"task.yaml": _task(rng), "steps.yaml": STEPS, "base.yaml": BASE, "prompt.md": b"Go."}
    if rng.random() < 0.2:
        files["steps.yaml"] = _steps(rng)
    if rng.random() < 0.1:
        files["base.yaml"] = _task(rng)
    return Case(files, _arguments(rng))


def _task(rng: random.Random) -> bytes:
    names = [name for name in _TYPICAL if rng.random() < 0.3]
    fields = dict.fromkeys(["version", "prompt", "model", *names])
    lines = [f"{name}: {_value(rng, rng.choice(_TYPICAL[name]), 0.07)}" for name in fields]
    if rng.random() < 0.2:
        path = rng.choice(_INNER).split(".")
        lines.append(": {".join(path) + f": {rng.choice(_ODD)}" + "}" * (len(path) - 1))
    if rng.random() < 0.2:
        rng.shuffle(lines)
    return _damaged(rng, "\n".join(lines) + "\n", 0.15)


def _value(rng: random.Random, usual: str, odds: float) -> str:
    return rng.choice(_ODD) if rng.random() < odds else usual


def _steps(rng: random.Random) -> bytes:
    lines = []
    for _ in range(rng.randrange(4)):
        key = rng.choice(["say", "calls", "final", "expect", "other"])
        usual = {"calls": "[{shell: {command: ls}}]", "expect": "['a(']"}.get(key, "words")
        lines.append(f"- {key}: {_value(rng, usual, 0.4)}")
    return _damaged(rng, "\n".join(lines) + "\n", 0.2)


def _damaged(rng: random.Random, text: str, odds: float) -> bytes:
    """The text with something done to it that no editor does."""
    if rng.random() >= odds:
        return text.encode("utf-8", "surrogatepass")
    at = rng.randrange(len(text) + 1)
    kind = rng.randrange(5)
    if kind == 0:
        return (text[:at] + rng.choice(_TEXT) + text[at:]).encode()
    if kind == 1:
        return text[:at].encode()
    if kind == 2:
        return (text[:at] + text[at + 1 :]).encode()
    if kind == 3:
        lines = text.splitlines(keepends=True)
        lines.insert(rng.randrange(len(lines) + 1), rng.choice(lines))
        return "".join(lines).encode()
    raw = text.encode()
    at = min(at, len(raw))
    return raw[:at] + rng.choice(_BYTES) + raw[at:]


def _arguments(rng: random.Random) -> list[str]:
    argv = ["task.yaml"] if rng.random() < 0.9 else []
    for _ in range(rng.choice([0, 0, 0, 0, 1, 2])):
        odd = rng.choice(_ODD).replace("\0", "")
        flag = rng.choice(_FLAGS)
        if flag == "--set":
            argv += [flag, f"{rng.choice(_INNER)}={odd}"]
        elif flag == "--var":
            argv += [flag, f"x={odd}"]
        else:
            argv += [flag] if flag == "--check" else [f"{flag}={odd}"]
    return argv
