"""One line that says how far a stage is, from what its commands print."""

import re
import shutil
import sys
import time

from setup_tool.steps import report

_NINJA = re.compile(r"^\s*\[(\d+)/(\d+)\]\s*(.*)$")
SECONDS_BETWEEN_LINES = 30.0


class Progress:
    """Follows a stage's output: one changing line on a terminal, else now and then
    a line."""

    def __init__(self, stage: str, terminal: bool | None = None) -> None:
        self.stage = stage
        self.terminal = sys.stdout.isatty() if terminal is None else terminal
        self.started = time.monotonic()
        self.shown = self.started
        self.latest = ""

    def line(self, text: str) -> None:
        """Takes one line of output."""
        found = _NINJA.match(text)
        if found:
            done, total = int(found[1]), int(found[2])
            percent = 100 * done // max(total, 1)
            self.latest = f"[{done}/{total}] {percent}% {found[3].strip()}"
        elif text.strip() and not self.latest.startswith("["):
            # Ninja's count stays on show while compilers print warnings.
            self.latest = text.strip()

    def tick(self) -> None:
        """Shows the line if it is time to."""
        now = time.monotonic()
        if self.terminal:
            self._draw()
        elif now - self.shown >= SECONDS_BETWEEN_LINES:
            report(self.stage, f"{int(now - self.started)} s, {self.latest[:100]}")
            self.shown = now

    def end(self) -> None:
        """Leaves an empty line where the changing one was."""
        if self.terminal:
            print("\r\033[K", end="", flush=True)

    def _draw(self) -> None:
        width = shutil.get_terminal_size().columns - 1
        seconds = int(time.monotonic() - self.started)
        text = f"{self.stage + ':':<14}{seconds} s {self.latest}"
        print("\r\033[K" + text[:width], end="", flush=True)
