"""Runs the tests in the environment."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from setup_tool.environment import child_variables

WORKERS = 2
"""Test processes at a time. A test that compiles keeps about one core busy."""


@contextmanager
def variables_for_tests(compiler: str, fast: bool) -> Iterator[dict[str, str]]:
    """Environment variables for test processes, good while the context lasts."""
    variables = child_variables()
    # What Inductor compiled in an earlier run must not answer for today's code.
    with tempfile.TemporaryDirectory(prefix="inductor-cache-") as cache:
        variables["TORCHINDUCTOR_CACHE_DIR"] = cache
        variables["CXX"] = compiler
        # More threads than cores cost a lot: OpenMP's threads spin while they wait.
        threads = max(1, len(os.sched_getaffinity(0)) // WORKERS)
        variables.setdefault("OMP_NUM_THREADS", str(threads))
        # Its pool of compile processes would compete with the other test process.
        variables.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
        # Else each process first compiles a program to see what the processor can do.
        variables.setdefault("TORCHINDUCTOR_VEC_ISA_OK", "1")
        # The switch that upstream's @slowTest obeys.
        variables["PYTORCH_TEST_WITH_SLOW"] = "0" if fast else "1"
        # CI means PyTorch's own CI to torch's run_tests(): it would write XML reports
        # with a package that is not here. Of that, keep the fixed random choices.
        if variables.pop("CI", ""):
            variables["PYTORCH_HYPOTHESIS_PROFILE"] = "pytorch_ci"
        yield variables


def run_pytest(
    root: Path, python: Path, compiler: str, arguments: list[str], fast: bool
) -> int:
    """Runs pytest over `arguments`, or everything, and returns its exit status.

    The status goes through as it is: pytest's 5, no test ran, is a failure too.
    """
    command = [str(python), "-m", "pytest", "-n", str(WORKERS), "--dist", "worksteal"]
    if fast:
        command += ["-m", "not slow"]
    with variables_for_tests(compiler, fast) as variables:
        # A torch that lies there is meant, also by the tests' own processes.
        if (root / "torch").is_dir():
            variables["PYTHONPATH"] = str(root)
        process = subprocess.Popen([*command, *arguments], cwd=root, env=variables)
        try:
            return process.wait()
        except KeyboardInterrupt:
            # Ctrl-C reached pytest as well: let it say what it has so far.
            return process.wait()
