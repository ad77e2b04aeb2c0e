# Owner(s): ["module: inductor"]
"""Calls with made-up times, to be reported on."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from range_tuning.report_data import CallReport, reports_of

from torch._inductor.range_dispatch import CandidateTime, Choice, Entry, TuningTable


HERE = {"torch": "2", "device": "one", "driver": ""}
AXIS = ("x.shape[1]",)
TWO = ("x.shape[0]", "y.shape[0]")
THREE = (*TWO, "x.shape[1]*x.shape[2]")


def entry(
    sizes: Sequence[int],
    times: Mapping[str, float | None],
    axes: tuple[str, ...] = AXIS,
    op: str = "some.op.default",
    environment: Mapping[str, str] = HERE,
    other: int = 0,
) -> Entry:
    """What candidates took: milliseconds by name, None for one that failed."""
    candidates = tuple(
        CandidateTime(name, f"of {name}", ms, 0.1 * (ms or 0))
        for name, ms in times.items()
    )
    operands = json.dumps([[], [*sizes, other]])
    call = "x: float32[s0, s1] (s1, 1)"
    return Entry(
        op, "schema", environment, call, axes, operands, tuple(sizes), candidates
    )


def choice(
    split_points: Iterable[Any],
    winners: Iterable[int | None],
    names: Iterable[str | None],
    axes: tuple[str, ...] = AXIS,
    op: str = "some.op.default",
    environment: Mapping[str, str] = HERE,
) -> Choice:
    """What was chosen for a call, by name and as registered."""
    call = "x: float32[s0, s1] (s1, 1)"
    return Choice(
        op,
        "schema",
        environment,
        call,
        axes,
        tuple(split_points),
        tuple(winners),
        tuple(names),
    )


def crossing(**how: Any) -> list[Entry]:
    """Two candidates that cross between 10 and 100, and one that fails at 1000."""
    times: dict[int, dict[str, float | None]] = {
        1: {"short": 1.0, "long": 3.0, "flaky": 2.0},
        10: {"short": 2.0, "long": 3.0, "flaky": 4.0},
        100: {"short": 8.0, "long": 4.0, "flaky": 5.0},
        1000: {"short": 20.0, "long": 5.0, "flaky": None},
    }
    return [entry([size], taken, **how) for size, taken in times.items()]


def only_call(entries: Iterable[Entry], *choices: Choice) -> CallReport:
    """What is reported of a table of one call."""
    (call,) = reports_of(TuningTable.of(entries, choices))
    return call


def split_at_ten(**how: Any) -> Choice:
    """The choice that ``crossing`` asks for."""
    return choice([[10]], [0, 1], ["short", "long"], **how)
