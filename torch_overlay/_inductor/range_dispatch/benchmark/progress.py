"""What tuning is at, for one who waits at a terminal; nothing elsewhere.

The line is drawn between timings only, by no thread of its own: what draws while a
candidate runs would be timed with it.
"""

from __future__ import annotations

import datetime
import os
import shutil
import sys
import time
from typing import Any
from typing_extensions import Self

from torch.utils._ordered_set import OrderedSet


# Tuning that is over before this is not worth a line.
SECONDS_BEFORE_SHOWN = 2.0
# The line is drawn no oftener.
SECONDS_BETWEEN_DRAWINGS = 0.1

# The tuning that is running, and the names of those whose line has been shown.
_running: list[TuningProgress] = []
shown: OrderedSet[str] = OrderedSet()


class TuningProgress:
    """Shows how many of ``total`` ranges are timed; the line goes when all are.

    Nothing is shown in CI or without a terminal.
    """

    def __init__(self, name: str, total: int) -> None:
        self._name = name
        self._total = total
        self._done = 0
        self._range = ""
        self._candidate = ""
        self._started = time.monotonic()
        self._drawn = -float("inf")

    def __enter__(self) -> Self:
        _running.append(self)
        return self

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        _running[:] = [one for one in _running if one is not self]
        if self._drawn > 0:
            _replace_line("")
            if error is None:
                shown.add(self._name)

    def advance(self) -> None:
        """One more range is timed."""
        self._done += 1
        self._total = max(self._total, self._done)
        self._draw(is_due=True)

    def showing(self, range_text: str = "", candidate: str = "") -> None:
        """See ``show``."""
        self._range = range_text or self._range
        self._candidate = candidate
        self._draw(is_due=bool(range_text))

    def _draw(self, is_due: bool) -> None:
        now = time.monotonic()
        if now - self._started < SECONDS_BEFORE_SHOWN:
            return
        if not is_due and now - self._drawn < SECONDS_BETWEEN_DRAWINGS:
            return
        if sys.stderr.isatty() and not os.environ.get("CI"):
            self._drawn = now
            _replace_line(self._text(now - self._started))

    def _text(self, elapsed: float) -> str:
        share = self._done / self._total if self._total else 0.0
        bar = f"{'━' * int(20 * share)}".ljust(20, "╌")
        left = _clock(elapsed / share - elapsed) if share else "-:--:--"
        now = ", ".join(filter(None, (self._range, self._candidate)))
        return (
            f"tuning {self._name} {bar} {self._done}/{self._total} {_clock(elapsed)} "
            f"left {left} {now}"
        )


def _clock(seconds: float) -> str:
    return str(datetime.timedelta(seconds=int(seconds)))


def _replace_line(text: str) -> None:
    """Write over the terminal's last line; what does not fit is cut off."""
    room = shutil.get_terminal_size().columns - 1
    text = text if len(text) <= room else f"{text[: room - 1]}…"
    sys.stderr.write(f"\r\x1b[K{text}")
    sys.stderr.flush()


def show(range_text: str = "", candidate: str = "") -> None:
    """Tell the line, if any, what is timed from now on: a range, or a candidate in the
    range told before."""
    for one in _running[-1:]:
        one.showing(range_text, candidate)
