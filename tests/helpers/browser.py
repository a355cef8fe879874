"""A page in a real browser without a window, over a pipe (Chrome DevTools protocol): only Chromium is needed."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import time
from base64 import b64decode
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
PATIENCE = 60.0
"""Seconds; a browser on a busy machine is slow to start."""
KEYS = {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Backspace": 8, "Tab": 9, "Escape": 27}
PLAIN = ("--disable-gpu",)
WEBGL = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
"""Graphics computed on the processor, the same on every machine."""


def find_browser() -> str | None:
    """The program, if it is installed."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Page:
    """A tab: commands go in and answers come out as JSON with a zero byte after each."""

    def __init__(self, commands: int, answers: int, downloads: Path) -> None:
        self._commands, self._answers = os.fdopen(commands, "wb", 0), os.fdopen(answers, "rb", 0)
        self._number, self._session, self._rest = 0, None, b""
        self.requests: list[str] = []
        """Addresses that the page asked for."""
        self.faults: list[str] = []
        """Exceptions and errors on the console."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(downloads), eventsEnabled=False)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The answer to a command."""
        self._number += 1
        command: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session and not method.startswith(("Browser.", "Target.")):
            command["sessionId"] = self._session
        self._commands.write(json.dumps(command).encode() + b"\0")
        while (answer := self._next()).get("id") != self._number:
            self._notice(answer)
        assert "error" not in answer, answer["error"]
        return answer["result"]

    def open(self, path: Path) -> None:
        """Load a file and wait until it is complete."""
        self.call("Page.navigate", url=path.as_uri())
        self.until("document.readyState === 'complete'")

    def evaluate(self, script: str) -> Any:
        """The value of an expression."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def until(self, script: str) -> None:
        """Wait for an expression to be true."""
        wait(lambda: bool(self.evaluate(script)), script)

    def press(self, key: str) -> None:
        """A key goes down and up."""
        number = KEYS.get(key, ord(key[0].upper()))
        text = {"text": key} if len(key) == 1 else {}
        about = {
            "key": key,
            "code": f"Key{key.upper()}" if key.isalpha() and text else key,
            "windowsVirtualKeyCode": number,
        }
        self.call("Input.dispatchKeyEvent", type="keyDown", **about, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", **about)

    def mouse(self, *steps: tuple[str, float, float]) -> None:
        """The mouse is `moved`, `pressed` or `released` at places of the window."""
        held = False
        for what, x, y in steps:
            held = what == "pressed" or (held and what == "moved")
            button = {"button": "left", "clickCount": 1} if held or what != "moved" else {}
            kind = f"mouse{what.title()}"
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, buttons=int(held), **button)

    def touch(self, *steps: list[tuple[float, float]]) -> None:
        """Fingers at places of the window, which they leave after the last step."""
        for number, points in enumerate(steps):
            fingers = [{"x": x, "y": y, "id": finger} for finger, (x, y) in enumerate(points)]
            self.call("Input.dispatchTouchEvent", type="touchMove" if number else "touchStart", touchPoints=fingers)
        self.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def resize(self, width: int, height: int, *, phone: bool = False) -> None:
        """The window's inner size in CSS pixels, of which a phone has two a side."""
        scale = 2 if phone else 1
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=phone
        )

    def prefer(self, **features: str) -> None:
        """What the user prefers: `prefers_reduced_motion="reduce"`."""
        named = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.call("Emulation.setEmulatedMedia", features=named)

    def screenshot(self) -> bytes:
        """What is to be seen, as a PNG."""
        return b64decode(self.call("Page.captureScreenshot", format="png")["data"])

    def tap(self, selector: str) -> None:
        """A finger on the middle of an element."""
        middle = (
            f"(box => [box.x + box.width / 2, box.y + box.height / 2])"
            f"(document.querySelector({json.dumps(selector)}).getBoundingClientRect())"
        )
        x, y = self.evaluate(middle)
        self.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
        self.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            assert select.select([self._answers], [], [], PATIENCE)[0], "the browser does not answer"
            read = self._answers.read(1 << 16)
            assert read, "the browser went away"
            self._rest += read
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def _notice(self, event: dict[str, Any]) -> None:
        method, about = event.get("method"), event.get("params", {})
        if method == "Network.requestWillBeSent":
            self.requests.append(about["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.faults.append(str(about["exceptionDetails"]))
        elif method == "Log.entryAdded" and about["entry"]["level"] == "error":
            self.faults.append(about["entry"]["text"])


@contextmanager
def open_browser(program: str, folder: Path, graphics: Sequence[str] = PLAIN) -> Iterator[Page]:
    """A browser of its own, whose downloads go to `folder/downloads`; it resolves no name.

    `graphics` is `PLAIN` or `WEBGL`.
    """
    downloads = folder / "downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    (into, commands), (answers, out) = os.pipe(), os.pipe()
    script = f'exec "$0" "$@" 3<&{into} 4>&{out}'
    flags = [
        *("--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-dev-shm-usage", *graphics),
        *("--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"),
        *("--touch-events=enabled", "--window-size=1000,700", "--host-resolver-rules=MAP * ~NOTFOUND"),
        f"--user-data-dir={folder / 'profile'}",
    ]
    browser = subprocess.Popen(
        ["bash", "-c", script, program, *flags],
        pass_fds=(into, out),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(into)
    os.close(out)
    try:
        yield Page(commands, answers, downloads)
    finally:
        browser.terminate()
        browser.wait(PATIENCE)


def wait(happened: Callable[[], bool], what: str) -> None:
    """Wait until something happened."""
    last = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < last, f"never happened: {what}"
        time.sleep(0.05)
