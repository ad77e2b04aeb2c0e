"""Reads what setup.cfg pins."""

import configparser
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from setup_tool.steps import SetupError, UsageError

EXTRAS = ("run", "test", "lint")
"""The extras that belong to the environment: one serves the job, tests and linters."""

SECTION = "base "
"""What the sections for other bases are called, before the base's name."""

INSTALL_GIBIBYTES = 3
"""Room for torch's CPU build and the rest, with pip's temporary copies."""


@dataclass(frozen=True)
class Pins:
    """What pip is asked for, and in which versions it may bring anything else."""

    requirements: tuple[str, ...]
    constraints: tuple[str, ...]
    gibibytes: int = INSTALL_GIBIBYTES

    @property
    def torch(self) -> str:
        """The requirement for torch itself, such as torch==2.13.0."""
        for requirement in self.requirements:
            if requirement.startswith("torch=="):
                return requirement
        raise SetupError("setup.cfg: the extra run pins no torch (torch==VERSION)")

    @property
    def tag(self) -> str:
        """The release's tag, such as v2.13.0."""
        return "v" + self.torch.removeprefix("torch==")

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
    pins: Pins


def read_bases(root: Path) -> dict[str, Base]:
    """The bases of setup.cfg by name, the primary one first.

    Raises SetupError for an entry without exact version.
    """
    path = root / "setup.cfg"
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(path.read_text(), source=str(path))
        requirements, constraints = shared_lists(parser)
        primary = Pins(tuple(requirements), tuple(constraints))
        every_pins = {SECTION + primary.tag: primary}
        for section in parser.sections():
            if section.startswith(SECTION):
                every_pins[section] = pins_of_section(primary, parser[section])
    except (OSError, configparser.Error, KeyError, ValueError) as error:
        raise SetupError(f"cannot read the pins from {path}: {error}") from error
    bases = {}
    for section, pins in every_pins.items():
        for entry in [*pins.requirements, *pins.constraints]:
            if "==" not in entry:
                message = f"'{entry}' is not pinned (NAME==VERSION)"
                raise SetupError(f"{path.name}: {message}")
        if section != SECTION + pins.tag:
            raise SetupError(f"{path.name}: [{section}] pins {pins.torch}")
        folder = ".venv" if pins is primary else f".venv-{pins.tag}"
        bases[pins.tag] = Base(pins.tag, root / folder, pins)
    return bases


def choose_base(root: Path, name: str | None) -> Base:
    """The base of that name, or the primary one; raises UsageError if unknown."""
    bases = read_bases(root)
    if name is None:
        return next(iter(bases.values()))
    return bases[find_tag(name, bases, "setup.cfg knows")]


def find_tag(name: str, tags: Iterable[str], words: str) -> str:
    """The one of the tags that `--base NAME` means, with or without its v.

    Raises UsageError, with these words before the tags, if it means none.
    """
    tags = list(tags)
    for tag in (name, f"v{name}"):
        if tag in tags:
            return tag
    raise UsageError(f"--base {name}: {words} {', '.join(tags)}")


def shared_lists(parser: configparser.ConfigParser) -> tuple[list[str], list[str]]:
    """The lists that all bases share: what is asked for, and what that may bring."""
    extras = parser["options.extras_require"]
    requirements = [entry for extra in EXTRAS for entry in list_of(extras[extra])]
    return requirements, list_of(parser["constraints"]["transitive"])


def pins_of_section(primary: Pins, section: configparser.SectionProxy) -> Pins:
    """The primary base's pins with those of another base in place of their like."""
    return Pins(
        replaced(primary.requirements, list_of(section["requires"])),
        replaced(primary.constraints, list_of(section["transitive"])),
        section.getint("gibibytes", INSTALL_GIBIBYTES),
    )


def replaced(entries: tuple[str, ...], others: list[str]) -> tuple[str, ...]:
    """`entries` without those that `others` has for the same package, then `others`."""
    names = {name_of(entry) for entry in others}
    return (*(entry for entry in entries if name_of(entry) not in names), *others)


def name_of(entry: str) -> str:
    """The name of the package in NAME==VERSION, as pip compares names."""
    return re.sub(r"[-_.]+", "-", entry.partition("==")[0].strip()).lower()


def list_of(value: str) -> list[str]:
    """The entries of a setup.cfg list: one a line, blank lines left out."""
    return [line.strip() for line in value.splitlines() if line.strip()]
