"""Looks at everything that a build needs, and reports all that is missing at once.

Nothing is changed before every check has passed.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from build_tool import machine
from build_tool.checkout import (
    build_requirements,
    Checkout,
    fits,
    python_versions,
    required_version,
    unready_submodules,
)
from build_tool.jobs import choose_jobs, GIBIBYTES_A_JOB, Jobs
from build_tool.links import find_links
from build_tool.place import load_state, Place
from build_tool.pythons import ask_python, Python
from overlay_tool.errors import OverlayError
from setup_tool import prerequisites
from setup_tool.steps import SetupError

DISK_GIBIBYTES = {"cpu": 20, "cuda": 60}
"""What a build of all of torch takes, with its object files."""

MINIMUM_COMPILERS = {"gcc": (9, 3), "clang": (9, 0)}
MINIMUM_CMAKE = "3.27"
SUBMODULES_SHOWN = 5


@dataclass
class Findings:
    """What the checks found; each is a line that says what to do about it."""

    facts: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def check(self, name: str, look: Callable[[], str]) -> None:
        """Runs one check: its words are a fact, a SetupError is a problem."""
        try:
            self.facts.append(f"{name + ':':<14}{look()}")
        except (SetupError, OverlayError, OSError) as error:
            self.problems.append(f"{name}: {error}")

    def require_none(self) -> None:
        """Raises SetupError that lists every problem."""
        if self.problems:
            count = len(self.problems)
            title = "1 problem" if count == 1 else f"{count} problems"
            lines = [f"{title}, nothing was changed:"]
            for number, problem in enumerate(self.problems, 1):
                lines.append(f"  {number}. {problem}")
            raise SetupError("\n".join(lines))


def check_python(
    findings: Findings, place: Place, argument: str, specifier: str
) -> Python | None:
    """The Python of that name, if it is one that the checkout can use."""
    answers: list[Python] = []

    def look() -> str:
        python = ask_python(argument)
        if not fits(python.version, specifier):
            raise SetupError(
                f"{python.name} ({python.path}); the checkout wants {specifier}: name "
                "another with --python"
            )
        if Path(python.path).is_relative_to(place.environment):
            raise SetupError(
                f"--python {python.path} is of the environment that is to be made: "
                "name the one that it was made of"
            )
        if not python.has_venv:
            raise SetupError(
                f"{python.path} cannot make virtual environments (no ensurepip "
                "module): install its venv package"
            )
        if not (python.headers / "Python.h").is_file():
            raise SetupError(
                f"no Python.h in {python.headers}: install the headers of {python.name}"
                ", on Debian and Ubuntu the package python3-dev of that version"
            )
        answers.append(python)
        return f"{python.name}, {python.path}"

    findings.check("Python", look)
    return answers[0] if answers else None


def check_compiler() -> str:
    """The C++ compiler and its version."""
    compiler = prerequisites.find_compiler()
    prerequisites.check_compiles(compiler)
    result = subprocess.run(
        [compiler, "-dM", "-E", "-x", "c++", os.devnull],
        capture_output=True,
        text=True,
        check=False,
    )
    macros = dict(re.findall(r"^#define (__\w+__) (\d+)$", result.stdout, re.MULTILINE))
    kind, names = "gcc", ("__GNUC__", "__GNUC_MINOR__")
    if "__clang_major__" in macros:  # clang calls itself a gcc, too
        kind, names = "clang", ("__clang_major__", "__clang_minor__")
    if names[0] not in macros:
        return f"{compiler}, its version cannot be told"
    version = tuple(int(macros.get(name, 0)) for name in names)
    minimum = MINIMUM_COMPILERS[kind]
    shown = f"{compiler} ({kind} {_dotted(version)})"
    if version < minimum:
        raise SetupError(
            f"{shown} is too old, {kind} {_dotted(minimum)} is needed: install a newer "
            "one, or name it in CXX (and CC)"
        )
    return shown


def check_tool(name: str, requirements: Sequence[str], minimum: str) -> str:
    """cmake or ninja: there and new enough, or about to be installed by pip."""
    wanted = required_version(requirements, name)
    if wanted is not None:
        return f"pip will install {name}{wanted}"
    path = shutil.which(name)
    if path is None:
        raise SetupError(f"there is no {name} on PATH: install it (pip install {name})")
    result = subprocess.run([path, "--version"], capture_output=True, text=True)
    found = re.search(r"\d+(?:\.\d+)+", result.stdout)
    if result.returncode != 0 or not found:
        raise SetupError(f"{path} --version does not work: {result.stderr.strip()}")
    version = [int(number) for number in found[0].split(".")]
    if minimum and not fits(version, f">={minimum}"):
        raise SetupError(f"{path} is {found[0]}, {minimum} is needed: install a newer")
    return f"{path}, {found[0]}"


def check_cuda() -> str:
    """CUDA's compiler: in CUDA_HOME, on PATH, or where it is installed by default."""
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    if home:
        if not os.access(Path(home, "bin", "nvcc"), os.X_OK):
            raise SetupError(f"CUDA_HOME={home} has no bin/nvcc: correct or unset it")
        return f"{home}/bin/nvcc"
    found = shutil.which("nvcc") or shutil.which("/usr/local/cuda/bin/nvcc")
    if found is None:
        raise SetupError(
            "--cuda needs nvcc, on PATH or in CUDA_HOME: install the CUDA toolkit, or "
            "build with --cpu"
        )
    return found


def check_disk(folder: Path, gibibytes: float) -> str:
    """Room for what is to come."""
    free = shutil.disk_usage(folder).free / machine.GIBIBYTE
    if free < gibibytes:
        raise SetupError(
            f"{free:.1f} GiB free in {folder}, {gibibytes:.1f} are needed: make room"
        )
    return f"{free:.0f} GiB free, up to {gibibytes:.1f} are needed"


def check_memory(device: str, memory: float) -> str:
    """Memory for one compiler at least."""
    needed = GIBIBYTES_A_JOB[device]
    if memory < needed:
        raise SetupError(
            f"{memory:.1f} GiB available, one job for {device} takes {needed} GiB: end "
            "other programs"
        )
    return f"{memory:.0f} GiB available"


def check_submodules(checkout: Checkout) -> str:
    """All submodules there, at the commits that the checkout names."""
    unready = unready_submodules(checkout)
    if unready:
        shown = ", ".join(line.split()[1] for line in unready[:SUBMODULES_SHOWN])
        more = len(unready) - SUBMODULES_SHOWN
        shown += f" and {more} more" if more > 0 else ""
        raise SetupError(
            f"{len(unready)} not as the checkout wants them ({shown}): git -C "
            f"{checkout.root} submodule update --init --recursive"
        )
    return "as the checkout wants them"


def check_place(place: Place, route: str) -> str:
    """The folders that we make are ours or not there, and of this route."""
    state = load_state(place)
    if state.route not in ("", route):
        raise SetupError(
            f"{place.folder} holds a build of the other kind ({state.route}): take it "
            "away first, with --remove"
        )
    environment = place.environment
    if environment.exists() and str(environment) != state.environment:
        if not environment.is_dir() or any(environment.iterdir()):
            raise SetupError(
                f"--venv {environment} exists and this command did not make it, or "
                "uses another since: name another folder, or remove it"
            )
    return str(environment)


def check_no_links(checkout: Checkout) -> str:
    """No links of the Python-only route: a build would write through them."""
    count = sum(1 for _ in find_links(checkout.root))
    if count:
        raise SetupError(
            f"{count} links of --python-only are in {checkout.root}: take them away "
            "first, with --remove"
        )
    return "none"


def check_not_built(checkout: Checkout) -> str:
    """No binaries of a build in the checkout: they would be mixed with the wheel's."""
    torch = checkout.root / "torch"
    for found in (*torch.glob("lib/libtorch*"), *torch.glob("_C.*")):
        # Through a link of ours it is the wheel's.
        if found.suffix != ".pyi" and os.path.realpath(found) == str(found):
            raise SetupError(
                f"{found} is there: this checkout was built, and its torch is editable "
                "already; else remove what was built (git clean -dX torch)"
            )
    return "none"


@dataclass(frozen=True)
class FullFacts:
    """What the checks of the full route found out for the build."""

    python: Python
    requirements: list[str]
    jobs: Jobs


def check_full(
    checkout: Checkout,
    place: Place,
    python_argument: str,
    device: str,
    asked_jobs: int | None,
    findings: Findings,
) -> FullFacts | None:
    """All checks of the full route; None when something is missing."""
    requirements: list[str] = []
    chosen: list[Jobs] = []

    def look_for_requirements() -> str:
        requirements.extend(build_requirements(checkout))
        return ", ".join(requirements)

    def look_for_jobs() -> str:
        memory = machine.memory_gibibytes()
        cores = machine.cores()
        jobs = choose_jobs(device, cores, memory, asked_jobs, os.environ)
        chosen.append(jobs)
        return f"{jobs.count} at a time ({jobs.why})"

    def look_at_disk() -> str:
        # What an earlier attempt has put there is not needed a second time.
        built = machine.size_of(checkout.root / "build") / machine.GIBIBYTE
        return check_disk(checkout.root, max(1.0, DISK_GIBIBYTES[device] - built))

    findings.check("environment", lambda: check_place(place, "full"))
    findings.check("old links", lambda: check_no_links(checkout))
    findings.check("submodules", lambda: check_submodules(checkout))
    specifier = specifier_of(checkout)
    python = check_python(findings, place, python_argument, specifier)
    findings.check("requirements", look_for_requirements)
    findings.check("compiler", check_compiler)
    minimum = MINIMUM_CMAKE
    findings.check("cmake", lambda: check_tool("cmake", requirements, minimum))
    findings.check("ninja", lambda: check_tool("ninja", requirements, ""))
    if device == "cuda":
        findings.check("CUDA", check_cuda)
    findings.check("disk", look_at_disk)
    memory = machine.memory_gibibytes()
    findings.check("memory", lambda: check_memory(device, memory))
    findings.check("jobs", look_for_jobs)
    if findings.problems or python is None:
        return None
    return FullFacts(python, requirements, chosen[0])


def specifier_of(checkout: Checkout) -> str:
    """The Python versions that the checkout allows."""
    try:
        return python_versions(checkout)
    except SetupError:
        # The check of the requirements reads the same file, and says what is wrong.
        return ""


def _dotted(version: Sequence[int]) -> str:
    return ".".join(map(str, version))
