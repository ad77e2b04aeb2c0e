"""What tuning is at, for one who waits at a terminal; nothing elsewhere.

The bar is drawn between timings only, by no thread of its own: what draws while a
candidate runs would be timed with it.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any, TYPE_CHECKING
from typing_extensions import Self

from torch.utils._ordered_set import OrderedSet

if TYPE_CHECKING:
    from types import TracebackType


# Tuning that is over before this is not worth a line.
SECONDS_BEFORE_SHOWN = 2.0
# The bar is drawn no oftener.
SECONDS_BETWEEN_DRAWINGS = 0.1

# The tuning that is running, and the names of those whose bar has been shown.
_running: list[TuningProgress] = []
shown: OrderedSet[str] = OrderedSet()


class TuningProgress:
    """Shows how many of ``total`` ranges are timed; the bar goes when all are.

    Nothing is shown in CI, without a terminal, or where ``rich`` is not installed.
    """

    def __init__(self, name: str, total: int) -> None:
        self._name = name
        self._total = total
        self._done = 0
        self._range = ""
        self._candidate = ""
        self._show_from = time.monotonic() + SECONDS_BEFORE_SHOWN
        self._started = time.monotonic()
        self._drawn = -float("inf")
        self._bar: Any = None

    def __enter__(self) -> Self:
        _running.append(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _running[:] = [one for one in _running if one is not self]
        if self._bar is not None:
            self._bar.stop()
            if error is None:
                shown.add(self._name)

    def advance(self) -> None:
        """One more range is timed."""
        self._done += 1
        self._total = max(self._total, self._done)
        self._draw(is_due=True)

    def showing(self, range_text: str = "", candidate: str = "") -> None:
        """What is timed now: a range, or a candidate in the range told before."""
        self._range = range_text or self._range
        self._candidate = candidate
        self._draw(is_due=bool(range_text))

    def _draw(self, is_due: bool) -> None:
        now = time.monotonic()
        if now < self._show_from:
            return
        if not is_due and now - self._drawn < SECONDS_BETWEEN_DRAWINGS:
            return
        if self._bar is None:
            self._bar = _make_bar(f"tuning {self._name}", now - self._started)
        if self._bar is not None:
            self._drawn = now
            self._bar.update(
                self._bar.task_ids[0],
                completed=self._done,
                total=self._total,
                now=", ".join(filter(None, (self._range, self._candidate))),
            )
            self._bar.start()  # once
            self._bar.refresh()


def show_range(text: str) -> None:
    """Tell the bar, if any, which range is timed from now on."""
    for one in _running[-1:]:
        one.showing(text)


def show_candidate(name: str) -> None:
    """Tell the bar, if any, which candidate is timed from now on."""
    for one in _running[-1:]:
        one.showing(candidate=name)


def _make_bar(description: str, elapsed: float) -> Any:
    """A bar that is drawn on demand, ``elapsed`` seconds after its task began."""
    if not sys.stderr.isatty() or os.environ.get("CI"):
        return None
    try:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )
        from rich.table import Column
    except ImportError:
        return None
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        # What does not fit is cut off here.
        TextColumn(
            "{task.fields[now]}",
            markup=False,
            table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis"),
        ),
        console=Console(stderr=True),
        expand=True,
        transient=True,
        auto_refresh=False,
        get_time=time.monotonic,
    )
    bar.add_task(description, total=None, now="")
    bar.tasks[0].start_time = time.monotonic() - elapsed
    return bar
