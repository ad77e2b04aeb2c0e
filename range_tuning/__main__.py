"""The commands of tuning tables: ``python -m range_tuning``."""

from __future__ import annotations

import argparse
import io
import os
import sys
from typing import Any, TYPE_CHECKING

from range_tuning.diff import diff_parts
from range_tuning.show import table_parts
from range_tuning.suggesting import suggest_file
from range_tuning.text import write
from range_tuning.tune import default_table, tune_script
from range_tuning.winners import winner_arguments
from torch._inductor.range_dispatch import read_counts, read_table, TableError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


_EPILOG = """\
exit status:
  0  success; diff: the tables agree
  1  a file cannot be used, or nothing was tuned; diff: the tables differ
  2  wrong usage; diff: a file cannot be used
"""


# What the argument of a command is.
_FILES = {
    "SCRIPT": "a Python program",
    "TABLE": "a tuning table, a .json file",
    "A": "a table",
    "COUNTS": "a file of save_counts, .json",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit status."""
    options = _parser().parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # What an encoding does not have must not end a command.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status: int = options.run(options)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # Whoever read has seen enough; Python would complain again as it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        print(f"error: {error}: pip install {package}", file=sys.stderr)
    except (ValueError, OSError) as error:
        print(f"error: {_one_line(error, options)}", file=sys.stderr)
    return 2 if options.command == "diff" else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m range_tuning",
        description="Tuning tables of range-tuned custom ops.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_EPILOG,
    )
    commands = parser.add_subparsers(dest="command", required=True)

    def add(
        name: str, run: Callable[[argparse.Namespace], int], file: str, **words: Any
    ) -> argparse.ArgumentParser:
        words.setdefault("description", f"{words['help'].capitalize()}.")
        command = commands.add_parser(name, **words)
        command.set_defaults(run=run)
        command.add_argument("file", metavar=file, help=_FILES[file])
        return command

    tune = add(
        "tune",
        _tune,
        "SCRIPT",
        help="run a script and add the times that its compiles measure to a table",
        description="Run SCRIPT as a program and add the times that its compiles "
        "measure to TABLE, every few seconds. Sizes that TABLE already has, of the "
        "same candidates in this environment, are not measured again. No other "
        "cache is used. The script must call its ops in functions that torch.compile "
        "compiles.",
    )
    tune.add_argument("--fresh", action="store_true", help="measure all sizes again")
    tune.add_argument(
        "--out",
        metavar="TABLE",
        help="the table (default: train.tuning.json beside a script train.py)",
    )
    tune.add_argument(
        "arguments", nargs=argparse.REMAINDER, help="arguments of the script"
    )
    add("show", _show, "TABLE", help="print winners and times of a table")
    diff = add(
        "diff",
        _diff,
        "A",
        help="print how two tables differ",
        description="Print what only one table has, differences of winners and split "
        "points, and times that differ by more than their noise. Calls that were only "
        "measured in different environments are compared, too.",
    )
    diff.add_argument("other", metavar="B", help="another table")
    words = "print winners as arguments of register_custom_op_autotuning"
    export = add("export-winners", _export_winners, "TABLE", help=words)
    export.add_argument("--op", help="only of this op or overload, as namespace::name")
    report = add(
        "report", _report, "TABLE", help="draw a table as a page with pictures"
    )
    report.add_argument(
        "--out", metavar="DIR", required=True, help="the folder to write"
    )
    report.add_argument(
        "--counts",
        metavar="COUNTS",
        help="a file of save_counts, to show how often each branch ran",
    )
    add("suggest", _suggest, "COUNTS", help="suggest split points for counted sizes")
    return parser


def _tune(options: argparse.Namespace) -> int:
    out = options.out or default_table(options.file)
    return tune_script(options.file, options.arguments, out, options.fresh)


def _show(options: argparse.Namespace) -> int:
    write(table_parts(read_table(options.file)), sys.stdout)
    return 0


def _diff(options: argparse.Namespace) -> int:
    names = options.file, options.other
    parts = diff_parts((read_table(names[0]), read_table(names[1])), names)
    write(parts, sys.stdout)
    return 1 if parts else 0


def _export_winners(options: argparse.Namespace) -> int:
    table = read_table(options.file)
    found = winner_arguments(table, options.op)
    if not found:
        ops = sorted({one.op: None for one in table.choices.values()})
        what = "choices" if options.op is None else f"choice of {options.op}"
        known = f"; it has {', '.join(ops)}" if ops else ""
        raise TableError(f"{options.file} has no {what}{known}")
    print("\n\n".join(found))
    return 0


def _report(options: argparse.Namespace) -> int:
    from range_tuning.report import write_report  # matplotlib is slow to import

    counts = read_counts(options.counts) if options.counts else []
    for path in write_report(options.file, options.out, counts):
        print(path)
    return 0


def _suggest(options: argparse.Namespace) -> int:
    print(suggest_file(options.file))
    return 0


def _one_line(error: Exception, options: argparse.Namespace) -> str:
    """What is wrong, and with which file."""
    text = " ".join(str(error).split())
    if isinstance(error, (TableError, OSError)) or options.file in text:
        return text
    return f"{options.file}: {text}"


if __name__ == "__main__":
    sys.exit(main())
