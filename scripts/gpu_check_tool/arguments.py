"""The arguments of scripts/gpu_check."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from gpu_check_tool.steps import STEPS
from processes import ROOT
from reporting import integer_in

NAME = "gpu_check"
SECONDS = 520
MOST_SECONDS = 3600
OPERATORS = ("attention", "split_k", "rms_norm")
MODELS = (
    *("two", "three", "five", "seventeen", "apart", "fallback"),
    *("unbacked", "outputs", "mutation", "matmul", "two_ops"),
)
"""Those of test/inductor/_dispatched_models.py."""

EPILOG = """\
exit status:
  0    every check passed or was skipped
  1    a check failed, or a step could not be run, or not to its end in its time
  2    wrong usage
  130  interrupted; what was there by then is written
"""


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line; ends the process with 2 if it is wrong."""
    parser = argparse.ArgumentParser(
        prog="scripts/gpu_check",
        description="Lays the overlay over a copy of the torch of this Python, and "
        "shows on a GPU what tests on CPUs cannot: rows of docs/backends.md, tuning "
        "with and without CUDA graphs, what a dispatched call costs, and the "
        "device-neutral tests. The installed torch is left as it is, and nothing is "
        "downloaded.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help=f"where {NAME}.json and {NAME}.md go; made if missing",
    )
    parser.add_argument(
        "--device",
        choices=("cuda", "cpu"),
        default="cuda",
        help="cpu runs all of it that a CPU allows (default: %(default)s)",
    )
    parser.add_argument(
        "--seconds",
        type=integer_in(1, MOST_SECONDS),
        default=SECONDS,
        metavar="N",
        help="for all steps; each has its part (default: %(default)s)",
    )
    for option, known, what in (
        ("--steps", tuple(STEPS), "steps, after the copy is made"),
        ("--operators", OPERATORS, "operators to tune and time"),
        ("--models", MODELS, "models for the rows"),
    ):
        parser.add_argument(
            option,
            nargs="+",
            choices=known,
            default=[*known],
            metavar="NAME",
            help=f"{what}, of {', '.join(known)} (default: all)",
        )
    parser.add_argument(
        "--patch-set",
        type=Path,
        default=ROOT,
        metavar="DIR",
        help="the folder with torch_overlay/ and patches/ (default: this repository)",
    )
    options = parser.parse_args(arguments)
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"argument --out: {options.out}: {error.strerror}")
    if not os.access(options.out, os.W_OK):
        parser.error(f"argument --out: cannot write into {options.out}")
    return options
