"""Tables of text: plain columns, and how times are written in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


@dataclass(frozen=True)
class TextTable:
    """Rows of cells; the first ``labels`` columns are words, the others numbers."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    labels: int = 1

    def __str__(self) -> str:
        widths = [max(map(len, cells)) for cells in zip(self.columns, *self.rows)]
        return "\n".join(
            "  ".join(
                cell.ljust(width) if number < self.labels else cell.rjust(width)
                for number, (cell, width) in enumerate(zip(row, widths))
            ).rstrip()
            for row in (self.columns, *self.rows)
        )


# What is told: a line of text, or a table below it.
Part: TypeAlias = "str | TextTable"


def plain(parts: Iterable[Part]) -> str:
    """The parts as text, each ending its line; tables are indented."""
    lines = []
    for part in parts:
        indent = "  " if isinstance(part, TextTable) else ""
        lines += [f"{indent}{line}".rstrip() for line in str(part).split("\n")]
    return "".join(f"{line}\n" for line in lines)


def milliseconds_text(
    milliseconds: float | None, noise: float = 0.0, disturbed: bool = False
) -> str:
    """A time of four digits and by how much it may be off: ``0.01234 ±0.00020``.

    ``(busy)`` follows where other programs have disturbed it.
    """
    if milliseconds is None:
        return "failed"
    decimals = _decimals(milliseconds, 4)
    text = f"{milliseconds:.{decimals}f}"
    text = f"{text} ±{noise:.{decimals}f}" if noise else text
    return f"{text} (busy)" if disturbed else text


def against_text(
    milliseconds: Mapping[str, float], noise: Mapping[str, float], winner: str | None
) -> str:
    """``0.0800 ms ±0.0020 against 0.110 ms ±0.003 (other)``: what a winner took, and
    the others, fastest first."""

    def text(name: str) -> str:
        decimals = _decimals(milliseconds[name], 3)
        off = noise.get(name)
        spread = f" ±{off:.{decimals}f}" if off else ""
        return f"{milliseconds[name]:.{decimals}f} ms{spread}"

    others = [name for name in milliseconds if name != winner]
    others.sort(key=lambda name: milliseconds[name])
    own = "not timed"
    if winner is not None and winner in milliseconds:
        own = text(winner)
    if not others:
        return own
    return f"{own} against {', '.join(f'{text(name)} ({name})' for name in others)}"


def _decimals(milliseconds: float, digits: int) -> int:
    exponent = int(f"{milliseconds:.{digits - 1}e}".partition("e")[2])
    return max(0, digits - 1 - exponent)


def busy_texts(marks: Sequence[bool]) -> list[str]:
    """What is said of sizes, of which each is marked if other programs disturbed it."""
    if not any(marks):
        return []
    return [f"timed on a busy machine: {sum(marks)} of {len(marks)} sizes"]
