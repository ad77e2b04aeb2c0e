"""Chromium without a window, driven through pipes: opens a page and takes pictures."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from typing import Any

from typing_extensions import Self


# Nothing that a browser does besides showing the page: no look-ups, no updates.
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
]


def find_browser() -> str | None:
    """The path of an installed Chromium, None if there is none."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    return next((path for path in map(shutil.which, names) if path), None)


class Browser:
    """A Chromium process with one page; a context manager that ends it.

    ``errors`` has what the page's console has logged as errors, and ``requests`` the
    addresses of what the page wanted.
    """

    def __init__(self, path: str, seconds: float = 60.0) -> None:
        self.errors: list[str] = []
        self.requests: list[str] = []
        self._path = path
        self._until = time.monotonic() + seconds
        self._buffer = b""
        self._next = 0
        self._session: str | None = None
        self._loaded = False

    def __enter__(self) -> Self:
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        read_end, self._write = os.pipe()
        self._read, write_end = os.pipe()
        commands, replies = (
            fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in (read_end, write_end)
        )
        # Chromium reads commands from descriptor 3 and writes replies to 4.
        connected = f'exec "$@" 3<&{commands} 4>&{replies}'
        self._process = subprocess.Popen(
            [
                *("bash", "-c", connected, "bash"),
                *(self._path, *FLAGS, f"--user-data-dir={self._profile.name}"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(commands, replies),
        )
        for end in (read_end, write_end, commands, replies):
            os.close(end)
        try:
            target = self._call("Target.createTarget", url="about:blank")["targetId"]
            attached = self._call(
                "Target.attachToTarget", targetId=target, flatten=True
            )
            self._session = attached["sessionId"]
            for domain in ("Page", "Log", "Runtime", "Network"):
                self._call(f"{domain}.enable")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._write)
        os.close(self._read)
        self._profile.cleanup()

    def open(self, path: str, width: int, scripts: bool, dark: bool = False) -> None:
        """Load a file at a width of so many pixels, with or without scripts."""
        self._call("Emulation.setScriptExecutionDisabled", value=not scripts)
        self._call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", features=[scheme])
        self._loaded = False
        self._call("Page.navigate", url=f"file://{path}")
        while not self._loaded:
            self._receive()

    def screenshot(self) -> bytes:
        """A PNG file of the whole page."""
        taken = self._call("Page.captureScreenshot", captureBeyondViewport=True)
        return base64.b64decode(taken["data"])

    def content_size(self) -> tuple[int, int]:
        """Width and height of the page in pixels, including what is out of sight."""
        size = self._call("Page.getLayoutMetrics")["cssContentSize"]
        return int(size["width"]), int(size["height"])

    def _call(self, method: str, **params: Any) -> Any:
        self._next += 1
        number = self._next
        command: dict[str, Any] = {"id": number, "method": method, "params": params}
        if self._session is not None:
            command["sessionId"] = self._session
        os.write(self._write, json.dumps(command).encode() + b"\0")
        while True:
            message = self._receive()
            if message.get("id") == number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                return message["result"]

    def _receive(self) -> dict[str, Any]:
        """The next message: a reply, or an event, which is noted."""
        while b"\0" not in self._buffer:
            left = self._until - time.monotonic()
            if left <= 0 or not select.select([self._read], [], [], left)[0]:
                raise TimeoutError(f"{self._path} did not answer")
            part = os.read(self._read, 1 << 20)
            if not part:
                raise RuntimeError(f"{self._path} ended")
            self._buffer += part
        raw, _, self._buffer = self._buffer.partition(b"\0")
        message = json.loads(raw)
        method, params = message.get("method"), message.get("params", {})
        if method == "Page.loadEventFired":
            self._loaded = True
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.errors.append(params["entry"]["text"])
        elif method == "Runtime.exceptionThrown":
            self.errors.append(str(params["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and params["type"] == "error":
            self.errors.append(str(params["args"]))
        return message
