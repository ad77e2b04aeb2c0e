"""Looks for what the base's own build would miss late, or not at all."""

import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from build_tool.checkout import Checkout
from build_tool.python_only import find_links
from setup_tool import prerequisites
from setup_tool.steps import say, SetupError

DISK_GIBIBYTES = {"cpu": 20, "cuda": 60, None: 6}
"""What a build of all of torch takes, with its object files; without: a wheel."""

GIBIBYTES_A_JOB = {"cpu": 2, "cuda": 4}
"""What one compiler may take: the big generated files need about as much."""

_QUESTION = (
    "import sys, sysconfig; print(sys.version_info[1], sysconfig.get_path('include'))"
)


def check(checkout: Checkout, python: str, device: str | None) -> None:
    """Prints a table of all checks; raises SetupError unless all are well.

    Without a device nothing is compiled but Inductor's kernels.
    """
    looks: dict[str, Callable[[], str]] = {
        "Python": lambda: check_python(checkout, python),
        "compiler": check_compiler,
        "disk": lambda: check_disk(checkout, DISK_GIBIBYTES[device]),
    }
    if device is None:
        looks["old build"] = lambda: check_not_built(checkout)
    else:
        looks["old links"] = lambda: check_no_links(checkout)
        looks["submodules"] = lambda: check_submodules(checkout)
        looks["cmake, ninja"] = lambda: check_programs(checkout)
        looks["memory"] = lambda: f"MAX_JOBS={jobs(device)}"
    if device == "cuda":
        looks["CUDA"] = check_cuda
    missing = 0
    for name, look in looks.items():
        try:
            say(f"ok       {name:<14}{look()}")
        except (SetupError, OSError, subprocess.CalledProcessError) as error:
            say(f"missing  {name:<14}{error}")
            missing += 1
    if missing:
        raise SetupError(f"{missing} of {len(looks)} missing, nothing was changed")


def project(checkout: Checkout) -> dict[str, dict[str, Any]]:
    """What pyproject.toml says; nothing if there is none."""
    file = checkout.root / "pyproject.toml"
    try:
        return tomllib.loads(file.read_text("utf-8")) if file.exists() else {}
    except ValueError as error:
        raise SetupError(f"{file} cannot be read: {error}") from None


def requirements(checkout: Checkout) -> list[str]:
    """What pip must install for a build without isolation."""
    return list(project(checkout).get("build-system", {}).get("requires", []))


def check_python(checkout: Checkout, python: str) -> str:
    """One that the checkout allows, and that has headers."""
    answer = subprocess.check_output([python, "-c", _QUESTION], text=True)
    minor, headers = answer.split(maxsplit=1)
    wanted = str(project(checkout).get("project", {}).get("requires-python", ""))
    for sign, limit in re.findall(r"(>=|<)\s*3\.(\d+)", wanted):
        if (int(minor) >= int(limit)) != (sign == ">="):
            raise SetupError(f"{python} is 3.{minor}, not {wanted}: name another")
    if not Path(headers.rstrip("\n"), "Python.h").is_file():
        raise SetupError(f"no Python.h for {python}: install python3.{minor}-dev")
    return f"3.{minor}, {python}"


def check_compiler() -> str:
    """A C++ compiler that works."""
    compiler = prerequisites.find_compiler()
    prerequisites.check_compiles(compiler)
    return compiler


def check_disk(checkout: Checkout, needed: int) -> str:
    """Room for what is to come, unless an earlier attempt has taken some."""
    if not checkout.environment.is_dir():
        prerequisites.check_disk(checkout.root, needed)
    return f"{shutil.disk_usage(checkout.root).free / 2**30:.0f} GiB free"


def check_not_built(checkout: Checkout) -> str:
    """No binaries of a build: they would be mixed with the wheel's."""
    for found in checkout.root.glob("torch/lib/libtorch*"):
        # Through a link of ours it is the wheel's.
        if os.path.realpath(found) == str(found):
            raise SetupError(f"{found} is there: remove it (git clean -dX torch)")
    return "none"


def check_no_links(checkout: Checkout) -> str:
    """No links of the Python-only route: a build would write through them."""
    if count := len(list(find_links(checkout))):
        raise SetupError(f"{count} links of --python-only: first call with --remove")
    return "none"


def check_submodules(checkout: Checkout) -> str:
    """All submodules there, at the commits that the checkout names."""
    lines = checkout.git("submodule", "status", "--recursive").splitlines()
    if unready := [line.split()[1] for line in lines if line[:1] in "-+U"]:
        raise SetupError(
            f"{len(unready)} not as the checkout wants them, such as {unready[0]}: git "
            f"-C {checkout.root} submodule update --init --recursive"
        )
    return "as the checkout wants them"


def check_programs(checkout: Checkout) -> str:
    """On PATH, or about to be installed by pip."""
    listed = requirements(checkout)
    for name in ("cmake", "ninja"):
        by_pip = any(re.match(rf"{name}\b", requirement) for requirement in listed)
        if not by_pip and shutil.which(name) is None:
            raise SetupError(f"no {name} on PATH: install it (pip install {name})")
    return "there, or pip installs them"


def check_cuda() -> str:
    """CUDA's compiler. Without it the base builds for the CPU, and says so nowhere."""
    home = os.environ.get("CUDA_HOME")
    found = shutil.which(f"{home}/bin/nvcc" if home else "nvcc")
    if not (found or shutil.which("/usr/local/cuda/bin/nvcc") and not home):
        raise SetupError("no nvcc in CUDA_HOME, else on PATH: install the CUDA toolkit")
    return found or "/usr/local/cuda"


def jobs(device: str) -> str:
    """MAX_JOBS if it is set, else as many as cores and memory allow, at least one."""
    found = re.search(r"MemAvailable: +(\d+)", Path("/proc/meminfo").read_text())
    gibibytes = int(found[1]) / 2**20 if found else 0.0
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.exists() and (text := limit.read_text().strip()).isdecimal():
        gibibytes = min(gibibytes, int(text) / 2**30)
    fitting = int(gibibytes / GIBIBYTES_A_JOB[device])
    cores = len(os.sched_getaffinity(0))
    return os.environ.get("MAX_JOBS") or str(max(1, min(cores, fitting)))
