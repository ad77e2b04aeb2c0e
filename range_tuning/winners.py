"""Choices of a tuning table as arguments of ``register_custom_op_autotuning``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from range_tuning.calls import calls_of, NOT_KEPT, TableCall, times_text

if TYPE_CHECKING:
    from torch._inductor.range_dispatch import Choice, TuningTable


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
    names = {n: name for n, name in zip(choice.winners, choice.names) if n is not None}
    numbered = ", ".join(f"{n} {names[n]}" for n in sorted(names))
    lines = [call.op, call.call, call.where, _dispatch(choice), f"winners: {numbered}"]
    unreachable = [str(row.cell) for row in call.rows if row.name is None]
    if unreachable:
        lines.append(
            f"cannot occur, so any winner will do, here {_FALLBACK} for the op itself: "
            + ", ".join(unreachable)
        )
    times = [
        f"{row.cell} {row.name}: {text}"
        for row in call.rows
        if (text := times_text(row.decided, row.name))
    ]
    if times and not call.keeps_decided:
        times.append(NOT_KEPT)
    lines += [*times, *choice.guesses, *call.busy]
    return [f"# {' '.join(line.split())}" for line in lines]


def _dispatch(choice: Choice) -> str:
    """What to register besides, as far as the names of axes tell."""
    if not any(choice.split_points):
        axes = ", ".join(choice.axes)
        return (
            f"one winner for every {axes}: no dispatch_on" if axes else "no dispatch_on"
        )
    on = []
    for name in choice.axes:
        dimension = _DIMENSION.fullmatch(name)
        on.append(
            f'{{"tensor_name": "{dimension[1]}", "dim": {dimension[2]}}}'
            if dimension
            else f'{{"size": a function for {name}}}'
        )
    return f"dispatch_on={on[0] if len(on) == 1 else '[' + ', '.join(on) + ']'}"


def _arguments(choice: Choice) -> list[str]:
    winners = [_FALLBACK if one is None else one for one in choice.winners]
    lines = []
    if any(choice.split_points):
        points = [[*one] for one in choice.split_points]
        lines.append(f"split_points={points[0] if len(points) == 1 else points},")
    return [*lines, f"winners={winners},"]
