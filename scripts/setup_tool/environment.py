"""The virtual environment: made, filled by pip, and vouched for by a stamp.

The stamp is one file inside the environment. It says "installing" before anything is
changed and "complete" when all is done, and each of the two is put there by one
atomic rename. So whatever moment a set-up is killed at, the next one can tell.
"""

import json
import os
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from setup_tool.pins import Pins
from setup_tool.prerequisites import check_disk
from setup_tool.steps import SetupError, report

STAMP_NAME = ".torch-range-dispatch.json"
COMPLETE = "complete"
INSTALLING = "installing"


@dataclass(frozen=True)
class Stamp:
    """What the environment holds, and whether all of it is there."""

    state: str
    pins: str
    torch: str
    python: str


@dataclass(frozen=True)
class Plan:
    """What to do to the environment, and why. Nothing to do: no reason."""

    reason: str = ""
    rebuild: bool = False


def python_of(folder: Path) -> Path:
    """The environment's own Python."""
    return folder / "bin" / "python"


def site_packages_of(folder: Path) -> Path:
    """Where pip puts torch: the tree that the overlay is laid over."""
    prefix = {"base": str(folder), "platbase": str(folder)}
    return Path(sysconfig.get_path("purelib", "venv", vars=prefix))


def wanted_stamp(pins: Pins, state: str) -> Stamp:
    """The stamp of an environment with these pins, made by this Python."""
    python = ".".join(str(part) for part in sys.version_info[:2])
    return Stamp(state=state, pins=pins.digest, torch=pins.torch, python=python)


def read_stamp(folder: Path) -> Stamp | None:
    """The environment's stamp; None when there is none or it makes no sense."""
    try:
        return Stamp(**json.loads((folder / STAMP_NAME).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def write_stamp(folder: Path, stamp: Stamp) -> None:
    """Replaces the stamp: a reader finds the old or the new one, never a part."""
    unfinished = folder / (STAMP_NAME + ".new")
    unfinished.write_text(json.dumps(asdict(stamp), indent=2) + "\n")
    os.replace(unfinished, folder / STAMP_NAME)


def make_plan(folder: Path, pins: Pins) -> Plan:
    """Compares what is there with what setup.cfg wants; changes nothing."""
    if not folder.exists():
        return Plan("there was none", rebuild=True)
    found = read_stamp(folder)
    wanted = wanted_stamp(pins, COMPLETE)
    if found is None:
        return Plan("what is there has no stamp of a set-up", rebuild=True)
    if found.state != COMPLETE:
        return Plan("an earlier set-up was interrupted", rebuild=True)
    if not os.access(python_of(folder), os.X_OK):
        return Plan("its Python is gone", rebuild=True)
    if found.python != wanted.python:
        return Plan(f"it was made by Python {found.python}", rebuild=True)
    if found.torch != wanted.torch:
        # Not upgraded in place: pip would leave behind the overlay's own files, and
        # the patches that could take the old ones back may no longer be here.
        return Plan(f"{found.torch} became {wanted.torch}", rebuild=True)
    if found.pins != wanted.pins:
        return Plan("pins in setup.cfg changed")
    return Plan()


def prepare(folder: Path, pins: Pins, lock: int) -> str:
    """Brings the environment in line with `pins`; returns what it did in words.

    `lock` is the descriptor that keeps other set-ups out; pip inherits it.
    """
    plan = make_plan(folder, pins)
    if not plan.reason:
        return f"{folder.name} is up to date, {pins.torch}"
    check_disk(folder.parent, pins.gibibytes)
    folder.mkdir(exist_ok=True)
    # From here to the last line, whoever finds the folder knows that it is not whole.
    write_stamp(folder, wanted_stamp(pins, INSTALLING))
    if plan.rebuild:
        report("environment", f"making {folder.name}: {plan.reason}")
        make_empty(folder)
        write_stamp(folder, wanted_stamp(pins, INSTALLING))
    else:
        report("environment", f"updating {folder.name}: {plan.reason}")
    install(folder, pins, lock)
    write_stamp(folder, wanted_stamp(pins, COMPLETE))
    verb = "made" if plan.rebuild else "updated"
    return f"{verb} {folder.name}, {pins.torch}: {plan.reason}"


def make_empty(folder: Path) -> None:
    """Makes the environment with nothing in it but pip; deletes what was there."""
    run([sys.executable, "-m", "venv", "--clear", str(folder)], "python -m venv")


def install(folder: Path, pins: Pins, lock: int) -> None:
    """Lets pip install the pins; its output is the progress that the caller sees."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as constraints:
        constraints.write("\n".join(pins.constraints) + "\n")
        constraints.flush()
        command = [str(python_of(folder)), "-m", "pip", "install", "--no-input"]
        command += ["--disable-pip-version-check", "--constraint", constraints.name]
        # Of thousands of modules few are imported, and those are compiled then.
        command += ["--no-compile"]
        run([*command, *pins.requirements], "pip install", lock)


def run(command: list[str], what: str, *inherited: int) -> None:
    """Runs `command` to its end; raises SetupError when it fails."""
    result = subprocess.run(
        command, env=child_variables(), stdin=subprocess.DEVNULL, pass_fds=inherited
    )
    if result.returncode != 0:
        raise SetupError(
            f"{what} failed with exit status {result.returncode}; its own words stand "
            "above. Call again once that is mended: it starts over by itself"
        )


def child_variables() -> dict[str, str]:
    """The caller's variables, less those that would let another torch in."""
    hidden = ("PYTHONPATH", "PYTHONHOME")
    return {name: value for name, value in os.environ.items() if name not in hidden}
