"""Pictures of times: bars of plain autotuning, curves over the sizes of one axis."""

from __future__ import annotations

import math
from typing import Any, TYPE_CHECKING

from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator, PercentFormatter

from range_tuning.drawing import (
    legend_below,
    Look,
    looks_of,
    new_figure,
    NOWHERE,
    OTHERS,
    Picture,
    picture_of,
    shown,
    WIDTH,
)
from range_tuning.report_data import mean_loss, percent

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from matplotlib.axes import Axes

    from range_tuning.report_data import CallReport


def bars(report: CallReport) -> Picture:
    """Plain autotuning: what every candidate took."""
    looks = looks_of(report)
    rows = [(report.curve(n), n, name) for n, name in enumerate(report.names)]
    rows.sort(key=lambda row: row[0][0].middle if row[0] else math.inf)
    figure = new_figure(WIDTH, 1.1 + 0.3 * len(rows), layout="constrained")
    axes = figure.subplots()
    highest = max(time.high for times, *_ in rows for time in times)
    for place, (times, number, _) in enumerate(rows):
        if not times:
            axes.text(highest * 0.01, place, "failed", va="center", style="italic")
        for time in times:
            spread = [[time.middle - time.low], [time.high - time.middle]]
            colour = looks.get(number, Look()).colour
            errors = {"capsize": 2.5, "ecolor": "#303030"}
            axes.barh(
                place, time.middle, 0.7, color=colour, xerr=spread, error_kw=errors
            )
            wins = number in report.winners
            label = f"  {time.middle:.4g} ms{', chosen' if wins else ''}"
            weight = "bold" if wins else "normal"
            axes.text(time.high, place, label, va="center", weight=weight)
    axes.set_yticks(range(len(rows)), [shown(name) for *_, name in rows])
    axes.set(ylim=(len(rows) - 0.4, -0.6), xlim=(0, highest * 1.3))
    axes.set_xlabel("milliseconds, with their noise")
    text = f"Bar chart of the milliseconds of {len(rows)} candidates of {report.op}"
    return picture_of(figure, "times", text)


def curves(report: CallReport, is_timed: bool) -> Picture:
    """One axis: times, ranges, and what the winners lose to the fastest."""
    looks = looks_of(report)
    (splits,) = report.split_points or ((),)
    sizes = [size for point in report.points for size in point.sizes]
    low, high = _size_limits([*sizes, *splits] or [1])
    heights = [*([0.32] if report.rows else []), *([3.4, 1.5] if is_timed else [0.4])]
    figure = new_figure(WIDTH, sum(heights) + 1.6, layout="constrained")
    grid = figure.subplots(
        len(heights), sharex=True, squeeze=False, height_ratios=heights
    )
    panels = [*grid.flat]
    panels[-1].set_xscale("log")
    panels[-1].set_xlim(low, high)
    bands = [*_bands(report, (low, high))]
    if report.rows:
        _draw_strip(panels.pop(0), report, looks, bands, splits)
    for panel in panels:
        for start, end, winner in bands:
            if winner is not None:
                colour = looks.get(winner, Look()).colour
                panel.axvspan(start, end, color=colour, alpha=0.11, linewidth=0)
        for split in splits:
            panel.axvline(split, color="#606060", linewidth=0.9, linestyle=(0, (4, 3)))
    if is_timed:
        _draw_times(panels[0], report, looks)
        _draw_losses(panels[1], report)
    else:
        panels[0].set(yticks=[], ylim=(0, 1))
        white = {"facecolor": "white", "edgecolor": "none", "pad": 2}
        middle = math.sqrt(low * high), 0.5
        panels[0].text(
            *middle, "nothing was timed", ha="center", va="center", bbox=white
        )
    most = min(12, 80 // (len(f"{high:.0f}") + 2))
    panels[-1].xaxis.set_major_locator(LogLocator(2, numticks=most))
    panels[-1].xaxis.set_major_formatter("{x:.0f}")
    panels[-1].xaxis.set_minor_locator(NullLocator())
    panels[-1].set_xlabel(shown(report.axes[0], 80))
    legend_below(figure, *_candidate_handles(report, looks))
    text = (
        f"Milliseconds against {report.axes[0]} for {len(report.names)} candidates of "
        f"{report.op}, on logarithmic axes, over {len(report.rows)} ranges; below, "
        "what is lost to the fastest at each size"
    )
    return picture_of(figure, "times", text)


def _size_limits(sizes: Sequence[int]) -> tuple[float, float]:
    """Limits of a logarithmic axis with some air; sizes of 0 stand at 1."""
    low, high = max(1, min(sizes)), max(1, *sizes, 1)
    # With room for a power of two.
    air = max((high / low) ** 0.03, 1.08 if high > 2 * low else 1.5)
    return low / air, high * air


def _bands(
    report: CallReport, limits: tuple[float, float]
) -> Iterator[tuple[float, float, int | None]]:
    """Where each range starts and ends on the axis, and its winner."""
    (splits,) = report.split_points or ((),)
    edges = [limits[0], *(min(max(s, limits[0]), limits[1]) for s in splits), limits[1]]
    yield from zip(edges, edges[1:], report.cell_winners)


def _draw_strip(
    axes: Axes,
    report: CallReport,
    looks: Mapping[int, Look],
    bands: Sequence[tuple[float, float, int | None]],
    splits: Sequence[int],
) -> None:
    """The ranges as a strip: each in its winner's colour, with its name."""
    axes.set(ylim=(0, 1), yticks=[])
    axes.tick_params(length=0, labelbottom=False)
    axes.spines[:].set_visible(False)
    low, high = bands[0][0], bands[-1][1]
    whole = math.log(high / low)
    for start, end, winner in bands:
        if winner is None:
            axes.axvspan(start, end, **NOWHERE)
            continue
        look = looks.get(winner, Look())
        axes.axvspan(start, end, facecolor=look.colour, edgecolor="white", lw=1.2)
        middle = math.sqrt(start * end)
        letters = int(math.log(end / start) / whole * 88) - 1
        name = shown(report.names[winner])
        if len(name) <= letters:
            axes.text(middle, 0.46, name, ha="center", va="center", color=look.ink)
        elif letters >= 1:
            axes.plot(middle, 0.5, marker=look.marker, color=look.ink, ms=5.5)
    labelled = -math.inf
    for split in splits:
        place = math.log(max(split, low) / low) / whole
        if place - labelled > 0.009 * (len(str(split)) + 2):
            labelled = place
            axes.text(split, 1.12, str(split), ha="center", va="bottom", weight="bold")


def _draw_times(axes: Axes, report: CallReport, looks: Mapping[int, Look]) -> None:
    axes.set_yscale("log")
    for number in range(len(report.names)):
        times = report.curve(number)
        sizes = [max(1, time.size) for time in times]
        middle = [time.middle for time in times]
        if number not in looks:
            axes.plot(sizes, middle, color=OTHERS, linewidth=0.8, zorder=1.5)
            continue
        look = looks[number]
        spread = [time.low for time in times], [time.high for time in times]
        axes.fill_between(sizes, *spread, color=look.colour, alpha=0.22, linewidth=0)
        line = Line2D(sizes, middle, color=look.colour, marker=look.marker, ms=4.5)
        line.set(linewidth=1.6, markevery=max(1, len(times) // 40))
        axes.add_line(line)
    axes.autoscale_view()
    low, high = axes.get_ylim()
    subs = (1, 2, 5) if high / low < 30 else (1,)
    axes.yaxis.set_major_locator(LogLocator(10, subs))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylabel("milliseconds")
    axes.grid(axis="y")


def _draw_losses(axes: Axes, report: CallReport) -> None:
    """What the dispatch, and the best single candidate, lose to the fastest."""
    best = report.best_single
    only = "" if best is None else f"only {shown(report.names[best], 28)}"
    points = report.points
    handles: list[Any] = []
    names = []
    highest = 0.0
    for what, mean, losses, how in (
        (
            only,
            report.single_loss,
            [point.loss_of(best) for point in points],
            ("#606060", "s", (0, (5, 2))),
        ),
        (
            "dispatch",
            report.dispatch_loss,
            [point.loss_of(point.dispatched) for point in points],
            ("#000000", "o", "-"),
        ),
    ):
        at_size: dict[int, list[float | None]] = {}
        for point, loss in zip(points, losses):
            at_size.setdefault(max(1, point.sizes[0]), []).append(loss)
        means = {size: mean_loss(at_size[size]) for size in sorted(at_size)}
        known = {size: 100 * loss for size, loss in means.items() if loss is not None}
        if mean is not None:
            line = Line2D([*known], [*known.values()], lw=1.3, ms=3.5)
            line.set(**dict(zip(("color", "marker", "linestyle"), how)))
            line.set_markevery(max(1, len(known) // 80))
            handles.append(axes.add_line(line))
            names.append(f"{what}: {percent(mean)} on average")
            highest = max(highest, *known.values())
    axes.set_ylabel("loss to the\nfastest")
    axes.grid(axis="y")
    if highest > 60:
        axes.set_yscale("symlog", linthresh=10, linscale=0.7)
        axes.set_ylim(-2.5, highest * 1.6)
        axes.set_yticks([], minor=True)
    else:
        axes.set_ylim(-0.04 * max(highest, 1.0), 1.15 * max(highest, 1.0))
    axes.yaxis.set_major_formatter(PercentFormatter(symbol=" %"))
    axes.legend(
        handles,
        names,
        loc="lower right",
        bbox_to_anchor=(1.0, 0.97),
        ncols=2,
        borderaxespad=0.1,
        columnspacing=1.2,
    )


def _candidate_handles(
    report: CallReport, looks: Mapping[int, Look]
) -> tuple[list[Line2D], list[str]]:
    handles = [
        Line2D([], [], color=look.colour, marker=look.marker, markersize=5)
        for look in looks.values()
    ]
    names = [shown(report.names[number]) for number in looks]
    others = len(report.names) - len(looks)
    if others:
        handles.append(Line2D([], [], color=OTHERS))
        names.append("1 other" if others == 1 else f"{others} others")
    return handles, names
