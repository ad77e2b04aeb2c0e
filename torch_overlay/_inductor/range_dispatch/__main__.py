"""Makes and shows tuning tables: ``python -m torch._inductor.range_dispatch -h``."""

from __future__ import annotations

import argparse
import json
import runpy
import sys
from typing import TYPE_CHECKING

from torch._inductor import config
from torch._inductor.range_dispatch.table_store import save
from torch._inductor.range_dispatch.tables import read_table, TableError

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m torch._inductor.range_dispatch",
        description="Tuning tables of range-tuned custom ops.",
        epilog="exit status: 0 done; 1 a file cannot be used, or nothing was tuned; "
        "2 wrong usage",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    tune = commands.add_parser(
        "tune",
        help="run a script, and write what its compiles measure into a table",
        description="Runs SCRIPT as a program. What is measured while it compiles goes "
        "into TABLE, merged with what is there. No cache is used.",
    )
    tune.add_argument("--out", metavar="TABLE", required=True, help="a .json file")
    tune.add_argument("script", metavar="SCRIPT")
    tune.add_argument("arguments", nargs=argparse.REMAINDER, help="for the script")
    show = commands.add_parser("show", help="print what a table has measured")
    show.add_argument("table", metavar="TABLE")
    options = parser.parse_args(arguments)
    try:
        if options.command == "tune":
            return _tune(options.script, options.arguments, options.out)
        return _show(options.table)
    except (TableError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _tune(script: str, arguments: Sequence[str], out: str) -> int:
    before = sys.argv
    sys.argv = [script, *arguments]
    try:
        with config.patch(force_disable_caches=True):
            runpy.run_path(script, run_name="__main__")
    except SystemExit as stop:
        if stop.code:
            print(f"error: {script} ended with {stop.code}", file=sys.stderr)
            return 1
    finally:
        sys.argv = before
    written = save(out)
    print(f"{out}: {written} sizes measured")
    return 0 if written else 1


def _show(path: str) -> int:
    last = None
    entries = read_table(path).entries.values()
    for entry in sorted(entries, key=lambda e: (e.op, e.size or 0, e.operands)):
        where = ", ".join(f"{k}: {v}" for k, v in entry.environment.items() if v)
        if (entry.op, where) != last:
            last = entry.op, where
            print(*last, sep="\n  ")
        tensors, _ = json.loads(entry.operands)
        shapes = ", ".join(f"{dtype}{size}" for size, _, dtype, _ in tensors)
        times = ", ".join(f"{t.name} {_text(t.milliseconds)}" for t in entry.candidates)
        print(f"  size {entry.size} of {shapes}: {times}")
    return 0


def _text(milliseconds: float | None) -> str:
    return "failed" if milliseconds is None else f"{milliseconds:.4f} ms"


if __name__ == "__main__":
    sys.exit(main())
