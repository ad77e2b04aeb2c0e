"""Reads what setup.cfg pins."""

import configparser
import hashlib
from dataclasses import dataclass
from pathlib import Path

from setup_tool.steps import SetupError

EXTRAS = ("test", "lint")
"""The extras that belong to the environment: one serves the job, tests and linters."""


@dataclass(frozen=True)
class Pins:
    """What pip is asked for, and in which versions it may bring anything else."""

    requirements: tuple[str, ...]
    constraints: tuple[str, ...]

    @property
    def torch(self) -> str:
        """The requirement for torch itself, such as torch==2.13.0."""
        for requirement in self.requirements:
            if requirement.startswith("torch=="):
                return requirement
        raise SetupError("setup.cfg: install_requires pins no torch (torch==VERSION)")

    @property
    def digest(self) -> str:
        """Changes when any pin changes, and with nothing else in setup.cfg."""
        lines = [*sorted(self.requirements), "", *sorted(self.constraints)]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@dataclass(frozen=True)
class Base:
    """A released PyTorch that the project supports, and where its environment is."""

    name: str
    environment: Path


def primary_base(pins: Pins, root: Path) -> Base:
    """The base whose torch setup.cfg pins."""
    version = pins.torch.removeprefix("torch==")
    return Base(name=f"v{version}", environment=root / ".venv")


def read_pins(path: Path) -> Pins:
    """The lists of setup.cfg; raises SetupError for an entry without exact version."""
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(path.read_text(), source=str(path))
        requirements = list_of(parser["options"]["install_requires"])
        for extra in EXTRAS:
            requirements += list_of(parser["options.extras_require"][extra])
        constraints = list_of(parser["constraints"]["transitive"])
    except (OSError, configparser.Error, KeyError) as error:
        raise SetupError(f"cannot read the pins from {path}: {error}") from error
    for entry in [*requirements, *constraints]:
        if "==" not in entry:
            raise SetupError(f"{path.name}: '{entry}' is not pinned (NAME==VERSION)")
    return Pins(tuple(requirements), tuple(constraints))


def list_of(value: str) -> list[str]:
    """The entries of a setup.cfg list: one a line, blank lines left out."""
    return [line.strip() for line in value.splitlines() if line.strip()]
