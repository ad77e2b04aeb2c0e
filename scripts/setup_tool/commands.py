"""What scripts/setup, scripts/test, scripts/run and scripts/verify do."""

import argparse
import os
import sys
from pathlib import Path

from setup_tool import groups
from setup_tool.cells import Environment
from setup_tool.environment import child_variables, prepare, python_of
from setup_tool.lock import locked
from setup_tool.overlay_step import apply_overlay
from setup_tool.package_step import link_package
from setup_tool.pins import choose_base
from setup_tool.prerequisites import check_tools
from setup_tool.steps import report, SetupError, step, UsageError
from setup_tool.testing import add_all_argument, run_pytest
from setup_tool.verifying import verify

ROOT = Path(__file__).resolve().parents[2]


def main(command: str, arguments: list[str]) -> int:
    """Runs one of the commands and returns the exit status."""
    actions = {
        "setup": setup_command,
        "test": test_command,
        "run": run_command,
        "verify": verify_command,
    }
    try:
        return actions[command](arguments)
    except UsageError as error:
        print(f"scripts/{command}: {error}", file=sys.stderr)
        return 2
    except (SetupError, OSError) as error:
        print(f"scripts/{command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        again = f"call scripts/{command} again and it recovers"
        print(f"\nscripts/{command}: interrupted; {again}", file=sys.stderr)
        return 130


def set_up(base_name: str | None) -> Environment:
    """Brings a base's environment and overlay up to date and says what it did."""
    base = choose_base(ROOT, base_name)
    with step("machine") as current:
        compiler = check_tools()
        current.outcome = f"Python, git and {compiler} are there"
    folder = base.environment
    with locked(ROOT / f"{folder.name}.lock") as lock:
        with step("environment") as current:
            current.outcome = prepare(folder, base.pins, lock)
        with step("overlay") as current:
            current.outcome = apply_overlay(ROOT, folder, lock)
        link_package(ROOT, folder)
    return Environment(python_of(folder), compiler)


def add_base_argument(parser: argparse.ArgumentParser) -> None:
    """The argument that all three commands have."""
    parser.add_argument(
        "--base",
        metavar="TAG",
        help="the PyTorch release, such as v2.15.0 or 2.15.0, in an environment of its "
        "own, .venv-v2.15.0 (default: the one that setup.cfg pins, in .venv)",
    )


def setup_command(arguments: list[str]) -> int:
    """scripts/setup: the set-up and nothing else."""
    parser = argparse.ArgumentParser(
        prog="scripts/setup",
        description="Makes .venv as setup.cfg pins it and lays the overlay and the "
        "patches over its torch. Does only what is not done yet.",
    )
    add_base_argument(parser)
    set_up(parser.parse_args(arguments).base)
    return 0


def test_command(arguments: list[str]) -> int:
    """scripts/test: the set-up, then pytest."""
    parser = argparse.ArgumentParser(
        prog="scripts/test",
        description="Sets up, then runs the tests.",
        epilog="Everything else goes to pytest: -k NAME, a file, -n 0, ...",
        allow_abbrev=False,
    )
    add_all_argument(parser)
    add_base_argument(parser)
    options, others = parser.parse_known_args(arguments)
    words = [one.partition("::")[0] for one in others if one[:1] != "-"]
    for word in words:
        if word.endswith(".py") and not (ROOT / word).is_file():
            parser.error(f"there is no test file {word}")
    ready = set_up(options.base)
    chosen = options.all or any((ROOT / word).exists() for word in words)
    skipped = [] if chosen else groups.unchanged(ROOT)
    for group in skipped:
        report("left out", f"tests of {group.name}, which passed as they are")
    words_for_pytest = [*groups.left_out(ROOT, skipped), *others]
    status = run_pytest(
        ROOT, ready.python, ready.compiler, words_for_pytest, options.all
    )
    every_test_passed = status == 0 and not others and options.base is None
    if every_test_passed and groups.record(ROOT):
        report("passed", f"commit {groups.PASSED} with what changed")
    return status


def verify_command(arguments: list[str]) -> int:
    """scripts/verify: the set-up and the tests of every base."""
    return verify(ROOT, arguments, set_up)


def run_command(arguments: list[str]) -> int:
    """scripts/run: the set-up, then the main job or an example in its place."""
    job = str(ROOT / "scripts" / "main_job.py")
    variables = child_variables()
    parser = argparse.ArgumentParser(
        prog="scripts/run", usage="%(prog)s", add_help=False, allow_abbrev=False
    )
    add_base_argument(parser)
    parser.add_argument("--example", nargs="?", const="")
    options, arguments = parser.parse_known_args(arguments)
    if options.example is not None:
        found = {file.stem: file for file in sorted(ROOT.glob("examples/[!_]*.py"))}
        if options.example == "":
            print(*found, sep="\n")
            return 0
        if options.example not in found:
            raise UsageError(
                f"there is no example {options.example}: {', '.join(found)}"
            )
        job = str(found[options.example])
    if options.example is None and {"-h", "--help"} & set(arguments):
        # Help needs no torch: main_job.py reads its arguments before it imports any.
        python = sys.executable
    else:
        ready = set_up(options.base)
        python = str(ready.python)
        variables["CXX"] = ready.compiler
    sys.stdout.flush()
    os.execve(python, [python, job, *arguments], variables)
