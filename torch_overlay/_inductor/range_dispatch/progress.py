"""A progress line for tuning that takes long, on a terminal only."""

from __future__ import annotations

import os
import sys
import time
from typing import Any, TYPE_CHECKING

from typing_extensions import Self

if TYPE_CHECKING:
    from types import TracebackType


# Tuning that is over before this is not worth a line.
SECONDS_BEFORE_SHOWN = 2.0


class TuningProgress:
    """Shows how many of ``total`` ranges are timed; the line goes when all are.

    Nothing is shown in CI, without a terminal, or where ``rich`` is not installed.
    """

    def __init__(self, name: str, total: int) -> None:
        self._name = name
        self._total = total
        self._done = 0
        self._show_from = time.monotonic() + SECONDS_BEFORE_SHOWN
        self._bar: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self) -> None:
        """One more range is timed."""
        self._done += 1
        if self._bar is None and time.monotonic() >= self._show_from:
            self._bar = _start_bar(f"tuning {self._name}", self._total)
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=self._done)


def _start_bar(description: str, total: int) -> Any:
    if not sys.stderr.isatty() or os.environ.get("CI"):
        return None
    try:
        from rich.console import Console
        from rich.progress import Progress
    except ImportError:
        return None
    bar = Progress(console=Console(stderr=True), transient=True)
    bar.add_task(description, total=total)
    bar.start()
    return bar
