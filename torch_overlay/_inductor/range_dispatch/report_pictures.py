"""The pictures of a tuning table's report, as PNG files in memory.

Drawn with matplotlib's own classes and not with ``pyplot``, whose figures and settings
belong to whoever uses it in the same process.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import Any, TYPE_CHECKING

from torch._inductor.range_dispatch.plan.decisions import Decision
from torch._inductor.range_dispatch.plan.ranges import (
    range_of,
    ranges_from_split_points,
)
from torch._inductor.range_dispatch.report_data import (
    box_text,
    percent,
    range_text,
    tree_text,
    winner_grid,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch._inductor.range_dispatch.plan.decisions import DecisionTree
    from torch._inductor.range_dispatch.report_data import CallReport, Point


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
_NOWHERE: dict[str, Any] = {
    "facecolor": "#f4f4f4",
    "edgecolor": "#c0c0c0",
    "hatch": "////",
    "linewidth": 1.0,
}
# More lines than this hide each other: those that never win are drawn in grey.
NAMED_LINES = len(COLOURS)
_LEGEND_NAMES = 30

_STYLE: dict[Any, Any] = {
    "axes.edgecolor": "#808080",
    "axes.formatter.useoffset": False,
    "axes.labelsize": 9.5,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10,
    "figure.facecolor": "white",
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "legend.fontsize": 8.5,
    "savefig.facecolor": "white",
    # Names are shown as they are, whatever dollars they have.
    "text.parse_math": False,
    "text.usetex": False,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
}
_WIDTH = 8.0  # inches
_DOTS = 110  # an inch, fewer in a picture that would have more on a side than:
_MOST_DOTS = 12000


class PicturesUnavailable(ImportError):
    """Matplotlib, which draws the pictures, is missing or cannot be imported."""


@dataclass(frozen=True)
class Picture:
    """A PNG file: what it is of, such as ``times``, and what it shows, in words."""

    kind: str
    description: str
    png: bytes


def check_available() -> None:
    """See to it that pictures can be drawn.

    Raises:
        PicturesUnavailable: they cannot.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise PicturesUnavailable(
            f"a report's pictures need matplotlib: pip install matplotlib ({error})"
        ) from error


def pictures_of(report: CallReport) -> list[Picture]:
    """The pictures of a call, those that its axes and what is known of it allow.

    Raises:
        PicturesUnavailable: matplotlib is missing.
    """
    check_available()
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # the user's own settings are for other pictures
        matplotlib.rcParams.update(_STYLE)
        is_timed = any(point.milliseconds for point in report.points)
        found = []
        if not report.axes and is_timed:
            found.append(_bars(report))
        if len(report.axes) == 1 and (is_timed or len(report.rows) > 1):
            found.append(_curves(report, is_timed))
        if len(report.axes) > 1:
            if report.rows:
                found.append(_winner_maps(report))
            if is_timed:
                found.append(_loss_maps(report))
        if isinstance(report.tree, Decision):
            found.append(_tree(report, report.tree))
        return found


def shown(name: str, longest: int = 40) -> str:
    """A name on one line, and short enough for a picture."""
    name = " ".join(name.split())
    if len(name) <= longest:
        return name
    head = longest * 2 // 3
    return f"{name[:head]}…{name[head + 1 - longest :]}"


def looks_of(report: CallReport) -> dict[int, tuple[str, str]]:
    """A colour and a marker for every candidate that has its own, by its number.

    They go by the candidates' order; if there are too many to tell apart, winners and
    the best single candidate come first, and the others have none.
    """
    numbers = [*range(len(report.names))]
    if len(numbers) > NAMED_LINES:
        best = report.best_single
        firsts = [*report.winners, *([] if best is None else [best])]
        numbers = [*dict.fromkeys(firsts)]
    return {
        number: (
            COLOURS[i % len(COLOURS)],
            MARKERS[(i + i // len(COLOURS)) % len(MARKERS)],
        )
        for i, number in enumerate(numbers)
    }


def _figure(width: float, height: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    dots = min(_DOTS, _MOST_DOTS / max(width, height))
    figure = Figure(figsize=(width, height), dpi=dots, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _picture(figure: Any, kind: str, description: str) -> Picture:
    import warnings

    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # A letter that the font has not is drawn as a box, a tiny axis is squeezed.
        warnings.simplefilter("ignore", UserWarning)
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return Picture(kind, description, buffer.getvalue())


def _ticks(
    axis: Any, low: float, high: float, most: int, instead: Sequence[int]
) -> None:
    """Powers of two, or of four and so on, as plain numbers, on a logarithmic axis.

    If there are none between its limits, what is given ``instead``.
    """
    first, last = math.ceil(math.log2(low) - 1e-9), math.floor(math.log2(high) + 1e-9)
    step = max(1, math.ceil((last - first + 1) / most))
    powers = [2.0**i for i in range(first, last + 1) if i % step == 0]
    powers = powers or [max(1, number) for number in instead]
    axis.set_ticks(powers, [f"{power:.0f}" for power in powers])
    axis.set_ticks([], minor=True)


def _time_axis(axes: Any) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axes.get_ylim()
    few = high / low < 30
    axes.yaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5) if few else (1,)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(True, axis="y", color="#e4e4e4", linewidth=0.8)
    axes.set_axisbelow(True)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _percent_axis(axes: Any, losses: Sequence[float]) -> None:
    from matplotlib.ticker import FuncFormatter

    highest = max([*losses, 0.0]) * 100
    if highest > 60:
        axes.set_yscale("symlog", linthresh=10, linscale=0.7)
        top = 10.0 ** math.ceil(math.log10(highest * 1.05))
        ticks = [0.0, 10.0]
        while ticks[-1] < top:
            ticks.append(ticks[-1] * 10)
        axes.set_yticks(ticks[:6])
        axes.set_yticks([], minor=True)
        axes.set_ylim(-2.5, highest * 1.6)
    else:
        axes.set_ylim(-0.04 * max(highest, 1.0), 1.15 * max(highest, 1.0))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} %"))
    axes.grid(True, axis="y", color="#e4e4e4", linewidth=0.8)
    axes.set_axisbelow(True)


def _legend(
    place: Any, handles: Sequence[Any], names: Sequence[str], **how: Any
) -> Any:
    """A legend of any names: one that starts with an underscore would be left out."""
    legend = place.legend(handles, ["name"] * len(names), frameon=False, **how)
    for text, name in zip(legend.get_texts(), names):
        text.set_text(name)
    return legend


def _legend_below(figure: Any, handles: Sequence[Any], names: Sequence[str]) -> None:
    """Under the pictures, in as many columns as the longest name allows."""
    from matplotlib.lines import Line2D

    more = len(names) - _LEGEND_NAMES
    if more > 1:
        blank = Line2D([], [], linestyle="")
        handles = [*handles[:_LEGEND_NAMES], blank]
        names = [*names[:_LEGEND_NAMES], f"… {more} more"]
    widest = max([len(name) for name in names] or [1])
    columns = max(1, min(len(names), int(105 / (widest + 6))))
    _legend(figure, handles, names, loc="outside lower center", ncols=columns)


def _bars(report: CallReport) -> Picture:
    """Plain autotuning: what every candidate took."""
    looks = looks_of(report)
    rows = []
    for number, name in enumerate(report.names):
        times = report.curve(number)
        rows.append((times[0] if times else None, number, name))
    rows.sort(key=lambda row: (row[0] is None, row[0].middle if row[0] else 0.0))
    figure = _figure(_WIDTH, 1.1 + 0.3 * len(rows))
    axes = figure.subplots()
    highest = max([time.high for time, _, _ in rows if time] or [1.0])
    for place, (time, number, _) in enumerate(rows):
        if time is None:
            axes.text(highest * 0.01, place, "failed", va="center", style="italic")
            continue
        colour = looks.get(number, (OTHERS, ""))[0]
        spread = [[time.middle - time.low], [time.high - time.middle]]
        axes.barh(place, time.middle, color=colour, height=0.7)
        axes.errorbar(
            time.middle, place, xerr=spread, color="#303030", capsize=2.5, linewidth=1
        )
        wins = ", chosen" if number in report.winners else ""
        label = f"  {time.middle:.4g} ms{wins}"
        weight = "bold" if wins else "normal"
        axes.text(time.high, place, label, va="center", weight=weight)
    axes.set_yticks(range(len(rows)), [shown(name) for _, _, name in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(0, highest * 1.3)
    axes.set_xlabel("milliseconds, with their noise")
    text = f"Bar chart of the milliseconds of {len(rows)} candidates of {report.op}"
    return _picture(figure, "times", text)


def _size_limits(sizes: Sequence[int]) -> tuple[float, float]:
    """Limits of a logarithmic axis with some air; sizes of 0 stand at 1."""
    low, high = max(1, min(sizes)), max(1, *sizes, 1)
    air = max((high / low) ** 0.03, 1.08)
    return low / air, high * air


def _curves(report: CallReport, is_timed: bool) -> Picture:
    """One axis: times, ranges, and what the winners lose to the fastest."""
    looks = looks_of(report)
    (splits,) = report.split_points or ((),)
    sizes = [size for point in report.points for size in point.sizes]
    low, high = _size_limits([*sizes, *splits, *([] if sizes or splits else [1])])
    heights = [3.4, 1.5] if is_timed else [0.4]
    if report.rows:
        heights = [0.32, *heights]
    figure = _figure(_WIDTH, sum(heights) + 1.6)
    panels = [
        *figure.subplots(
            len(heights), 1, sharex=True, height_ratios=heights, squeeze=False
        ).flat
    ]
    panels[-1].set_xscale("log")
    panels[-1].set_xlim(low, high)
    if report.rows:
        _draw_strip(panels.pop(0), report, looks, (low, high))
    for panel in panels:
        for start, end, winner in _bands(report, (low, high)):
            colour = looks.get(winner, (OTHERS, ""))[0] if winner is not None else None
            if colour is not None:
                panel.axvspan(start, end, color=colour, alpha=0.11, linewidth=0)
        for split in splits:
            panel.axvline(split, color="#606060", linewidth=0.9, linestyle=(0, (4, 3)))
    if is_timed:
        _draw_times(panels[0], report, looks)
        _draw_losses(panels[1], report)
    else:
        panels[0].set_yticks([])
        panels[0].set_ylim(0, 1)
        panels[0].text(
            math.sqrt(low * high),
            0.5,
            "nothing was timed",
            ha="center",
            va="center",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 2},
        )
    most = min(12, 80 // (len(f"{high:.0f}") + 2))
    _ticks(panels[-1].xaxis, low, high, most, [*sizes, *splits][:1])
    panels[-1].set_xlabel(shown(report.axes[0], 80))
    _legend_below(figure, *_candidate_handles(report, looks))
    text = (
        f"Milliseconds against {report.axes[0]} for {len(report.names)} candidates of "
        f"{report.op}, on logarithmic axes, over {len(report.rows)} ranges; below, "
        "what is lost to the fastest at each size"
    )
    return _picture(figure, "times", text)


def _bands(
    report: CallReport, limits: tuple[float, float]
) -> Iterator[tuple[float, float, int | None]]:
    """Where each range starts and ends on the axis, and its winner."""
    (splits,) = report.split_points or ((),)
    edges = [limits[0], *(min(max(s, limits[0]), limits[1]) for s in splits), limits[1]]
    for start, end, row in zip(edges, edges[1:], report.rows):
        yield start, end, row.winner


def _draw_strip(
    axes: Any,
    report: CallReport,
    looks: dict[int, tuple[str, str]],
    limits: tuple[float, float],
) -> None:
    """The ranges as a strip: each in its winner's colour, with its name."""
    axes.set_ylim(0, 1)
    axes.set_yticks([])
    axes.tick_params(length=0, labelbottom=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    whole = math.log(limits[1] / limits[0])
    for start, end, winner in _bands(report, limits):
        if winner is None:
            axes.axvspan(start, end, **_NOWHERE)
            continue
        colour, marker = looks.get(winner, (OTHERS, "o"))
        axes.axvspan(start, end, facecolor=colour, edgecolor="white", linewidth=1.2)
        middle = math.sqrt(start * end)
        letters = int(math.log(end / start) / whole * 88) - 1
        name = shown(report.names[winner])
        if len(name) <= letters:
            ink = _ink(colour)
            axes.text(middle, 0.46, name, ha="center", va="center", color=ink)
        elif letters >= 1:
            axes.plot(
                [middle], [0.5], marker=marker, color=_ink(colour), markersize=5.5
            )
    labelled = -math.inf
    (splits,) = report.split_points or ((),)
    for split in splits:
        place = math.log(max(split, limits[0]) / limits[0]) / whole
        if place - labelled > 0.009 * (len(str(split)) + 2):
            labelled = place
            axes.text(split, 1.12, str(split), ha="center", va="bottom", weight="bold")


def _ink(colour: str) -> str:
    """Black or white, whichever can be read on a colour."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "white" if 0.299 * red + 0.587 * green + 0.114 * blue < 140 else "black"


def _draw_times(
    axes: Any, report: CallReport, looks: dict[int, tuple[str, str]]
) -> None:
    axes.set_yscale("log")
    for number in range(len(report.names)):
        times = report.curve(number)
        if not times:
            continue
        sizes = [max(1, time.size) for time in times]
        middle = [time.middle for time in times]
        if number not in looks:
            axes.plot(sizes, middle, color=OTHERS, linewidth=0.8, zorder=1.5)
            continue
        colour, marker = looks[number]
        axes.fill_between(
            sizes,
            [time.low for time in times],
            [time.high for time in times],
            color=colour,
            alpha=0.22,
            linewidth=0,
        )
        axes.plot(
            sizes,
            middle,
            color=colour,
            marker=marker,
            markersize=4.5,
            markevery=max(1, len(times) // 40),
            linewidth=1.6,
        )
    axes.set_ylabel("milliseconds")
    _time_axis(axes)


def _draw_losses(axes: Any, report: CallReport) -> None:
    """What the dispatch, and the best single candidate, lose to the fastest."""
    from matplotlib.lines import Line2D

    best = report.best_single
    handles: list[Any] = []
    names = []
    drawn = []
    lines: tuple[tuple[int | None, bool, str, str, Any, float | None], ...] = (
        (best, False, "#606060", "s", (0, (5, 2)), report.single_loss),
        (None, True, "#000000", "o", "-", report.dispatch_loss),
    )
    for single, is_dispatch, colour, marker, dashes, mean in lines:
        if mean is None:
            continue
        losses: dict[int, list[float]] = {}
        for point in report.points:
            loss = point.loss_of(point.dispatched if is_dispatch else single)
            if loss is not None:
                losses.setdefault(max(1, point.sizes[0]), []).append(loss)
        sizes = sorted(losses)
        means = [_mean(losses[size]) for size in sizes]
        drawn.extend(means)
        line = Line2D([], [], color=colour, marker=marker, linestyle=dashes)
        line.set(markersize=3.5, linewidth=1.3)
        axes.plot(
            sizes,
            [100 * one for one in means],
            color=colour,
            marker=marker,
            markersize=3.5,
            markevery=max(1, len(sizes) // 80),
            linestyle=dashes,
            linewidth=1.3,
        )
        handles.append(line)
        what = (
            "dispatch"
            if is_dispatch
            else f"only {shown(report.names[single or 0], 28)}"
        )
        names.append(f"{what}: {percent(mean)} on average")
    axes.set_ylabel("loss to the\nfastest")
    _percent_axis(axes, drawn)
    if handles:
        _legend(
            axes,
            handles,
            names,
            loc="lower right",
            bbox_to_anchor=(1.0, 0.97),
            ncols=2,
            borderaxespad=0.1,
            columnspacing=1.2,
        )


def _candidate_handles(
    report: CallReport, looks: dict[int, tuple[str, str]]
) -> tuple[list[Any], list[str]]:
    from matplotlib.lines import Line2D

    handles: list[Any] = []
    names = []
    for number, (colour, marker) in looks.items():
        handles.append(Line2D([], [], color=colour, marker=marker, markersize=5))
        names.append(shown(report.names[number]))
    others = len(report.names) - len(looks)
    if others:
        handles.append(Line2D([], [], color=OTHERS))
        names.append("1 other" if others == 1 else f"{others} others")
    return handles, names


def _slices(report: CallReport) -> list[tuple[int | None, str]]:
    """The grids of two axes: one, or of three axes one for each range of the first."""
    if len(report.axes) == 2:
        return [(None, "")]
    if not report.rows:
        return [(None, "")]
    ranges = ranges_from_split_points(report.split_points[0])
    boxes = [((r.start or None, r.end),) for r in ranges]
    return [(i, box_text(report.axes[:1], box)) for i, box in enumerate(boxes)]


def _panels(count: int, height: float) -> tuple[Any, list[Any]]:
    """A figure of some panels, at most three beside each other."""
    columns = min(3, count)
    rows = math.ceil(count / columns)
    width = {1: _WIDTH, 2: 10.5, 3: 14.0}[columns]
    figure = _figure(width, height * rows + 0.7)
    panels = [*figure.subplots(rows, columns, squeeze=False).flat]
    for panel in panels[count:]:
        panel.set_axis_off()
    return figure, panels[:count]


def _winner_maps(report: CallReport) -> Picture:
    """Two or three axes: the winner of every cell, the cells as even tiles."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    looks = looks_of(report)
    slices = _slices(report)
    vertical, horizontal = report.split_points[-2:]
    rows, columns = len(vertical) + 1, len(horizontal) + 1
    height = min(9.0, max(2.4, 0.5 * rows + 0.6))
    figure, panels = _panels(len(slices), height)
    letters = 70 / min(3, len(slices)) * (1.0, 1.3, 1.75)[min(3, len(slices)) - 1]
    for panel, (first, title) in zip(panels, slices):
        for y, line in enumerate(winner_grid(report, first)):
            for x, winner in enumerate(line):
                _draw_tile(panel, report, looks, (x, y), winner, int(letters / columns))
        _name_tiles(panel, report, title, len(slices))
    won = [number for number in looks if number in report.winners]
    handles: list[Any] = []
    for number in won:
        colour, marker = looks[number]
        mark = Line2D([], [], linestyle="", marker=marker, color=_ink(colour))
        mark.set_markersize(3.5)
        handles.append((Patch(facecolor=colour), mark))
    names = [shown(report.names[number]) for number in won]
    if any(row.winner is None for row in report.rows):
        handles.append(Patch(**_NOWHERE))
        names.append("cannot occur")
    _legend_below(figure, handles, names)
    text = (
        f"Heat map of the winners of {report.op} over {' and '.join(report.axes)}: "
        f"{len(report.rows)} cells, cut at the split points"
    )
    return _picture(figure, "winners", text)


def _name_tiles(panel: Any, report: CallReport, title: str, panels: int) -> None:
    """Label the tiles of two axes: with ranges, or where there are many with splits."""
    *_, vertical, horizontal = [(), (), *report.split_points]
    room = 8 if panels == 1 else 4
    for axis, points, most in (
        (panel.xaxis, horizontal, room),
        (panel.yaxis, vertical, 2 * room),
    ):
        ranges = ranges_from_split_points(points)
        if len(ranges) <= most:
            axis.set_ticks(range(len(ranges)), map(range_text, ranges))
        else:
            step = math.ceil(len(points) / (1.5 * most))
            places = [i + 0.5 for i in range(len(points))][::step]
            axis.set_ticks(places, [str(point) for point in points[::step]])
    panel.set_xlim(-0.5, len(horizontal) + 0.5)
    panel.set_ylim(-0.5, len(vertical) + 0.5)
    panel.tick_params(length=0 if len(horizontal) < room else 3)
    panel.set_xlabel(shown(report.axes[-1], 50))
    panel.set_ylabel(shown(report.axes[-2], 50))
    panel.set_title(shown(title, 50))
    for spine in panel.spines.values():
        spine.set_visible(False)


def _draw_tile(
    axes: Any,
    report: CallReport,
    looks: dict[int, tuple[str, str]],
    place: tuple[int, int],
    winner: int | None,
    letters: int,
) -> None:
    """A cell in its winner's colour, with its name or, if it is too long, a marker."""
    from matplotlib.patches import Rectangle

    corner = place[0] - 0.5, place[1] - 0.5
    if winner is None:
        axes.add_patch(Rectangle(corner, 1, 1, **_NOWHERE))
        return
    colour, marker = looks.get(winner, (OTHERS, "o"))
    axes.add_patch(
        Rectangle(corner, 1, 1, facecolor=colour, edgecolor="white", linewidth=1.5)
    )
    name = shown(report.names[winner], 60)
    if len(name) <= letters:
        axes.text(*place, name, ha="center", va="center", color=_ink(colour))
    else:
        axes.plot(*place, marker=marker, color=_ink(colour), markersize=5, alpha=0.8)


def _loss_maps(report: CallReport) -> Picture:
    """Two or three axes: what the dispatch loses at every size that was measured.

    The sizes stand on the tiles of the heat map of winners: those beside a split point
    would hide each other on axes of their own. Where operands differ in other sizes
    only, or three axes in the first one, it is the mean.
    """
    from matplotlib.colors import LinearSegmentedColormap, PowerNorm

    looks = looks_of(report)
    best = report.best_single
    losses = [
        (point, point.loss_of(point.dispatched if report.rows else best))
        for point in report.points
    ]
    known = [loss for _, loss in losses if loss is not None]
    # Small losses are told apart too.
    scale = PowerNorm(0.5, 0, 100 * max([*known, 0.05]))
    colours = LinearSegmentedColormap.from_list(
        "loss", ["#ffffff", "#f7d77e", "#d55e00", "#6b1500"]
    )
    slices = _slices(report)
    *_, vertical, horizontal = [(), (), *report.split_points]
    rows, columns = len(vertical) + 1, len(horizontal) + 1
    figure, panels = _panels(len(slices), min(10.0, max(3.6, 1.05 * rows + 0.6)))
    across = _TilePlaces(horizontal, [point.sizes[-1] for point in report.points])
    upward = _TilePlaces(vertical, [point.sizes[-2] for point in report.points])
    is_labelled = rows * columns <= 36 / min(3, len(slices)) and len(losses) <= 400
    drawn = None
    for panel, (first, title) in zip(panels, slices):
        grid: list[list[int | None]] = [[None]]
        if report.rows:
            grid = winner_grid(report, first)
        for y, line in enumerate(grid):
            for x, winner in enumerate(line):
                colour = "#d0d0d0" if winner is None else looks[winner][0]
                _draw_back(panel, (x, y), colour)
        here = [(p, loss) for p, loss in losses if _in_slice(report, p, first)]
        together: dict[tuple[float, float], list[float]] = {}
        for p, loss in here:
            if loss is not None:
                spot = across[p.sizes[-1]], upward[p.sizes[-2]]
                together.setdefault(spot, []).append(loss)
        at = [(*spot, 100 * _mean(found)) for spot, found in together.items()]
        drawn = panel.scatter(
            [spot[0] for spot in at],
            [spot[1] for spot in at],
            c=[spot[2] for spot in at],
            cmap=colours,
            norm=scale,
            s=50 if is_labelled else 18,
            edgecolors="#404040",
            linewidths=0.6,
            zorder=3,
        )
        for *place, mean_loss in at if is_labelled else ():
            if mean_loss >= 0.5:
                panel.annotate(
                    f"{mean_loss:.0f}",
                    place,
                    (0, -5),
                    textcoords="offset points",
                    ha="center",
                    va="top",
                    fontsize=7.5,
                )
        unknown = [p.sizes for p, loss in here if loss is None]
        panel.plot(
            [across[sizes[-1]] for sizes in unknown],
            [upward[sizes[-2]] for sizes in unknown],
            color="#606060",
            marker="x",
            linestyle="",
        )
        _name_tiles(panel, report, title, len(slices))
        for axis, places in ((panel.xaxis, across), (panel.yaxis, upward)):
            if len(places.sizes) <= 12 and not places.is_cut:
                ticks = [places[size] for size in places.sizes]
                axis.set_ticks(ticks, [str(size) for size in places.sizes])
    who = "the dispatch loses" if report.rows else "the best single candidate loses"
    bar = figure.colorbar(drawn, ax=panels, aspect=30, pad=0.02)
    bar.set_label(f"% that {who} to the fastest")
    text = (
        f"What {who} to the fastest candidate of {report.op} at each of "
        f"{len(report.points)} measured sizes, over {' and '.join(report.axes)}"
    )
    return _picture(figure, "loss", text)


class _TilePlaces:
    """Where sizes of one axis stand on even tiles.

    Those of a range are spread over its tile, as far apart as on a logarithmic axis.
    """

    def __init__(self, split_points: Sequence[int], sizes: Sequence[int]) -> None:
        self.sizes = sorted(dict.fromkeys(sizes))
        self.is_cut = len(split_points) > 0
        self._ranges = ranges_from_split_points(split_points)
        self._limits: dict[int, tuple[int, int]] = {}
        for size in sizes:
            number = range_of(self._ranges, size)
            low, high = self._limits.get(number, (size, size))
            self._limits[number] = min(low, size), max(high, size)

    def __getitem__(self, size: int) -> float:
        number = range_of(self._ranges, size)
        low, high = (max(1, limit) for limit in self._limits[number])
        if low == high:
            return float(number)
        return (
            number - 0.36 + 0.72 * math.log(max(1, size) / low) / math.log(high / low)
        )


def _draw_back(axes: Any, place: tuple[int, int], colour: str) -> None:
    """A pale tile."""
    from matplotlib.patches import Rectangle

    corner = place[0] - 0.5, place[1] - 0.5
    tile = Rectangle(corner, 1, 1, facecolor=colour, alpha=0.22, zorder=1)
    edge = Rectangle(corner, 1, 1, fill=False, edgecolor="white", linewidth=1.5)
    axes.add_patch(tile)
    axes.add_patch(edge)


def _in_slice(report: CallReport, point: Point, first: int | None) -> bool:
    if first is None:
        return True
    per_slice = len(report.rows) // (len(report.split_points[0]) + 1)
    return point.sizes[0] in report.rows[first * per_slice].cell.ranges[0]


# A decision's boxes beyond these are counted only.
_BOXES_SHOWN = 5
_LETTER = 0.0753  # inches that a letter of the tree's font is wide, in its size
_LINE = 0.18  # inches
_AIR = 0.16  # inches


@dataclass(frozen=True)
class _Box:
    """A node's text and place, in inches from the left and from the top."""

    lines: tuple[str, ...]
    left: float
    middle: float
    leaf: int | None

    @property
    def width(self) -> float:
        return max(map(len, self.lines)) * _LETTER + 0.24

    @property
    def height(self) -> float:
        return len(self.lines) * _LINE + _AIR


def _tree(report: CallReport, tree: Decision) -> Picture:
    """The nested conds as a graph that grows to the right."""
    from matplotlib.patches import FancyBboxPatch

    looks = looks_of(report)
    columns = [0.1]
    for level in _levels(tree):
        widest = max(len(line) for node in level for line in _lines(report, node))
        columns.append(columns[-1] + widest * _LETTER + 0.24 + 0.75)
    boxes: list[_Box] = []
    links: list[tuple[_Box, _Box, str]] = []
    _place(report, tree, columns, 0.05, boxes, links)
    width, height = columns[-1] - 0.65, _needed(report, tree) + 0.1
    figure = _figure(width, height)
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.set_axis_off()
    for parent, child, label in links:
        start, end = parent.left + parent.width, child.left
        bend = end - 0.45
        axes.plot(
            [start, bend, bend, end],
            [parent.middle, parent.middle, child.middle, child.middle],
            color="#707070",
            linewidth=1.1,
            zorder=1,
        )
        axes.text(
            end - 0.22,
            child.middle - 0.03,
            label,
            ha="center",
            va="bottom",
            fontsize=8,
            color="#404040",
        )
    for box in boxes:
        colour = "#f2f2f2" if box.leaf is None else looks.get(box.leaf, (OTHERS,))[0]
        rounded = 0.06 if box.leaf is None else 0.14
        axes.add_patch(
            FancyBboxPatch(
                (box.left, box.middle - box.height / 2),
                box.width,
                box.height,
                boxstyle=f"round,pad=0,rounding_size={rounded}",
                facecolor=colour,
                edgecolor="#707070",
                linewidth=0.9,
                zorder=2,
            )
        )
        axes.text(
            box.left + box.width / 2,
            box.middle,
            "\n".join(box.lines),
            ha="center",
            va="center_baseline" if len(box.lines) == 1 else "center",
            family="DejaVu Sans Mono",
            color="#202020" if box.leaf is None else _ink(colour),
            zorder=3,
        )
    text = f"The tree of conds of {report.op}: {tree_text(report, tree)}"
    return _picture(figure, "tree", text)


def _levels(tree: DecisionTree) -> Iterator[list[DecisionTree]]:
    """The nodes of a tree by how many decisions lead to them."""
    level = [tree]
    while level:
        yield level
        decisions = [node for node in level if isinstance(node, Decision)]
        level = [side for one in decisions for side in (one.inside, one.outside)]


def _lines(report: CallReport, node: DecisionTree) -> tuple[str, ...]:
    if not isinstance(node, Decision):
        return (shown(report.names[report.branches[node.branch].winner]),)
    texts = [box_text(report.axes, box) for box in node.boxes[:_BOXES_SHOWN]]
    lines = [*(f"{text} or" for text in texts[:-1]), texts[-1]]
    more = len(node.boxes) - len(texts)
    if more:
        lines[-1] += " or"
        lines.append(f"… {more} more")
    return tuple(shown(line, 90) for line in lines)


def _needed(report: CallReport, node: DecisionTree) -> float:
    """How many inches a node and what is below it take from top to bottom."""
    own = len(_lines(report, node)) * _LINE + _AIR + 0.18
    if not isinstance(node, Decision):
        return own
    return max(own, _needed(report, node.inside) + _needed(report, node.outside))


def _place(
    report: CallReport,
    node: DecisionTree,
    columns: Sequence[float],
    top: float,
    boxes: list[_Box],
    links: list[tuple[_Box, _Box, str]],
) -> _Box:
    """Place a node and what is below it in the inches that they need from ``top``."""
    lines = _lines(report, node)
    middle = top + _needed(report, node) / 2
    if not isinstance(node, Decision):
        winner = report.branches[node.branch].winner
        box = _Box(lines, columns[0], middle, winner)
    else:
        first, second = (_needed(report, side) for side in (node.inside, node.outside))
        start = middle - (first + second) / 2
        inside = _place(report, node.inside, columns[1:], start, boxes, links)
        outside = _place(report, node.outside, columns[1:], start + first, boxes, links)
        box = _Box(lines, columns[0], middle, None)
        links.extend(((box, inside, "yes"), (box, outside, "no")))
    boxes.append(box)
    return box
