"""What the machine must have before the set-up starts, checked up front.

Inductor compiles C++ at run time. A machine without a working compiler would fail
only then, in the middle of a test, with a page of traceback.
"""

import importlib.util
import os
import shutil
import subprocess
import sysconfig
import tempfile
from pathlib import Path

from setup_tool.steps import SetupError

COMPILERS = ("g++", "clang++")
"""Tried in this order when CXX names none."""

PROBE = "#include <Python.h>\nint main() { return Py_IsInitialized(); }\n"
"""As little as shows that there are a compiler, a standard library and Python's
headers, which the kernels that Inductor writes include too."""


def check_tools() -> str:
    """Raises SetupError for the first thing missing; returns the C++ compiler."""
    if shutil.which("git") is None:
        raise SetupError("git is needed to lay the patches over torch: install it")
    if importlib.util.find_spec("ensurepip") is None:
        raise SetupError(
            "this Python cannot make virtual environments (no ensurepip module): "
            "install its venv package, on Debian and Ubuntu python3.11-venv"
        )
    compiler = find_compiler()
    check_compiles(compiler)
    return compiler


def find_compiler() -> str:
    """$CXX, else the first C++ compiler on PATH."""
    chosen = os.environ.get("CXX")
    if chosen:
        if shutil.which(chosen) is None:
            raise SetupError(f"CXX names '{chosen}', and there is no such program")
        return chosen
    for name in COMPILERS:
        if shutil.which(name) is not None:
            return name
    raise SetupError(
        f"a C++ compiler is needed ({' or '.join(COMPILERS)}, or another in CXX): "
        "Inductor compiles the kernels that it writes. On Debian and Ubuntu: "
        "apt-get install g++"
    )


def check_compiles(compiler: str) -> None:
    """Raises SetupError when `compiler` cannot compile the probe."""
    headers = sysconfig.get_path("include")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "probe.cpp"
        source.write_text(PROBE)
        result = subprocess.run(
            [compiler, f"-I{headers}", "-c", str(source), "-o", f"{source}.o"],
            capture_output=True,
            text=True,
        )
    if result.returncode == 0:
        return
    advice = ""
    if "Python.h" in result.stderr:
        advice = "\nPython's headers are missing: on Debian and Ubuntu python3.11-dev"
    raise SetupError(
        f"{compiler} cannot compile a two-line program:\n"
        f"{result.stderr.strip()[:2000]}{advice}"
    )


def check_disk(folder: Path, gibibytes: int) -> None:
    """Raises SetupError when `folder` has no room for an installation of that size."""
    free = shutil.disk_usage(folder).free / 2**30
    if free < gibibytes:
        raise SetupError(f"{folder}: {free:.1f} GiB free, {gibibytes} GiB are needed")
