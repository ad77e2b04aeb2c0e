"""What was measured and decided, for people and tests to look at."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch._logging._internal import trace_structured_artifact

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch._inductor.range_dispatch.ranges import SizeRange


@dataclass(frozen=True)
class SizeRecord:
    """What candidates took at one size: milliseconds, and by how many each may be off.

    ``size`` is None in plain autotuning. ``weight`` is how much it counts in its range.
    """

    size: int | None
    weight: float
    milliseconds: dict[str, float]
    noise: dict[str, float]


@dataclass(frozen=True)
class RangeRecord:
    """One range: its winner, and the times that decided, if any were taken.

    ``milliseconds`` and ``noise`` sum up ``sizes``; a candidate within the noise of the
    fastest may win.
    """

    size_range: SizeRange
    winner: str
    sizes: tuple[SizeRecord, ...] = ()
    milliseconds: dict[str, float] = field(default_factory=dict)
    noise: dict[str, float] = field(default_factory=dict)

    @property
    def timed_sizes(self) -> list[int]:
        """The sizes that stand for the range, ascending."""
        return [one.size for one in self.sizes if one.size is not None]


@dataclass(frozen=True)
class DispatchRecord:
    """One lowered call: ``size`` is the dispatched size as an expression, None for
    plain autotuning; ``branches`` is 1 when the winner was inlined without a cond."""

    op: str
    tensor_name: str | None
    dim: int | None
    size: str | None
    ranges: tuple[RangeRecord, ...]
    branches: int


_listeners: list[list[DispatchRecord]] = []


@contextlib.contextmanager
def record_dispatches() -> Iterator[list[DispatchRecord]]:
    """Collect a record of every autotuned call that is lowered in the context."""
    records: list[DispatchRecord] = []
    _listeners.append(records)
    try:
        yield records
    finally:
        # By identity: equal lists of nested contexts are different listeners.
        _listeners[:] = [one for one in _listeners if one is not records]


def publish(record: DispatchRecord) -> None:
    """Give a record to every context that is collecting, and to tlparse."""
    for records in _listeners:
        records.append(record)
    trace_structured_artifact(
        "range_dispatch", "json", lambda: json.dumps(dataclasses.asdict(record))
    )
