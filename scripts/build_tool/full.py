"""The full route: the base's own editable install, which compiles all of its C++."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from build_tool import environment, preflight
from build_tool.checkout import Checkout
from build_tool.jobs import Jobs
from build_tool.place import Place
from build_tool.session import opened, Session
from build_tool.variables import choose_device, chosen_variables, in_environment
from build_tool.verification import say_what_next, verify
from setup_tool.steps import say, SetupError

ROUTE = "full"
INSTALL = ("-m", "pip", "install", "--no-build-isolation", "-v", "-e", ".")
NO_SOURCES = ("*.py", "*.pyi", "*.md", "build")
"""What may change without anything to compile anew."""


def build(
    checkout: Checkout,
    place: Place,
    patch_set: Path,
    python_argument: str,
    flag: str | None,
    asked_jobs: int | None,
    again: bool,
    dry_run: bool,
) -> None:
    """Checks, then does what is not done yet."""
    findings = preflight.Findings()
    device = flag or "cpu"
    try:
        device = choose_device(flag, os.environ)
    except SetupError as error:
        findings.problems.append(f"device: {error}")
    facts = preflight.check_full(
        checkout, place, python_argument, device, asked_jobs, findings
    )
    for fact in findings.facts:
        say(fact)
    findings.require_none()
    assert facts is not None
    chosen = chosen_variables(device, facts.jobs, os.environ)
    requirements = facts.requirements
    if dry_run:
        _say_plan(checkout, place, requirements, chosen)
        return
    with opened(checkout, place, patch_set, facts.python, ROUTE) as session:
        session.apply_overlay()
        if again:
            session.forget("build")
        environment.prepare(session, requirements)
        _compile(session, chosen, facts.jobs)
        verify(session)
    what = f"{checkout.root} is built for {device}, and edits of its Python take effect"
    say_what_next(place, f"{what} at once. After an edit of C++ call this again.")


def _compile(session: Session, chosen: dict[str, str], jobs: Jobs) -> None:
    checkout, place = session.checkout, session.place
    command = [str(place.python), *INSTALL]
    variables = {**in_environment(place.environment), **chosen}

    def work() -> str:
        told = ", ".join(f"{name}={text}" for name, text in sorted(chosen.items()))
        session.log.header(f"variables: {told}")
        session.log.run("build", command, checkout.root, variables)
        return f"pip install -e, {jobs.count} jobs"

    # The number of jobs changes how fast, not what.
    which = {
        name: text
        for name, text in variables.items()
        if name.startswith(("USE_", "BUILD_", "CMAKE_", "CUDA", "TORCH_", "PYTORCH_"))
        or name in ("CC", "CXX", "CFLAGS", "CXXFLAGS", "LDFLAGS", "DEBUG")
    }
    which.pop("CMAKE_BUILD_PARALLEL_LEVEL", None)
    session.stage("build", [which, sources(checkout)], work)


def sources(checkout: Checkout) -> list[str]:
    """Changes with all that is compiled, and with no Python file."""
    compiled = ["--", ".", *(f":(exclude){path}" for path in NO_SOURCES)]
    difference = checkout.git("diff", "HEAD", "--binary", *compiled)
    new = checkout.git("ls-files", "-z", "--others", "--exclude-standard", *compiled)
    times = []
    for path in sorted(filter(None, new.split("\0"))):
        # A file of the overlay's tool is not compiled, and one may be gone by now.
        if not path.startswith(".torch_overlay") and (checkout.root / path).is_file():
            times.append(f"{path} {(checkout.root / path).stat().st_mtime_ns}")
    digest = hashlib.sha256(difference.encode("utf-8", "surrogateescape")).hexdigest()
    return [checkout.commit, digest, *times]


def _say_plan(
    checkout: Checkout,
    place: Place,
    requirements: Sequence[str],
    chosen: dict[str, str],
) -> None:
    told = " ".join(f"{name}={text}" for name, text in sorted(chosen.items()))
    say("\nwould do, with all output in " + str(place.log))
    say(f"  scripts/overlay.py apply --tree {checkout.root}")
    say(f"  python -m venv {place.environment}")
    say(f"  pip install {' '.join(requirements)}")
    say(f"  cd {checkout.root}; {told} pip install {' '.join(INSTALL[3:])}")
    say("  import torch, and see that it is the checkout's")
