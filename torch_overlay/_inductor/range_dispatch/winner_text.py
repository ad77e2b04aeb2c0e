"""Choices of a tuning table as arguments of ``register_custom_op_autotuning``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from torch._inductor.range_dispatch.cache.table_calls import calls_of, cells_of

from torch._inductor.range_dispatch.cell_times import (
    decided_of,
    guessed_splits,
    NOT_KEPT,
    times_text,
)
from torch._inductor.range_dispatch.record.text_tables import busy_texts

if TYPE_CHECKING:
    from torch._inductor.range_dispatch.cache.table_calls import TableCall
    from torch._inductor.range_dispatch.cache.tables import Choice, TuningTable


_DIMENSION = re.compile(r"(\w+)\.shape\[(-?\d+)\]")
# The op itself, as registered.
_FALLBACK = -1


def winner_arguments(table: TuningTable, op: str | None = None) -> list[str]:
    """For each choice, comments and the keyword arguments that make it.

    ``op`` is an op or an overload, as ``namespace::name`` or ``namespace.name``.
    """
    return [
        "\n".join([*_comments(call, call.choice), *_arguments(call.choice)])
        for call in calls_of(table)
        if call.choice is not None and (op is None or is_named(call.op, op))
    ]


def is_named(op: str, name: str) -> bool:
    """Whether the overload ``op`` is the one named, or one of the op named."""
    overload, wanted = (text.replace("::", ".") for text in (op, name))
    return overload == wanted or overload.rpartition(".")[0] == wanted


def _comments(call: TableCall, choice: Choice) -> list[str]:
    where = ", ".join(f"{k}: {v}" for k, v in call.environment.items() if v)
    names = {n: name for n, name in zip(choice.winners, choice.names) if n is not None}
    numbered = ", ".join(f"{n} {names[n]}" for n in sorted(names))
    lines = [call.op, call.call, where, *_dispatch(choice), f"winners: {numbered}"]
    unreachable = [
        str(cell)
        for cell, winner in zip(cells_of(choice), choice.winners)
        if winner is None
    ]
    if unreachable:
        lines.append(
            f"cannot occur, so any winner will do, here {_FALLBACK} for the op itself: "
            + ", ".join(unreachable)
        )
    lines += _times(call, choice)
    return [f"# {' '.join(line.split())}" for line in lines]


def _times(call: TableCall, choice: Choice) -> list[str]:
    """What decided in each cell, which splits are guesses, and what was disturbed."""
    decided, is_kept = decided_of(choice, call.entries)
    lines = [
        f"{cell} {winner}: {times}"
        for cell, winner, one in zip(cells_of(choice), choice.names, decided)
        if (times := times_text(one, winner))
    ]
    if lines and not is_kept:
        lines.append(NOT_KEPT)
    marks = [entry.is_disturbed for entry in call.entries]
    return [*lines, *guessed_splits(choice, decided), *busy_texts(marks)]


def _dispatch(choice: Choice) -> list[str]:
    if not any(choice.split_points):
        if choice.axes:
            return [f"one winner for every {', '.join(choice.axes)}: no dispatch_on"]
        return ["no dispatch_on"]
    axes = [_axis(name) for name in choice.axes]
    on = axes[0] if len(axes) == 1 else f"[{', '.join(axes)}]"
    return [f"dispatch_on={on}"]


def _axis(name: str) -> str:
    """What to register for an axis, as far as its name tells."""
    dimension = _DIMENSION.fullmatch(name)
    if dimension is None:
        return f'{{"size": a function for {name}}}'
    return f'{{"tensor_name": "{dimension[1]}", "dim": {dimension[2]}}}'


def _arguments(choice: Choice) -> list[str]:
    winners = [_FALLBACK if one is None else one for one in choice.winners]
    lines = []
    if any(choice.split_points):
        points = [[*one] for one in choice.split_points]
        lines.append(f"split_points={points[0] if len(points) == 1 else points},")
    lines.append(f"winners={winners},")
    return lines
