"""The project's main job: three implementations of one op, dispatched by size.

Run through ``scripts/run``, which sets up the environment first. Ends non-zero if
anything is not as it has to be.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

SIZES = [256, 512, 513, 1024, 2048, 2049, 4096]


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Command line of ``scripts/run``."""

    def size(text: str) -> int:
        value = int(text)
        if value < 2:
            raise argparse.ArgumentTypeError(
                "must be at least 2 (torch.compile makes graphs of their own for 0 "
                f"and 1), got {value}"
            )
        return value

    parser = argparse.ArgumentParser(
        prog="scripts/run",
        description=__doc__,
        epilog="--base TAG runs it on another release, such as v2.15.0. "
        "--example NAME runs a file of examples/ instead, --example lists them.",
    )
    parser.add_argument(
        "--size",
        type=size,
        nargs="+",
        action="extend",
        metavar="N",
        help=f"sizes of x[1] to call at (default: {SIZES})",
    )
    parser.add_argument(
        "--code", action="store_true", help="show the generated wrapper, too"
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """Read the arguments, then import what only the environment has."""
    options = parse_arguments(arguments)
    from demo import run

    return run(list(dict.fromkeys(options.size or SIZES)), options.code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
