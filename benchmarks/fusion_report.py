"""The tables, the goals and the picture of the fusion benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fusion_peers import HIDDEN, OURS, REFERENCE, TIME_LIMIT
from goals import Goal, goals_table
from reporting import (
    geometric_mean,
    machine_line,
    new_figure,
    report_console,
    write_plot,
)
from rich.box import SIMPLE_HEAD
from rich.table import Table


def print_report(data: Mapping[str, Any]) -> tuple[list[Goal], list[Goal]]:
    """Print the tables; returns the goals that are counted and those that are timed."""
    console = report_console()
    arguments = data["arguments"]
    console.print(machine_line(data["machine"]))
    console.print(
        f"one thread, float32 of rows x {HIDDEN}, medians of {arguments['repeats']} "
        f"interleaved repeats of about {arguments['milliseconds']} ms; ratios are to "
        "plain in the same process and repeat, that of plain is to itself"
    )
    for model in data["models"]:
        console.print(_table(data, model))
    counted = [goal for one in data["rounds"] for goal in counted_goals(one)]
    timed = [goal for one in data["rounds"] for goal in timed_goals(one)]
    console.print(goals_table([*counted, *timed]))
    return counted, timed


def _table(data: Mapping[str, Any], model: str) -> Table:
    table = Table(
        title=f"{model}: {data['models'][model]}", box=SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    table.add_column("winners", justify="right")
    table.add_column("variant", no_wrap=True)
    table.add_column("kernels a run", justify="right")
    table.add_column("MB moved, largest", justify="right")
    table.add_column("bytes / plain", justify="right", style="bold")
    table.add_column("ms, largest", justify="right")
    table.add_column("time / plain, mean", justify="right", style="bold")
    table.add_column("worst size", justify="right")
    for one in data["rounds"]:
        if one["model"] != model:
            continue
        for name in one["variants"]:
            count = str(one["winners"]) if name == REFERENCE else ""
            title = f"{name}: {data['variants'][name]}"
            table.add_row(count, title, *_cells(one, name))
        table.add_section()
    return table


def _cells(one: Mapping[str, Any], name: str) -> list[str]:
    answer = one["variants"][name]
    if "failure" in answer:
        return [f"[red]{answer['failure']['error']}[/]"]
    runs, plain_runs = answer["runs"], one["variants"][REFERENCE]["runs"]
    kernels = sorted({len(run["kernels"]) for run in runs})
    largest = one["timings"][-1]["variants"][name]["microseconds"]["median"]
    ratios = time_ratios(one, name)
    return [
        " or ".join(map(str, kernels)),
        f"{runs[-1]['bytes'] / 1e6:.1f}",
        f"{_bytes(runs) / _bytes(plain_runs):.3f}",
        f"{largest / 1e3:.2f}",
        f"{geometric_mean(ratios):.3f}",
        f"{max(ratios):.3f}",
    ]


def _bytes(runs: Sequence[Mapping[str, Any]]) -> int:
    return sum(run["bytes"] for run in runs)


def time_ratios(one: Mapping[str, Any], name: str) -> list[float]:
    """The median ratio to plain at each number of rows."""
    return [t["variants"][name]["ratio"]["median"] for t in one["timings"]]


def counted_goals(one: Mapping[str, Any]) -> list[Goal]:
    """That ours runs what plain runs: exact, whatever the machine does besides."""
    where = f"{one['model']}, {one['winners']} winners: "
    if OURS not in one["variants"]:
        return []
    ours, plain = one["variants"][OURS], one["variants"][REFERENCE]["runs"]
    if "failure" in ours:
        return [Goal(f"{where}ours compiles", ours["failure"]["error"], False)]
    pairs = [*zip(ours["runs"], plain, strict=True)]
    kernels = [(len(a["kernels"]), len(b["kernels"])) for a, b in pairs]
    moved = [(a["bytes"], b["bytes"]) for a, b in pairs]
    # At the size where ours is furthest above plain.
    worst_kernels = max(kernels, key=lambda pair: pair[0] - pair[1])
    worst_bytes = max(moved, key=lambda pair: pair[0] / pair[1])
    return [
        Goal(
            f"{where}as many kernels as plain",
            f"{worst_kernels[0]}, {worst_kernels[1]}",
            all(a == b for a, b in kernels),
        ),
        Goal(
            f"{where}as many bytes as plain",
            f"{worst_bytes[0] / 1e6:.2f} MB, {worst_bytes[1] / 1e6:.2f} MB",
            all(a == b for a, b in moved),
        ),
    ]


def timed_goals(one: Mapping[str, Any]) -> list[Goal]:
    """That ours is about as fast as plain, as far as the repeats can tell."""
    if "failure" in one["variants"].get(OURS, {"failure": None}):
        return []
    worst = max(
        (timing["variants"][OURS]["ratio"] for timing in one["timings"]),
        key=lambda ratio: ratio["median"],
    )
    return [
        Goal(
            f"{one['model']}, {one['winners']} winners: at most {TIME_LIMIT:.2f}x "
            "plain at every size, within quartiles",
            f"{worst['median']:.3f}x, quartile from {worst['lower_quartile']:.3f}x",
            worst["lower_quartile"] <= TIME_LIMIT,
        )
    ]


def draw(path: Path, data: Mapping[str, Any]) -> None:
    """Time to plain by number of winners, with the kernels of a run on each bar."""
    models, names = [*data["models"]], [*data["variants"]]
    figure, axes = new_figure(4.6 * len(models), 4.4, columns=len(models))
    width = 0.8 / len(names)
    for axis, model in zip(axes if len(models) > 1 else [axes], models):
        rounds = [one for one in data["rounds"] if one["model"] == model]
        for index, name in enumerate(names):
            for position, one in enumerate(rounds):
                if "failure" in one["variants"][name]:
                    continue
                ratio = geometric_mean(time_ratios(one, name))
                kernels = len(one["variants"][name]["runs"][-1]["kernels"])
                place = position + (index - (len(names) - 1) / 2) * width
                bars = axis.bar(place, ratio, width, color=f"C{index}", label=name)
                axis.bar_label(bars, [str(kernels)], label_type="center")
        axis.axhline(1, color="black", linewidth=0.8)
        axis.axhline(TIME_LIMIT, color="black", linewidth=0.8, linestyle=":")
        axis.set_xticks(range(len(rounds)), [str(one["winners"]) for one in rounds])
        axis.set_xlabel("winners")
        axis.set_title(data["models"][model], fontsize="small")
    figure.supylabel("time of a call / plain, mean over the sizes", fontsize="medium")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    unique = dict(zip(labels, handles))
    figure.legend(unique.values(), unique, loc="outside right upper")
    figure.suptitle("In each bar: kernels that a call runs. Dotted: the 5 % goal")
    write_plot(path, figure)
