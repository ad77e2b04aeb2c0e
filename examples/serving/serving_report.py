"""The table, the picture and the figures of a comparison."""

from typing import Any

import numpy
from matplotlib.figure import Figure
from reporting import new_figure
from rich.box import SIMPLE_HEAD
from rich.table import Table
from variants import Comparison, Variant

NOT_SINGLE = ("dispatch", "graph per range", "eager")


def singles_of(comparison: Comparison) -> list[Variant]:
    """Those with one implementation of each op."""
    return [one for one in comparison.variants if one.name not in NOT_SINGLE]


def ceiling_of(comparison: Comparison) -> float:
    """Seconds with the best single variant at each number of tokens.

    The best by the median over the steps of that number, as the minimum of each step
    would be that of its noise.
    """
    return sum(_cheapest(comparison, count) for count in set(comparison.counts))


def _cheapest(comparison: Comparison, count: int) -> float:
    steps = [n for n, one in enumerate(comparison.counts) if one == count]
    best = min(
        singles_of(comparison),
        key=lambda variant: numpy.median([variant.times[n] for n in steps]),
    )
    return sum(best.times[n] for n in steps)


def summary_of(comparison: Comparison) -> dict[str, Any]:
    """All figures, for the JSON file."""
    tokens = sum(comparison.counts)
    ceiling = ceiling_of(comparison)
    best = min(sum(one.times) for one in singles_of(comparison))
    ours, ranges = comparison.variants[:2]
    seconds = sum(ours.times)
    return {
        "steps": len(comparison.counts),
        "tokens": tokens,
        "largest_step": max(comparison.counts),
        "ceiling_tokens_per_second": tokens / ceiling,
        "dispatch_to_best_single": best / seconds,
        "dispatch_to_graph_per_range": sum(ranges.times) / seconds,
        "dispatch_to_ceiling": ceiling / seconds,
        "compile_to_graph_per_range": ours.seconds / ranges.seconds,
        "code_to_graph_per_range": ours.code_bytes / ranges.code_bytes,
        "variants": {
            one.name: {
                "tokens_per_second": tokens / sum(one.times),
                "is_upper_bound": comparison.is_bound(one),
                "p50_milliseconds": float(numpy.percentile(one.times, 50)) * 1e3,
                "p99_milliseconds": float(numpy.percentile(one.times, 99)) * 1e3,
                "graphs": one.graphs,
                "compile_seconds": one.seconds,
                "code_bytes": one.code_bytes,
                "peak_bytes": one.peak_bytes,
            }
            for one in comparison.variants
        },
    }


def table_of(comparison: Comparison) -> Table:
    """One line for each variant, then what the dispatch is compared with."""
    figures = summary_of(comparison)
    title = "{steps} steps, {tokens} tokens, at most {largest_step} a step"
    table = Table(title=title.format(**figures), box=SIMPLE_HEAD)
    table.add_column("variant")
    for name in ("tokens/s", "p50 ms", "p99 ms", "graphs", "compile s"):
        table.add_column(name, justify="right")
    table.add_column("code MB", justify="right")
    table.add_column("peak MB", justify="right")
    for name, one in figures["variants"].items():
        bound = "<" if one["is_upper_bound"] else ""
        table.add_row(
            name,
            f"{bound}{one['tokens_per_second']:.0f}",
            f"{one['p50_milliseconds']:.2f}",
            f"{one['p99_milliseconds']:.0f}",
            str(one["graphs"]),
            f"{one['compile_seconds']:.1f}",
            f"{one['code_bytes'] / 1e6:.2f}",
            f"{one['peak_bytes'] / 1e6:.0f}" if one["peak_bytes"] else "",
        )
    table.add_section()
    for name, value in figures.items():
        if name.startswith(("dispatch_to", "compile_to", "code_to")):
            table.add_row(name.replace("_", " "), f"{value:.3f}")
    return table


def draw(comparison: Comparison) -> Figure:
    """Time of a step against its tokens, relative to the dispatch."""
    figure, axes = new_figure(8, 4.5)
    counts = numpy.array(comparison.counts)
    edges = [1, 2, 3, 5, 9, 33, 257, counts.max() + 1]
    masks = {
        str(a) if b == a + 1 else f"{a}-{b - 1}": (counts >= a) & (counts < b)
        for a, b in zip(edges, edges[1:])
    }
    masks = {name: mask for name, mask in masks.items() if mask.any()}
    ours = numpy.array(comparison.variants[0].times)
    for variant in comparison.variants:
        ratios = numpy.array(variant.times) / ours
        medians = [float(numpy.median(ratios[mask])) for mask in masks.values()]
        axes.plot([*masks], medians, marker="o", label=variant.name)
    axes.set_yscale("log")
    axes.set_xlabel("tokens in the step")
    axes.set_ylabel("time of a step / that of the dispatch (median)")
    axes.legend(fontsize="small", ncols=2)
    return figure
