"""What the pictures of a report have in common: colours, names, legends, PNG files.

Drawn with matplotlib's own classes and not with ``pyplot``, whose figures and settings
belong to whoever uses it in the same process.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from typing import Any, TYPE_CHECKING

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

if TYPE_CHECKING:
    from collections.abc import Sequence

    from range_tuning.report_data import CallReport


# Told apart by people who see no red or green, and in this order also in grey.
COLOURS = (
    "#0072b2",
    "#e69f00",
    "#009e73",
    "#d55e00",
    "#cc79a7",
    "#56b4e9",
    "#8c510a",
    "#5e3c99",
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
OTHERS = "#b0b0b0"
# What cannot occur.
NOWHERE: dict[str, Any] = {
    "facecolor": "#f4f4f4",
    "edgecolor": "#c0c0c0",
    "hatch": "////",
    "linewidth": 1.0,
}
_LEGEND_NAMES = 30

WIDTH = 8.0  # inches
_DOTS = 110  # an inch, fewer in a picture that would have more on a side than:
_MOST_DOTS = 12000


@dataclass(frozen=True)
class Look:
    """How a candidate is drawn everywhere."""

    colour: str = OTHERS
    marker: str = "o"

    @property
    def ink(self) -> str:
        """Black or white, whichever can be read on the colour."""
        red, green, blue = (int(self.colour[i : i + 2], 16) for i in (1, 3, 5))
        return "white" if 0.299 * red + 0.587 * green + 0.114 * blue < 140 else "black"


@dataclass(frozen=True)
class Picture:
    """A PNG file: what it is of, such as ``times``, and what it shows, in words."""

    kind: str
    description: str
    png: bytes


def looks_of(report: CallReport) -> dict[int, Look]:
    """A look for every candidate that has its own, by its number.

    They go by the candidates' order; if there are too many to tell apart, winners and
    the best single candidate come first, and the others have none.
    """
    numbers = [*range(len(report.names))]
    if len(numbers) > len(COLOURS):
        best = report.best_single
        firsts = [*report.winners, *([] if best is None else [best])]
        numbers = [*dict.fromkeys(firsts)]
    return {
        number: Look(
            COLOURS[i % len(COLOURS)],
            MARKERS[(i + i // len(COLOURS)) % len(MARKERS)],
        )
        for i, number in enumerate(numbers)
    }


def shown(name: str, longest: int = 40) -> str:
    """A name on one line, and short enough for a picture."""
    name = " ".join(name.split())
    if len(name) <= longest:
        return name
    head = longest * 2 // 3
    return f"{name[:head]}…{name[head + 1 - longest :]}"


def new_figure(width: float, height: float, **options: Any) -> Figure:
    """An empty figure, its sides in inches."""
    dots = min(_DOTS, _MOST_DOTS / max(width, height))
    figure = Figure(figsize=(width, height), dpi=dots, **options)
    FigureCanvasAgg(figure)
    return figure


def picture_of(figure: Figure, kind: str, description: str) -> Picture:
    """The figure as a PNG file."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # A letter that the font has not is drawn as a box, a tiny axis is squeezed.
        warnings.simplefilter("ignore", UserWarning)
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return Picture(kind, description, buffer.getvalue())


def legend_below(figure: Figure, handles: Sequence[Any], names: Sequence[str]) -> None:
    """Under the pictures, in as many columns as the longest name allows."""
    more = len(names) - _LEGEND_NAMES
    if more > 1:
        handles = [*handles[:_LEGEND_NAMES], Line2D([], [], linestyle="")]
        names = [*names[:_LEGEND_NAMES], f"… {more} more"]
    widest = max([len(name) for name in names] or [1])
    columns = max(1, min(len(names), int(105 / (widest + 6))))
    figure.legend(handles, names, loc="outside lower center", ncols=columns)
