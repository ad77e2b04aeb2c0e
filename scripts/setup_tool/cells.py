"""The cells of scripts/verify's matrix: whether what is laid over a torch works."""

import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from setup_tool.environment import child_variables
from setup_tool.steps import say
from setup_tool.testing import run_pytest

IMPORT_ALL = """\
import importlib, sys
import torch, torch._inductor.compile_fx
for name in sys.argv[1:]:
    importlib.import_module(name)
print(torch.__version__)
"""


@dataclass(frozen=True)
class Cell:
    """Whether something holds, and in a few words what was seen."""

    holds: bool
    words: str

    def __str__(self) -> str:
        return f"{'yes' if self.holds else 'NO'}, {self.words}"


NOT_REACHED = Cell(False, "not reached")


@dataclass(frozen=True)
class Environment:
    """A base's environment once it is set up."""

    python: Path
    compiler: str


def import_cell(
    environment: Environment, modules: Sequence[str], folder: Path | None = None
) -> Cell:
    """Whether torch and all that is ours or patched can be imported.

    ``folder`` may have another torch than the environment, which comes first then.
    """
    command = [str(environment.python), "-c", IMPORT_ALL, *modules]
    result = subprocess.run(
        command, cwd=folder, env=child_variables(), capture_output=True, text=True
    )
    if result.returncode:
        say(result.stderr)
        return Cell(False, (result.stderr.strip().splitlines() or ["no word"])[-1])
    return Cell(True, f"torch {result.stdout.strip()}")


def tests_cell(
    root: Path, environment: Environment, arguments: list[str], everything: bool
) -> Cell:
    """Runs the tests and counts them."""
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "results.xml"
        status = run_pytest(
            root,
            environment.python,
            environment.compiler,
            [*arguments, f"--junitxml={results}"],
            everything,
        )
        if not results.exists():
            return Cell(False, f"pytest ended with {status}")
        counts = count_results(results)
    shown = [f"{n} {name}" for name, n in counts.items() if n or name == "passed"]
    return Cell(status == 0 and counts["passed"] > 0, ", ".join(shown))


def count_results(results: Path) -> dict[str, int]:
    """How many tests passed, failed and were skipped, by a JUnit file."""
    counts = dict.fromkeys(("passed", "failed", "skipped"), 0)
    for case in ElementTree.parse(results).iter("testcase"):
        tags = {child.tag for child in case}
        failed = tags & {"failure", "error"}
        outcome = "failed" if failed else "skipped" if "skipped" in tags else "passed"
        counts[outcome] += 1
    return counts
