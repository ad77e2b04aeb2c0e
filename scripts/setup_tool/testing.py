"""Runs the tests in the environment."""

import argparse
import os
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from setup_tool.environment import child_variables

WORKERS = len(os.sched_getaffinity(0))
"""Test processes at a time. A test that compiles keeps about one core busy."""

REMEMBERED_DAYS = 14
"""How long what was compiled lasts if no test asks for it."""


def remembering(compiler: str, python: Path) -> str:
    """The path of a compiler that compiles the same only once in an environment."""
    folder = python.parents[1] / "compiled"
    folder.mkdir(exist_ok=True)
    for file in folder.iterdir():
        if time.time() - file.stat().st_mtime > REMEMBERED_DAYS * 86400:
            file.unlink(missing_ok=True)
    program = str(Path(__file__).with_name("remembering_compiler.py"))
    real = shutil.which(compiler) or compiler
    call = shlex.join([str(python), "-IS", program, real, str(folder)])
    # Inductor tells by the name which compiler it is.
    script = folder / Path(compiler).name
    unfinished = folder / f"{script.name}.{os.getpid()}"
    unfinished.write_text(f'#!/bin/sh\nexec {call} "$@"\n')
    unfinished.chmod(0o755)
    unfinished.replace(script)
    return str(script)


def add_all_argument(parser: argparse.ArgumentParser) -> None:
    """The argument of those commands that pass tests."""
    parser.add_argument(
        "--all",
        action="store_true",
        help="also the tests marked slow, which make up the full matrix",
    )


@contextmanager
def variables_for_tests(
    compiler: str, everything: bool = False
) -> Iterator[dict[str, str]]:
    """Environment variables for test processes, good while the context lasts."""
    variables = child_variables()
    # What Inductor compiled in an earlier run must not answer for today's code.
    with tempfile.TemporaryDirectory(prefix="inductor-cache-") as cache:
        variables["TORCHINDUCTOR_CACHE_DIR"] = cache
        variables["CXX"] = compiler
        # More threads than cores cost a lot: OpenMP's threads spin while they wait.
        variables.setdefault("OMP_NUM_THREADS", "1")
        # Its pool of compile processes would compete with the other test process.
        variables.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
        # Else each process first compiles a program to see what the processor can do.
        variables.setdefault("TORCHINDUCTOR_VEC_ISA_OK", "1")
        # The switch that upstream's @slowTest obeys.
        variables["PYTORCH_TEST_WITH_SLOW"] = "1" if everything else "0"
        # CI means PyTorch's own CI to torch's run_tests(): it would write XML reports
        # with a package that is not here. Of that, keep the fixed random choices.
        if variables.pop("CI", ""):
            variables["PYTORCH_HYPOTHESIS_PROFILE"] = "pytorch_ci"
        yield variables


def run_pytest(
    root: Path, python: Path, compiler: str, arguments: list[str], everything: bool
) -> int:
    """Runs pytest over `arguments`, or every test file, and returns its exit status.

    The status goes through as it is: pytest's 5, no test ran, is a failure too.
    """
    command = [str(python), "-m", "pytest", "-n", str(WORKERS), "--dist", "worksteal"]
    if not everything:
        command += ["-m", "not slow"]
    with variables_for_tests(remembering(compiler, python), everything) as variables:
        # A torch that lies there is meant, also by the tests' own processes.
        if (root / "torch").is_dir():
            variables["PYTHONPATH"] = str(root)
        process = subprocess.Popen([*command, *arguments], cwd=root, env=variables)
        try:
            return process.wait()
        except KeyboardInterrupt:
            # Ctrl-C reached pytest as well: let it say what it has so far.
            return process.wait()
