"""What every benchmark shares: the machine, statistics, arguments, output, progress.

Imports neither torch nor matplotlib before they are needed, so that a benchmark can
refuse bad arguments at once, and rich only to print tables or draw a bar.
"""

from __future__ import annotations

import argparse
import functools
import importlib.metadata
import json
import math
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console
    from rich.progress import Progress


def machine_description() -> dict[str, Any]:
    """What a reader must know of the machine to make sense of the figures.

    ``memory_gibibytes`` is what the machine has; ``cores`` what this process may use.
    """
    pages, page_bytes = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": _processor_model(),
        "architecture": platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gibibytes": round(pages * page_bytes / 2**30, 1),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": importlib.metadata.version("torch"),
    }


def _processor_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


def report_console() -> Console:
    """Where tables go. Into a file they go at full width, not at 80 columns."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console.width = 140
    return console


def machine_line(machine: Mapping[str, Any]) -> str:
    """The machine in one line, for the head of a table."""
    return (
        f"torch {machine['torch']}, Python {machine['python']}, "
        f"{machine['processor']} ({machine['architecture']}), "
        f"{machine['cores']} cores"
    )


def median(values: Sequence[float]) -> float:
    """The median, in the unit of the values."""
    return statistics.median(values)


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """The lower and the upper quartile, in the unit of the values."""
    if len(values) < 2:
        return values[0], values[0]
    lower, _, upper = statistics.quantiles(values, n=4, method="inclusive")
    return lower, upper


def summary(values: Sequence[float]) -> dict[str, Any]:
    """Median, quartiles and the repeats themselves, as they go into the JSON file."""
    lower, upper = quartiles(values)
    return {
        "median": median(values),
        "lower_quartile": lower,
        "upper_quartile": upper,
        "repeats": [*values],
    }


def paired_ratios(values: Sequence[float], reference: Sequence[float]) -> list[float]:
    """Each repeat's ratio to the reference in the same repeat.

    What slows the machine for a while slows both, and drops out of the ratio.
    """
    return [value / base for value, base in zip(values, reference, strict=True)]


def geometric_mean(values: Sequence[float]) -> float:
    """The geometric mean of positive values, the right one for ratios."""
    return statistics.geometric_mean(values)


def rotated(names: Sequence[str], repeat: int) -> list[str]:
    """The names in the order of this repeat: each comes first equally often."""
    start = repeat % len(names) if names else 0
    return [*names[start:], *names[:start]]


def interleaved(
    measure_functions: Mapping[str, Callable[[], float]],
    repeats: int,
    after_repeat: Callable[[], None] | None = None,
) -> dict[str, list[float]]:
    """Measure each function once a repeat, in an order that rotates.

    Drift of the machine then hits all of them alike. The unit is the functions' own;
    ``after_repeat`` is called after each repeat (for a progress bar).
    """
    measured: dict[str, list[float]] = {name: [] for name in measure_functions}
    for repeat in range(repeats):
        for name in rotated([*measure_functions], repeat):
            measured[name].append(measure_functions[name]())
        if after_repeat is not None:
            after_repeat()
    return measured


def whole_number(minimum: int, maximum: float, text: str) -> int:
    """For ``type=`` of an argument, through :func:`integer_in`."""
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number") from None
    if not minimum <= value <= maximum:
        limits = f"at least {minimum}" if value < minimum else f"at most {maximum}"
        raise argparse.ArgumentTypeError(f"must be {limits}, got {value}")
    return value


def integer_in(minimum: int, maximum: float = math.inf) -> Callable[[str], int]:
    """A ``type=`` for an argument that must be an integer within the limits.

    argparse names the argument in the error that it makes of it.
    """
    return functools.partial(whole_number, minimum, maximum)


def output_file(suffix: str, text: str) -> Path:
    """For ``type=``: a path whose folder is there and whose name has the suffix."""
    path = Path(text)
    if path.suffix != suffix:
        raise argparse.ArgumentTypeError(f"'{text}' does not end in {suffix}")
    if not path.absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder '{path.parent}'")
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"'{text}' is a folder")
    if not os.access(path.absolute().parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"cannot write into '{path.parent}'")
    return path


def add_json_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--json``, which is checked before any work starts."""
    parser.add_argument(
        "--json",
        type=functools.partial(output_file, ".json"),
        metavar="FILE.json",
        help="write all figures there, with the machine and the arguments",
    )


def add_output_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--json`` and ``--plot``; both are checked before any work starts."""
    add_json_argument(parser)
    parser.add_argument(
        "--plot",
        type=functools.partial(output_file, ".png"),
        metavar="FILE.png",
        help="draw the plot there",
    )


def arguments_for_json(options: argparse.Namespace) -> dict[str, Any]:
    """The arguments of a run, less those that only say where its output goes.

    Paths of a machine have no place in a file that others read.
    """
    values = {name: v for name, v in vars(options).items() if not isinstance(v, Path)}
    return {name: v for name, v in values.items() if name not in ("json", "plot")}


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Replace the file at once: a reader finds the old one or the new, never a part."""
    text = json.dumps(data, indent=2, allow_nan=False) + "\n"
    _replace(path, lambda unfinished: unfinished.write_text(text))


def write_plot(path: Path, figure: Figure) -> None:
    """Replace the picture at once."""
    _replace(path, lambda unfinished: figure.savefig(unfinished, format="png", dpi=150))


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    path = path.absolute()
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(descriptor)
    unfinished = Path(name)
    try:
        write(unfinished)
        umask = os.umask(0)
        os.umask(umask)
        unfinished.chmod(0o666 & ~umask)  # mkstemp's files are for the owner only
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def new_figure(width: float, height: float, columns: int = 1) -> tuple[Figure, Any]:
    """A figure of inches and its axes (an array, for several columns), off screen."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        1, columns, figsize=(width, height), layout="constrained"
    )
    return figure, axes


class Reporter:
    """Says what is going on: the description changes, the bar moves."""

    def __init__(self, bar: Progress, total: int) -> None:
        self._bar = bar
        self._task = bar.add_task("", total=total)

    def describe(self, text: str) -> None:
        """What is being done now."""
        self._bar.update(self._task, description=text)

    def advance(self) -> None:
        """One of the steps is done."""
        self._bar.advance(self._task)


@contextmanager
def progress(total: int) -> Iterator[Reporter]:
    """A progress bar of ``total`` steps on a terminal; silent elsewhere and in CI."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty() or bool(os.environ.get("CI")),
    ) as bar:
        yield Reporter(bar, total)
