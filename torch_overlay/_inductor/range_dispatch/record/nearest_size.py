"""Of what was measured for a call, that at the size nearest to given ones."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from torch._inductor.range_dispatch.record.text_tables import against_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch._inductor.range_dispatch.record.records import (
        DispatchRecord,
        RangeRecord,
        SizeRecord,
    )


def nearest_size(
    record: DispatchRecord, sizes: Sequence[int]
) -> tuple[SizeRecord, RangeRecord] | None:
    """The nearest size on a log scale that was timed, and its range.

    Of several that are as near it is one in the range of ``sizes``, which has one for
    each axis. None if nothing was timed, or there is no axis.
    """
    measured = [
        (one, row) for row in record.ranges for one in row.sizes if one.milliseconds
    ]
    if not sizes or not measured:
        return None

    def distance(found: tuple[SizeRecord, RangeRecord]) -> tuple[float, bool]:
        one, row = found
        apart = math.dist(
            *([math.log(max(n, 1)) for n in x] for x in (one.sizes, sizes))
        )
        return round(apart, 9), sizes not in row.cell

    return min(measured, key=distance)


def nearest_text(
    record: DispatchRecord, sizes: Sequence[int], winner: str | None
) -> str | None:
    """``nearest size timed: 64: 0.0800 ms ±0.0020 against 0.110 ms ±0.003 (other)``.

    It is told if the size is in another range. None if nothing was timed.
    """
    found = nearest_size(record, sizes)
    if found is None:
        return None
    one, row = found
    shown = ", ".join(map(str, one.sizes))
    if len(one.sizes) > 1:
        shown = f"({shown})"
    where = "" if sizes in row.cell else f", in {row.cell}"
    times = against_text(one.milliseconds, one.noise, winner)
    return f"nearest size timed: {shown}{where}: {times}"
