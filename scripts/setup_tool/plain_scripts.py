"""Runs every test file once as a plain script: `python FILE Class.test_name`.

Upstream's test files are run that way, so ours must be able to. All their tests
would take as long as the test run itself; one quick test shows that the file
finds its imports, parses its arguments and runs tests.
"""

import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from setup_tool.steps import SetupError, elapsed, say
from setup_tool.testing import WORKERS, variables_for_tests

SECONDS_A_FILE = 300


@dataclass(frozen=True)
class Outcome:
    """How one file fared; `problem` is empty when all is well."""

    file: str
    test: str
    problem: str
    seconds: str


def find_test_files(root: Path) -> list[str]:
    """Every test file, relative to the repository's root."""
    found = sorted((root / "test").rglob("test_*.py"))
    return [file.relative_to(root).as_posix() for file in found]


def run_plain_scripts(
    root: Path, python: Path, compiler: str, arguments: list[str]
) -> int:
    """Runs the files in `arguments`, or all; returns 0 when every one did well."""
    files = arguments or find_test_files(root)
    with variables_for_tests(compiler, fast=True) as variables:

        def run_one(item: tuple[str, str]) -> Outcome:
            return run_file(root, python, variables, *item)

        chosen = choose_tests(root, python, variables, files)
        problems = 0
        with ThreadPoolExecutor(WORKERS) as pool:
            for outcome in pool.map(run_one, chosen.items()):
                problems += bool(outcome.problem)
                mark = "FAILED" if outcome.problem else "ok"
                say(f"{mark:<7}{outcome.file} {outcome.test} ({outcome.seconds})")
                if outcome.problem:
                    say(outcome.problem)
    say(f"{len(chosen) - problems} of {len(chosen)} test files ran as plain scripts")
    return 1 if problems else 0


def choose_tests(
    root: Path, python: Path, variables: dict[str, str], files: list[str]
) -> dict[str, str]:
    """For each file the first of its tests that is not marked slow."""
    if not files:
        raise SetupError("there are no test files")
    command = [str(python), "-m", "pytest", "--collect-only", "-q", "-m", "not slow"]
    result = subprocess.run(
        [*command, *files], cwd=root, env=variables, capture_output=True, text=True
    )
    if result.returncode != 0:
        raise SetupError(f"pytest cannot collect the tests:\n{result.stdout}")
    chosen = first_tests(result.stdout)
    for file in files:
        if file not in chosen:
            raise SetupError(f"{file}: no test in a class that is not marked slow")
    return chosen


def first_tests(listing: str) -> dict[str, str]:
    """Reads pytest's listing: for each file its first FILE::CLASS::TEST."""
    chosen: dict[str, str] = {}
    for line in listing.splitlines():
        parts = line.split("::")
        if len(parts) == 3:
            chosen.setdefault(parts[0], f"{parts[1]}.{parts[2]}")
    return chosen


def run_file(
    root: Path, python: Path, variables: dict[str, str], file: str, test: str
) -> Outcome:
    """Runs one test of `file` as a plain script."""
    started = time.monotonic()
    try:
        result = subprocess.run(
            [str(python), file, test],
            cwd=root,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS_A_FILE,
        )
    except subprocess.TimeoutExpired:
        problem = f"not done after {SECONDS_A_FILE} seconds"
    else:
        problem = problem_with(result.returncode, result.stdout)
    return Outcome(file, test, problem, elapsed(started))


def problem_with(status: int, output: str) -> str:
    """Why this is not the output of a script that ran exactly one test well."""
    if status == 0 and "Ran 1 test in" in output:
        return ""
    last_lines = "\n".join(output.splitlines()[-40:])
    return f"exit status {status}, 'Ran 1 test' and 0 were expected:\n{last_lines}"
