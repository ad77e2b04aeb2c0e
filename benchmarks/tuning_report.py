"""The tables, goals and plot of the tuning benchmark."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from goals import Goal, goals_table
from reporting import (
    machine_line,
    median,
    new_figure,
    paired_ratios,
    report_console,
    write_plot,
)
from rich.box import SIMPLE_HEAD
from rich.table import Table

ROWS = (("ours", "cold"), ("ours", "warm"), ("base", "cold"))


class Results:
    """Finds a case's figures."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.candidates: int = data["candidates"]
        self._by_case = {
            (r["action"], r["count"], r["peer"], r["cache"]): r for r in data["results"]
        }

    def counts(self, action: str) -> list[int]:
        """The numbers of ranges or branches that were compiled."""
        return sorted({count for kind, count, *_ in self._by_case if kind == action})

    def get(
        self, action: str, count: int, peer: str = "ours", cache: str = "cold"
    ) -> Mapping[str, Any] | None:
        """The record, with figures or with what went wrong; None if not measured."""
        return self._by_case.get((action, count, peer, cache))

    def figure(
        self, name: str, action: str, count: int, peer: str = "ours"
    ) -> float | None:
        """The median of a cold compile, in its unit; None if there is none."""
        found = self.get(action, count, peer)
        if found is None or found.get(name) is None:
            return None
        return found[name]["median"]

    def seconds_to_base(self, count: int) -> float | None:
        """Ours to the base's, both of the same repeat; None if one is not there."""
        ours, base = self.get("tuned", count), self.get("tuned", count, "base")
        if not ours or not base or "failure" in ours or "failure" in base:
            return None
        return median(
            paired_ratios(ours["seconds"]["repeats"], base["seconds"]["repeats"])
        )


def print_report(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Print the tables; returns the goals for the JSON file."""
    console = report_console()
    results = Results(data)
    console.print(machine_line(data["machine"]))
    console.print(
        f"medians of {data['arguments']['repeats']} interleaved repeats, each in a "
        "fresh process; one thread"
    )
    console.print(_tuned_table(results))
    if results.counts("given"):
        console.print(_given_table(results))
    goals = [*tuning_goals(results)]
    console.print(goals_table(goals))
    return [goal.as_json() for goal in goals]


def _tuned_table(results: Results) -> Table:
    table = Table(
        title=f"Compile of an op with {results.candidates} candidates, tuned",
        caption="modules: all that were compiled, the graph's own among them",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    table.add_column("ranges", justify="right")
    table.add_column("")
    headings = ("seconds", "tuning s", "to base", "modules", "compiled", "timed")
    for heading in (*headings, "cache hits", "extra MiB"):
        table.add_column(heading, justify="right", no_wrap=True)
    for count in results.counts("tuned"):
        for index, (peer, cache) in enumerate(ROWS):
            record = results.get("tuned", count, peer, cache)
            if record is None:
                continue
            label = f"{peer}, warm" if cache == "warm" else peer
            ratio = None
            if (peer, cache) == ("ours", "cold"):
                ratio = results.seconds_to_base(count)
            cells = _cells(record, ratio)
            table.add_row("" if index else str(count), label, *cells)
        table.add_section()
    return table


def _cells(record: Mapping[str, Any], ratio: float | None) -> list[str]:
    if "failure" in record:
        return [f"[red]{record['failure']['error']}[/]"]
    tuning = record["tuning_seconds"]
    counted = [
        _all_of([one.get(name) for one in record["counters"]])
        for name in (
            "custom_op_candidates_compiled",
            "custom_op_candidates_timed",
            "custom_op_tuning_cache_hit",
        )
    ]
    return [
        f"{record['seconds']['median']:.2f}",
        "" if tuning is None else f"{tuning['median']:.2f}",
        "" if ratio is None else f"{ratio:.2f}x",
        _all_of(record["modules"]),
        *counted,
        f"{record['extra_mebibytes']['median']:.0f}",
    ]


def _all_of(values: list[int | None]) -> str:
    """One number if all repeats agree."""
    return ", ".join(sorted({"" if v is None else str(v) for v in values}))


def _given_table(results: Results) -> Table:
    table = Table(
        title="Compile of distinct branches, winners given",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for heading in ("branches", "seconds", "seconds a branch", "modules", "extra MiB"):
        table.add_column(heading, justify="right", no_wrap=True)
    for count in results.counts("given"):
        record = results.get("given", count)
        assert record is not None
        if "failure" in record:
            table.add_row(str(count), f"[red]{record['failure']['error']}[/]")
            continue
        seconds = record["seconds"]["median"]
        table.add_row(
            str(count),
            f"{seconds:.2f}",
            f"{seconds / count:.3f}",
            _all_of(record["modules"]),
            f"{record['extra_mebibytes']['median']:.0f}",
        )
    return table


def tuning_goals(results: Results) -> Iterator[Goal]:
    """The goals that the counts of this run let one check."""
    tuned = results.counts("tuned")
    for count in tuned:
        record = results.get("tuned", count)
        if record is not None and "failure" in record:
            error = record["failure"]["error"]
            yield Goal(f"ours compiles with {count} ranges", error, False)
    yield from _modules_goal(results)
    yield from _ranges_goal(results)
    yield from _base_goals(results)
    yield from _warm_goal(results)
    yield from _linear_goal(results)


def _modules_goal(results: Results) -> Iterator[Goal]:
    modules = []
    for count in results.counts("tuned"):
        record = results.get("tuned", count)
        if record is not None and "failure" not in record:
            modules += [number - 1 for number in record["modules"]]
    if modules:
        # The op itself is a candidate as well, and may or may not need a module.
        candidates = results.candidates, results.candidates + 1
        yield Goal(
            "modules compiled to tune: one a candidate "
            f"({results.candidates} and the op itself), however many ranges",
            " to ".join(str(n) for n in sorted({min(modules), max(modules)})),
            min(modules) == max(modules) and max(modules) in candidates,
        )


def _ranges_goal(results: Results) -> Iterator[Goal]:
    few = results.figure("tuning_seconds", "tuned", 4)
    many = results.figure("tuning_seconds", "tuned", 64)
    if few and many:
        yield Goal(
            "tuning for 64 ranges at most 1.5x that for 4",
            f"{many / few:.2f}x",
            many <= 1.5 * few,
        )


def _base_goals(results: Results) -> Iterator[Goal]:
    for count, limit in ((2, 1.0), (64, 0.5)):
        base = results.get("tuned", count, "base")
        ours = results.get("tuned", count)
        if base is None or ours is None:
            continue
        goal = f"compile for {count} ranges at most {limit:g}x the base's"
        ratio = results.seconds_to_base(count)
        if ratio is not None:
            yield Goal(goal, f"{ratio:.2f}x", ratio <= limit)
        elif "failure" not in ours:
            yield Goal(goal, f"base: {base['failure']['error']}", True)


def _warm_goal(results: Results) -> Iterator[Goal]:
    timed = []
    for count in results.counts("tuned"):
        record = results.get("tuned", count, cache="warm")
        if record is not None and "failure" not in record:
            timed += [
                one.get("custom_op_candidates_timed", 0) for one in record["counters"]
            ]
    if timed:
        goal = "a second process times nothing"
        yield Goal(goal, f"at most {max(timed)} timed", max(timed) == 0)


def _linear_goal(results: Results) -> Iterator[Goal]:
    each = {
        count: seconds / count
        for count in results.counts("given")
        if (seconds := results.figure("seconds", "given", count)) is not None
    }
    for count in results.counts("given"):
        if count not in each:
            record = results.get("given", count) or {}
            error = record["failure"]["error"]
            yield Goal(f"ours compiles with {count} branches", error, False)
    if len(each) > 1:
        few, many = min(each), max(each)
        ratio = each[many] / each[few]
        yield Goal(
            f"seconds a branch of {many} branches at most 1.5x those of {few}",
            f"{ratio:.2f}x",
            ratio <= 1.5,
        )


def draw(path: Path, data: Mapping[str, Any]) -> None:
    """Seconds and modules by number of ranges, and seconds by number of branches."""
    results = Results(data)
    figure, axes = new_figure(15, 4.5, columns=3)
    tuned, given = results.counts("tuned"), results.counts("given")
    for peer, cache in ROWS:
        label = f"{peer}, warm" if cache == "warm" else peer
        records = {n: results.get("tuned", n, peer, cache) for n in tuned}
        done = {n: r for n, r in records.items() if r and "failure" not in r}
        if not done:
            continue
        seconds = [r["seconds"]["median"] for r in done.values()]
        axes[0].plot([*done], seconds, marker="o", label=label)
        modules = [r["modules"][-1] for r in done.values()]
        axes[1].plot([*done], modules, marker="o", label=label)
    points = [(n, results.figure("seconds", "given", n)) for n in given]
    known = [(n, seconds) for n, seconds in points if seconds is not None]
    if known:
        axes[2].plot(
            [n for n, _ in known], [s for _, s in known], marker="o", label="ours"
        )
        branches, seconds_then = known[0]
        # What exact proportion to the first point would be.
        axes[2].plot(
            [n for n, _ in known],
            [n * seconds_then / branches for n, _ in known],
            "k:",
            label="linear",
        )
    titles = (
        (f"compile, {results.candidates} candidates, tuned", "ranges", "seconds"),
        ("modules compiled", "ranges", "modules"),
        ("compile, winners given", "distinct branches", "seconds"),
    )
    for axis, ticks, (title, across, up) in zip(axes, (tuned, tuned, given), titles):
        axis.set_title(title)
        axis.set_xlabel(across)
        axis.set_ylabel(up)
        axis.set_xscale("log", base=2)
        axis.set_yscale("log", base=2)
        axis.set_xticks(ticks)
        axis.xaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_major_formatter("{x:g}")
        axis.grid(alpha=0.3)
        if axis.lines:
            axis.legend()
    write_plot(path, figure)
