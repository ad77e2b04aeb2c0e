"""The command line of scripts/build, and what it does in which order."""

import argparse
import json
import os
import shlex
import shutil
import signal
import sys
from pathlib import Path
from typing import NoReturn

from build_tool import preflight, python_only
from build_tool.checkout import Checkout, find_checkout
from overlay_tool import commands as overlay
from overlay_tool.errors import OverlayError
from setup_tool.lock import locked
from setup_tool.steps import say, SetupError

ROOT = Path(__file__).resolve().parents[2]
DISPATCH_CHECK = Path(__file__).resolve().parent / "dispatch_check.py"

DESCRIPTION = """\
Makes an environment whose torch is a PyTorch checkout, with the overlay in it, and in
which an edit of the checkout's Python takes effect at once. --cpu and --cuda run the
base's own editable install, which compiles all of PyTorch: hours, 20 GiB, 60 with CUDA.
--python-only takes the binaries of the matching wheel and compiles nothing. What is
needed is looked at first; until then nothing is changed.
"""

EPILOG = """\
exit status: 0 done; 1 something is missing, does not match, or failed; 2 wrong usage;
130 interrupted. After a failure call again: pip and ninja go on where they were.

.range-dispatch/ in the checkout has the environment (venv) and the output of all calls
(build.log). Variables (MAX_JOBS, BUILD_TEST, USE_*, CC, CXX, CMAKE_*) go to the build;
USE_CUDA is what --cpu or --cuda says.
"""


def main(command: str, arguments: list[str]) -> int:
    """Runs scripts/build and returns the exit status."""
    options = parse(arguments)
    signal.signal(signal.SIGTERM, _stop)
    try:
        build(options)
    except (SetupError, OverlayError, OSError) as error:
        print(f"scripts/{command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\nscripts/{command}: interrupted", file=sys.stderr)
        return 130
    return 0


def parse(arguments: list[str]) -> argparse.Namespace:
    """Reads the arguments; wrong ones end the process with status 2."""
    parser = argparse.ArgumentParser(
        prog="scripts/build",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("kind", choices=("editable",))
    known = "a git checkout of PyTorch, of a release that patches/bases.toml knows"
    add("--source", type=_absolute, required=True, metavar="CHECKOUT", help=known)
    route = parser.add_mutually_exclusive_group(required=True)
    for option, what in (
        ("--cpu", "compile without CUDA"),
        ("--cuda", "compile with CUDA"),
        ("--python-only", "take the binaries from a wheel"),
        ("--remove", "take away what an earlier call made, but for the overlay"),
    ):
        route.add_argument(option, action="store_true", help=what)
    which = "with --python-only: that wheel (default: pip's torch of the release)"
    add("--wheel", type=_absolute, metavar="FILE", help=which)
    which = "with --python-only: the torch in that site-packages folder, left there"
    add("--installed", type=_absolute, metavar="DIR", help=which)
    which = "the Python that the environment is made of (default: %(default)s)"
    add("--python", default=sys.executable, metavar="PROGRAM", help=which)
    add("--dry-run", action="store_true", help="check, say the plan, change nothing")
    options = parser.parse_args(arguments)
    given = [name for name in ("wheel", "installed") if getattr(options, name)]
    if given and not options.python_only:
        parser.error(f"--{given[0]} goes with --python-only")
    if len(given) == 2:
        parser.error("--installed: not allowed with --wheel")
    # Not an environment's, perhaps the one that is to be made anew.
    options.python = os.path.realpath(shutil.which(options.python) or options.python)
    return options


def build(options: argparse.Namespace) -> None:
    """Checks, then does all that is not done yet."""
    device = "cuda" if options.cuda else "cpu" if options.cpu else None
    wanted = [".git", "setup.py"] if device else [".git"]
    checkout = find_checkout(options.source, ROOT, wanted)
    if options.remove:
        remove(checkout, options.dry_run)
        return
    for name in ("wheel", "installed"):
        if (given := getattr(options, name)) is not None:
            python_only.check_binaries(checkout, f"--{name} {given}", given)
    preflight.check(checkout, options.python, device)
    first = environment_commands(checkout, options)
    last = [checkout.python, str(DISPATCH_CHECK), str(checkout.root)]
    install = [checkout.python, "-m", "pip", "install", "--no-build-isolation", "-v"]
    install += ["-e", "."]
    if options.dry_run:
        middle = [install] if device else []
        for command in [*first, [f"{ROOT}/scripts/overlay.py", "apply"], *middle, last]:
            say(shlex.join(command))
        return
    checkout.folder.mkdir(exist_ok=True)
    (checkout.folder / ".gitignore").write_text("*\n")
    with locked(checkout.folder / "lock") as lock:
        make_environment(checkout, first, options, lock)
        say(overlay.apply(checkout.root, ROOT, say).summary)
        try:
            if device is None:
                count = python_only.link(checkout, options.installed)
                say(f"{count} links to the wheel in {checkout.root}")
            else:
                checkout.run(install, lock, variables(device))
            checkout.run(last, lock)
        except BaseException:
            say(f"\nunfinished, and the overlay is applied: {_undoing(checkout)}")
            raise
    say(f"\nuse it:  source {checkout.environment}/bin/activate")


def environment_commands(
    checkout: Checkout, options: argparse.Namespace
) -> list[list[str]]:
    """What makes the environment, from nothing."""
    venv = [options.python, "-m", "venv", "--clear", str(checkout.environment)]
    pip = [checkout.python, "-m", "pip", "install"]
    if not options.python_only:
        return [venv, [*pip, *preflight.requirements(checkout)]]
    if options.installed is not None:
        return [[*venv, "--without-pip"]]
    release = checkout.base.release.removeprefix("v")
    # Of 2000 files nobody is to import. Without numpy torch warns at every start.
    wheel = str(options.wheel or f"torch=={release}")
    return [venv, [*pip, "--no-compile", wheel, "numpy"]]


def variables(device: str) -> dict[str, str]:
    """What the build gets besides the user's own."""
    chosen = {"USE_CUDA": str(int(device == "cuda"))}
    chosen["MAX_JOBS"] = preflight.jobs(device)
    chosen["BUILD_TEST"] = os.environ.get("BUILD_TEST") or "0"
    return chosen


def make_environment(
    checkout: Checkout,
    commands: list[list[str]],
    options: argparse.Namespace,
    lock: int,
) -> None:
    """Makes the environment, unless the same commands have made the one there is.

    They are written down last: one that was left half made is made anew.
    """
    receipt = checkout.folder / "environment.json"
    changed = options.wheel.stat().st_mtime_ns if options.wheel else None
    text = json.dumps([commands, str(options.installed), changed])
    if receipt.exists() and receipt.read_text() == text:
        say(f"{checkout.environment} is as it was made")
        return
    receipt.unlink(missing_ok=True)
    for command in commands:
        checkout.run(command, lock)
    if options.python_only:
        python_only.take_binaries(checkout, options.installed)
    receipt.write_text(text)


def remove(checkout: Checkout, dry_run: bool) -> None:
    """Removes the links and our folder; the overlay stays."""
    count = len(list(python_only.find_links(checkout)))
    say(f"{'would remove' if dry_run else 'removes'} {checkout.folder}, {count} links")
    if not dry_run and checkout.folder.exists():
        with locked(checkout.folder / "lock"):
            python_only.remove_links(checkout)
            python_only.exclude(checkout, [])
            shutil.rmtree(checkout.folder)


def _undoing(checkout: Checkout) -> str:
    return (
        "call again, or undo it with\n  scripts/build editable --remove --source "
        f"{checkout.root}\n  scripts/overlay.py revert --tree {checkout.root}"
    )


def _absolute(text: str) -> Path:
    return Path(os.path.abspath(text))


def _stop(number: int, frame: object) -> NoReturn:
    sys.exit(128 + number)
