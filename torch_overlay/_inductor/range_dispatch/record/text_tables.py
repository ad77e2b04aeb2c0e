"""Tables of text: drawn by ``rich`` on a terminal, else plain columns for pipes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TextIO, TYPE_CHECKING, TypeAlias

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


# What a command says: a line of text, or a table below it.
Part: TypeAlias = "str | TextTable"


def write(parts: Iterable[Part], file: TextIO) -> None:
    """Write lines, and tables indented below them."""
    if file.isatty():
        try:
            _draw(parts, file)
            return
        except ImportError:
            pass  # rich is not installed
    file.write(plain(parts))


def plain(parts: Iterable[Part]) -> str:
    """The parts as text, each ending its line."""
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


def _draw(parts: Iterable[Part], file: TextIO) -> None:
    from rich import box
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    console = Console(file=file)
    for part in parts:
        if not isinstance(part, TextTable):
            # As Text: a range such as [0, 512] is no markup.
            console.print(Text(part), soft_wrap=True)
            continue
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for number, column in enumerate(part.columns):
            table.add_column(
                Text(column),
                justify="left" if number < part.labels else "right",
                overflow="fold",
            )
        for row in part.rows:
            table.add_row(*map(Text, row))
        console.print(Padding(table, (0, 0, 0, 2), expand=False))
