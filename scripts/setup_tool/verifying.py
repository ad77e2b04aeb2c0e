"""scripts/verify: the matrix of bases and of what must hold for each.

A base is in the matrix if setup.cfg has an environment for it or patches/bases.toml has
its files; one that only one of the two knows is a hole.
"""

import argparse
import shutil
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from setup_tool.cells import NOT_REACHED, Cell, Environment, import_cell, tests_cell
from setup_tool.pins import find_tag, read_bases
from setup_tool.stack_verifying import TESTS, stack_rows
from setup_tool.steps import SetupError, say
from setup_tool.testing import add_all_argument

BASES_FILE = Path("patches") / "bases.toml"
OVERLAY = Path("torch_overlay")
COLUMNS = ("applies", "imports", "tests")


def verify(
    root: Path, arguments: list[str], set_up: Callable[[str], Environment]
) -> int:
    """Fills and prints the matrix; 0 if every cell holds.

    ``set_up`` makes a base's environment, with the patch set laid over its torch, and
    raises SetupError if it cannot.
    """
    parser = argparse.ArgumentParser(
        prog="scripts/verify",
        description="Sets up every base and passes its tests; then prints what "
        "applies, imports and passes. Ends with 1 if anything does not.",
        epilog="Everything else goes to pytest: -k NAME, a file, ...",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--base",
        action="append",
        metavar="TAG",
        help="only this release, such as v2.15.0; may be repeated",
    )
    add_all_argument(parser)
    parser.add_argument(
        "--smoke",
        action="store_true",
        help="only the tests marked smoke: about sixty, of all that a base can break",
    )
    parser.add_argument(
        "--remove",
        action="store_true",
        help="remove each environment but the first base's when its row is done: a "
        "release for CUDA takes some 8 GB",
    )
    parser.add_argument(
        "--stack",
        nargs="?",
        const="",
        metavar="NAME",
        help="instead, apply what overlay.py export writes to a pristine torch, one "
        "pull request after the other, and pass the tests that come with each (with a "
        "NAME such as 01: only with that one)",
    )
    options, others = parser.parse_known_args(arguments)
    if options.smoke:
        others = [TESTS, "-m", "smoke and not slow", *others]
    patched = read_patched_files(root / BASES_FILE)
    known = read_bases(root)
    every = list(dict.fromkeys([*known, *patched]))
    tags = [find_tag(name, every, "there are") for name in options.base or every]
    rows = {}
    for tag in tags:
        say(f"== {tag}")
        if tag not in known:
            words = "setup.cfg has no environment"
            rows[tag] = [Cell(False, words), NOT_REACHED, NOT_REACHED]
        elif options.stack is not None:
            wanted = options.stack or None
            rows |= stack_rows(root, tag, set_up(tag), wanted, others, options.all)
        else:
            modules = modules_of(root, patched.get(tag, ()))
            rows[tag] = row(root, modules, lambda: set_up(tag), others, options.all)
        if options.remove and tag in [*known][1:]:
            shutil.rmtree(known[tag].environment, ignore_errors=True)
    say(table(rows))
    return 0 if all(cell.holds for cells in rows.values() for cell in cells) else 1


def row(
    root: Path,
    modules: Sequence[str],
    set_up: Callable[[], Environment],
    pytest_arguments: list[str],
    everything: bool,
) -> list[Cell]:
    """The cells of one base; after one that does not hold there is nothing to see."""
    try:
        environment = set_up()
    except (SetupError, OSError) as error:
        say(str(error))
        words = str(error).splitlines()[0]
        return [Cell(False, words), NOT_REACHED, NOT_REACHED]
    applies = Cell(True, f"{len(modules)} modules")
    imports = import_cell(environment, modules)
    if not imports.holds:
        return [applies, imports, NOT_REACHED]
    tests = tests_cell(root, environment, pytest_arguments, everything)
    return [applies, imports, tests]


def read_patched_files(file: Path) -> Mapping[str, Sequence[str]]:
    """For each base of bases.toml the files of its tree that we change."""
    try:
        document = tomllib.loads(file.read_text())
        return {base["tag"]: list(base["blobs"]) for base in document["base"]}
    except (OSError, ValueError, KeyError) as error:
        raise SetupError(f"cannot read the bases from {file}: {error}") from error


def modules_of(root: Path, patched: Sequence[str]) -> list[str]:
    """The names of all modules that are ours or that a patch changes."""
    files = [Path(file) for file in patched if file.endswith(".py")]
    overlay = root / OVERLAY
    ours = [file.relative_to(overlay) for file in sorted(overlay.rglob("*.py"))]
    files += [Path("torch") / file for file in ours]
    names = (file.with_suffix("").as_posix().replace("/", ".") for file in files)
    return list(dict.fromkeys(name.removesuffix(".__init__") for name in names))


def table(rows: Mapping[str, Sequence[Cell]]) -> str:
    """The matrix as text."""
    lines: list[tuple[str, ...]] = [("base", *COLUMNS)]
    lines += [(tag, *map(str, cells)) for tag, cells in rows.items()]
    widths = [max(map(len, column)) for column in zip(*lines)]
    shown = ("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
    return "\n" + "\n".join(shown)
