"""A real headless Chromium, driven through a pipe by its DevTools protocol
(https://chromedevtools.github.io/devtools-protocol).
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

__all__ = ["CHROMIUM", "Browser"]

CHROMIUM = shutil.which("chromium")
SWITCHES = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run"
    " --disable-background-networking --disable-component-update --disable-sync --hide-scrollbars"
    " --remote-debugging-pipe"
)
KEYS = {"Enter": (13, "\r"), "Escape": (27, ""), "Tab": (9, ""), "Space": (32, " ")}


class Browser:
    """One page: `events` holds what the browser told, such as requests, console messages and
    exceptions.
    """

    def __init__(self, profile: Path) -> None:
        there, self._write = os.pipe()
        self._read, back = os.pipe()
        script = f"exec {CHROMIUM} {SWITCHES} --user-data-dir='{profile}' 3<&{there} 4>&{back}"
        self._process = subprocess.Popen(
            ["bash", "-c", script],
            pass_fds=(there, back),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(there)
        os.close(back)
        self._buffer, self._number, self._session = b"", 0, None
        self.events: list[dict[str, Any]] = []
        target = self("Target.createTarget", url="about:blank")["targetId"]
        self._session = self("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self(f"{domain}.enable")

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._write)
        os.close(self._read)
        self._process.kill()
        self._process.wait()

    def __call__(self, method: str, **params: Any) -> dict[str, Any]:
        """Send one command and return its result; events that come before are kept."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params} | (
            {"sessionId": self._session} if self._session else {}
        )
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]
            self.events.append(answer)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            part = os.read(self._read, 2**20)
            assert part, "the browser has gone"
            self._buffer += part
        message, self._buffer = self._buffer.split(b"\0", 1)
        return json.loads(message)

    def open(self, page: Path, width: int = 1280, height: int = 900, **media: str) -> None:
        """Load a file; `media` is what the page is told of its reader, such as
        prefers_color_scheme="dark".
        """
        features = [
            {"name": name.replace("_", "-"), "value": value} for name, value in media.items()
        ]
        self("Emulation.setEmulatedMedia", features=features)
        self(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        self("Page.navigate", url=page.as_uri())
        deadline = time.monotonic() + 60
        while not self.run(
            f"location.href === {json.dumps(page.as_uri())} && document.readyState === 'complete'"
        ):
            assert time.monotonic() < deadline, "the page did not load"
            time.sleep(0.02)

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        done = self("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    def press(self, *keys: str) -> None:
        """Keys as a person presses them."""
        for key in keys:
            code, text = KEYS[key]
            known = {
                "key": " " if key == "Space" else key,
                "code": key,
                "windowsVirtualKeyCode": code,
            }
            self("Input.dispatchKeyEvent", type="keyDown", text=text, **known)
            self("Input.dispatchKeyEvent", type="keyUp", **known)

    def picture(self, file: Path, whole: bool = False) -> None:
        file.write_bytes(
            base64.b64decode(self("Page.captureScreenshot", captureBeyondViewport=whole)["data"])
        )

    def print(self, file: Path) -> None:
        file.write_bytes(base64.b64decode(self("Page.printToPDF", printBackground=False)["data"]))

    @property
    def requests(self) -> list[str]:
        """Addresses asked for, without the page's own and data inside it."""
        asked = [
            event["params"]["request"]["url"]
            for event in self.events
            if event["method"] == "Network.requestWillBeSent"
        ]
        return [
            url for url in asked if not url.startswith(("data:", "about:", "file:"))
        ] + asked_files(asked)

    @property
    def complaints(self) -> list[dict[str, Any]]:
        """Messages on the console, and exceptions."""
        return [
            event
            for event in self.events
            if event["method"]
            in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        ]


def asked_files(asked: list[str]) -> list[str]:
    """Files asked for besides pages."""
    return [url for url in asked if url.startswith("file:") and not url.endswith(".html")]
