"""Tables of text: drawn by ``rich`` on a terminal, else plain columns for pipes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TextIO, TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


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
    exponent = int(f"{milliseconds:.3e}".partition("e")[2])
    decimals = max(0, 3 - exponent)
    text = f"{milliseconds:.{decimals}f}"
    text = f"{text} ±{noise:.{decimals}f}" if noise else text
    return f"{text} (busy)" if disturbed else text


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
