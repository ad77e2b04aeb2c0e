"""The command line of scripts/gpu_check: runs the steps, and writes what they find."""

from __future__ import annotations

import argparse
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gpu_check_tool.page import page
from gpu_check_tool.steps import (
    MODELS,
    OPERATORS,
    OVERLAY,
    PASSED,
    SECONDS,
    STEPS,
    Run,
)
from processes import fresh_folder
from reporting import integer_in, write_json

NAME = "gpu_check"

DESCRIPTION = """\
Lays the overlay over a copy of the torch of this Python, and shows on a GPU what tests
on CPUs cannot: rows of docs/backends.md, tuning with and without CUDA graphs, what a
dispatched call costs, and the device-neutral tests. The installed torch is left as it
is, and nothing is downloaded. Ends with status 0 if every check passed or was skipped,
1 if one failed or was not reached, 2 for wrong usage, 130 if it was interrupted; what
was found by then is written.
"""


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line; ends the process with 2 if it is wrong."""
    parser = argparse.ArgumentParser(prog="scripts/gpu_check", description=DESCRIPTION)
    add = parser.add_argument
    where = f"where {NAME}.json and {NAME}.md go; made if missing"
    add("--out", type=Path, required=True, metavar="DIR", help=where)
    what = "cpu runs all of it that a CPU allows (default: %(default)s)"
    add("--device", choices=("cuda", "cpu"), default="cuda", help=what)
    what = "for all steps; each has its part (default: %(default)s)"
    limit = integer_in(1, 3600)
    add("--seconds", type=limit, default=SECONDS, metavar="N", help=what)
    for option, known, what in (
        ("--steps", [step for step in STEPS if step != OVERLAY], "steps"),
        ("--operators", OPERATORS, "operators to tune and time"),
        ("--models", MODELS, "models for the rows"),
    ):
        what += f", of {', '.join(known)} (default: all)"
        add(option, nargs="+", choices=known, default=known, metavar="NAME", help=what)
    options = parser.parse_args(arguments)
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"argument --out: {options.out}: {error.strerror}")
    return options


def main(arguments: Sequence[str]) -> int:
    """Run the steps, write what was found, and return the exit status."""
    options = parse_arguments(arguments)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    interrupted = False
    with fresh_folder("gpu-check-") as folder:
        run = Run(
            folder,
            options.device,
            options.seconds,
            [OVERLAY, *(step for step in STEPS if step in options.steps)],
            options.operators,
            options.models,
        )
        try:
            for name in run.steps:
                run.step(name)
        except KeyboardInterrupt:
            interrupted = True
    data = document(options, run)
    write_json(options.out / f"{NAME}.json", data)
    (options.out / f"{NAME}.md").write_text(page(data))
    run.say(f"{data['status']}: {NAME}.json and {NAME}.md are written")
    return 130 if interrupted else int(data["status"] != PASSED)


def document(options: argparse.Namespace, run: Run) -> dict[str, Any]:
    """All that was found, as it goes into the JSON file."""
    steps = [*run.done.values()]
    machine = {k: v for check in steps[0]["checks"] for k, v in check["answer"].items()}
    return {
        "command": NAME,
        "device": options.device,
        "seconds": options.seconds,
        "took": round(run.elapsed(), 1),
        "status": PASSED if all(s["status"] == PASSED for s in steps) else "failed",
        "base": machine.pop("base", None),
        "machine": machine,
        "steps": steps,
    }
