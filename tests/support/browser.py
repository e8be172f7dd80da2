"""A headless Chromium, driven over a pipe by the Chrome DevTools Protocol: no driver, no server.

https://chromedevtools.github.io/devtools-protocol/: each message is JSON, and a null byte ends it.
Chromium reads them from descriptor 3 and writes to descriptor 4 (`--remote-debugging-pipe`).
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATIENCE = 60.0
"""Seconds for an answer. A machine with other work is slow."""

_FLAGS = (
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--no-first-run",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--remote-debugging-pipe",
)


def executable() -> str | None:
    """The path of a Chromium; None if there is none."""
    named = os.environ.get("CHROMIUM")
    return named or next((path for name in NAMES if (path := shutil.which(name))), None)


_PLACE_PIPES = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.dup2(int(sys.argv[2]), 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""Puts the pipes where Chromium looks for them."""


def _pipe() -> tuple[int, int]:
    """Neither end is 3 or 4, where one would be in the way of the other."""
    ends = os.pipe()
    read, write = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends)
    for end in ends:
        os.close(end)
    return read, write


class Closed(Exception):
    """The browser ended."""


class Page:
    """An open page, and what went wrong in it.

    problems: of the console, of scripts, and of the Content-Security-Policy. requests: the
    addresses of what was loaded, but for the page itself and data URLs.
    """

    def __init__(self, browser: _Pipe, session: str) -> None:
        self._browser = browser
        self._session = session
        self.problems: list[str] = []
        self.requests: list[str] = []

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The answer to a command."""
        return self._browser.ask(method, parameters, self._session, self._hear)

    def open(self, url: str, width: int, *, dark: bool = False, height: int = 900) -> float:
        """Load a page, `width` pixels wide. The answer: seconds until all of it was there."""
        self.resize(width, height)
        self.look(dark=dark)
        self.problems.clear()
        self.requests.clear()
        began = time.monotonic()
        self.ask("Page.navigate", url=url)
        self._browser.until("Page.loadEventFired", self._session, self._hear)
        self.paint()
        return time.monotonic() - began

    def resize(self, width: int, height: int = 900) -> None:
        """Change the size of the window."""
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def look(self, *, dark: bool = False, medium: str = "") -> None:
        """Prefer light or dark, and a medium such as `print`."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", media=medium, features=[scheme])
        self.paint()

    def paint(self) -> None:
        """Wait for a frame: only then is it settled what is visible."""
        self.evaluate("new Promise(done => requestAnimationFrame(() => setTimeout(done)))")

    def evaluate(self, expression: str) -> Any:
        """The value of an expression of ours. The page's policy does not bind the debugger."""
        answer = self.ask(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def press(self, key: str, code: int, text: str = "") -> None:
        """A key, down and up."""
        common = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.ask("Input.dispatchKeyEvent", type="keyDown", text=text, **common)
        self.ask("Input.dispatchKeyEvent", type="keyUp", **common)

    def picture(self, path: Path, *, height: int | None = None, **options: Any) -> None:
        """A screenshot of the window, or of `height` pixels of the page."""
        if height is not None:
            width = self.evaluate("innerWidth")
            options["clip"] = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
            options["captureBeyondViewport"] = True
        data = self.ask("Page.captureScreenshot", **options)["data"]
        path.write_bytes(base64.b64decode(data))

    def printed(self) -> bytes:
        """The page as a PDF file."""
        return base64.b64decode(self.ask("Page.printToPDF", printBackground=False)["data"])

    def _hear(self, event: dict[str, Any]) -> None:
        parameters = event.get("params", {})
        match event.get("method"):
            case "Log.entryAdded":
                self.problems.append(parameters["entry"]["text"])
            case "Runtime.exceptionThrown":
                self.problems.append(str(parameters["exceptionDetails"].get("text")))
            case "Runtime.consoleAPICalled":
                self.problems.append(f"console: {parameters.get('args')}")
            case "Page.javascriptDialogOpening":
                self.problems.append(f"a dialog: {parameters.get('message')}")
            case "Network.requestWillBeSent":
                url = parameters["request"]["url"]
                if parameters.get("type") != "Document" and not url.startswith("data:"):
                    self.requests.append(url)


class _Pipe:
    """Commands to the browser, and what it says."""

    def __init__(self, to: int, of: int) -> None:
        self._to, self._of = to, of
        self._number = 0
        self._data = b""

    def ask(
        self, method: str, parameters: dict[str, Any], session: str | None = None, hear: Any = None
    ) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._to, data) :]
        for said in self._messages(method):
            if said.get("id") == self._number:
                assert "error" not in said, (method, said["error"])
                result: dict[str, Any] = said["result"]
                return result
            if hear is not None and said.get("sessionId") == session:
                hear(said)
        raise Closed(method)

    def until(self, event: str, session: str, hear: Any) -> None:
        """Wait for an event."""
        for said in self._messages(event):
            if said.get("sessionId") == session:
                hear(said)
                if said.get("method") == event:
                    return
        raise Closed(event)

    def _messages(self, what: str) -> Iterator[dict[str, Any]]:
        deadline = time.monotonic() + PATIENCE
        while True:
            line, found, rest = self._data.partition(b"\0")
            if found:
                self._data = rest
                yield json.loads(line)
                continue
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._of], [], [], left)[0]:
                raise TimeoutError(f"the browser does not answer: {what}")
            piece = os.read(self._of, 1 << 20)
            if not piece:
                return
            self._data += piece


@contextmanager
def opened(profile: Path) -> Iterator[Page]:
    """A browser with an empty page. profile: a new folder for its files."""
    path = executable()
    assert path is not None, "no Chromium is here"
    flags = [*_FLAGS, f"--user-data-dir={profile}"]
    if os.geteuid() == 0:
        flags.append("--no-sandbox")  # Chromium refuses to have one as root.
    read_commands, commands = _pipe()
    said, write_said = _pipe()
    environment = {**os.environ, "HOME": str(profile), "XDG_CONFIG_HOME": str(profile)}
    process = subprocess.Popen(
        [
            *(sys.executable, "-c", _PLACE_PIPES, str(read_commands), str(write_said)),
            *(path, *flags, "about:blank"),
        ],
        pass_fds=(read_commands, write_said),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,
    )
    os.close(read_commands)
    os.close(write_said)
    try:
        pipe = _Pipe(commands, said)
        made = pipe.ask("Target.createTarget", {"url": "about:blank"})
        attached = pipe.ask(
            "Target.attachToTarget", {"targetId": made["targetId"], "flatten": True}
        )
        page = Page(pipe, attached["sessionId"])
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.ask(f"{domain}.enable")
        yield page
        pipe.ask("Browser.close", {})
    finally:
        os.close(commands)
        os.close(said)
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Wait for the end of the browser, and end its helpers: they are in its process group."""
    ended = os.pidfd_open(process.pid)
    select.select([ended], [], [], 20)
    os.close(ended)
    # Not waited for yet, so the number of the group is not another's.
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(20)
