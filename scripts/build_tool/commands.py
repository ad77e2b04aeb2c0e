"""The command line of scripts/build."""

import argparse
import os
import signal
import sys
from pathlib import Path

from build_tool import full, python_only, removal
from build_tool.binaries import Binaries
from build_tool.checkout import find_checkout
from build_tool.place import place_of
from overlay_tool.errors import OverlayError
from setup_tool.steps import SetupError

ROOT = Path(__file__).resolve().parents[2]

DESCRIPTION = """\
Makes an environment whose torch is a PyTorch checkout, with the overlay in it, and in
which an edit of the checkout's Python takes effect at once.

Two routes:
  (default)      the base's own editable install (pip install --no-build-isolation -v
                 -e .), which compiles all of PyTorch: hours, 20 GiB, 60 with CUDA
  --python-only  the binaries of the matching wheel: minutes, no compilation

First everything that is needed is looked at, and all that is missing is reported at
once, each with what to do; until then nothing is changed.
"""

EPILOG = """\
exit status:
  0      done, or nothing to do
  1      something is missing, does not match, or failed; the message says what
  2      wrong usage
  128+N  stopped by signal N (130: Ctrl-C); call again, finished stages are kept

in the checkout, all invisible to git:
  .range-dispatch/venv         the environment (unless --venv names another)
  .range-dispatch/build.log    the output of all attempts
  .range-dispatch/state.json   the finished stages
  .range-dispatch/torch-wheel  with --python-only: the wheel's files, which links in
                               torch/ point to (.git/info/exclude lists them)

variables: what is set stays. MAX_JOBS is the number of jobs (--jobs goes before it),
USE_CUDA the default for --cpu and --cuda; any of PyTorch's own (BUILD_TEST, USE_*,
CC, CXX, CMAKE_*, ...) goes to the build. Only PYTHONPATH and PYTHONHOME are left out,
as they could let another torch in.

examples:
  scripts/build editable --source ~/pytorch --cpu
  scripts/build editable --source ~/pytorch --python-only
  scripts/build editable --source ~/pytorch --python-only --wheel torch-2.13.0*.whl
  scripts/build editable --source ~/pytorch --remove
"""

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _Stopped(BaseException):
    """A signal asked us to stop."""

    def __init__(self, number: int) -> None:
        self.number = number


def main(command: str, arguments: list[str]) -> int:
    """Runs scripts/build and returns the exit status."""
    options = parse(arguments)
    _stop_on_signals()
    try:
        _run(options)
    except (SetupError, OverlayError, OSError) as error:
        print(f"scripts/{command}: {error}", file=sys.stderr)
        return 1
    except _Stopped as stopped:
        name = signal.Signals(stopped.number).name
        words = f"stopped by {name}; call again, and it goes on where it was"
        print(f"\nscripts/{command}: {words}", file=sys.stderr)
        return 128 + stopped.number
    return 0


def parse(arguments: list[str]) -> argparse.Namespace:
    """Reads the arguments; wrong ones end the process with status 2."""
    parser = argparse.ArgumentParser(
        prog="scripts/build",
        description=DESCRIPTION,
        epilog="exit status and examples: see scripts/build editable --help",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
    editable = kinds.add_parser(
        "editable",
        help="an environment whose torch is the checkout itself",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = editable.add_argument
    add(
        "--source",
        required=True,
        metavar="CHECKOUT",
        help="a git checkout of PyTorch, of a release that patches/bases.toml knows",
    )
    device = editable.add_mutually_exclusive_group()
    device.add_argument(
        "--cpu",
        dest="device",
        action="store_const",
        const="cpu",
        help="build without CUDA (default); with --python-only: the wheel has none",
    )
    device.add_argument(
        "--cuda",
        dest="device",
        action="store_const",
        const="cuda",
        help="build with CUDA; with --python-only: the wheel has it",
    )
    add("--python-only", action="store_true", help="take the binaries from a wheel")
    where = editable.add_mutually_exclusive_group()
    where.add_argument(
        "--wheel",
        metavar="FILE",
        help="with --python-only: that wheel (default: pip's torch of the release)",
    )
    where.add_argument(
        "--installed",
        metavar="DIR",
        help="with --python-only: the torch in that site-packages folder, which must "
        "stay; nothing is installed, all packages beside it can be imported",
    )
    add("--venv", metavar="DIR", help="the environment (default: see below)")
    add(
        "--python",
        metavar="PROGRAM",
        # Not this one if it is an environment's, perhaps of the very one to be made.
        default=getattr(sys, "_base_executable", sys.executable),
        help="the Python that the environment is made of (default: %(default)s)",
    )
    add(
        "--jobs",
        type=_positive,
        metavar="N",
        help="compilers at a time (default: MAX_JOBS, else by cores and memory)",
    )
    add("--again", action="store_true", help="build, or install the wheel, anew")
    add("--dry-run", action="store_true", help="check, say the plan, change nothing")
    add(
        "--remove",
        action="store_true",
        help="take away what an earlier call made; the overlay and C++ that was built "
        "stay",
    )
    add(
        "--patch-set",
        default=str(ROOT),
        metavar="DIR",
        help="the folder that holds torch_overlay/ and patches/ (default: the "
        "repository of this script); for tests and forks",
    )
    options = parser.parse_args(arguments)
    for name in ("wheel", "installed"):
        if getattr(options, name) is not None and not options.python_only:
            editable.error(f"--{name} goes with --python-only")
    if options.jobs is not None and options.python_only:
        editable.error("--jobs: nothing is compiled with --python-only")
    return options


def _run(options: argparse.Namespace) -> None:
    patch_set = Path(os.path.abspath(options.patch_set))
    checkout = find_checkout(Path(os.path.abspath(options.source)), patch_set)
    chosen = None if options.venv is None else Path(options.venv)
    place = place_of(checkout.root, chosen)
    if options.remove:
        removal.remove(checkout, place, options.dry_run)
        return
    shared = (checkout, place, patch_set, options.python, options.device)
    if options.python_only:
        binaries = _binaries(options)
        python_only.build(*shared, binaries, options.again, options.dry_run)
    else:
        full.build(*shared, options.jobs, options.again, options.dry_run)


def _binaries(options: argparse.Namespace) -> Binaries:
    wheel, installed = (
        None if path is None else Path(os.path.abspath(path))
        for path in (options.wheel, options.installed)
    )
    argument = ""
    if wheel is not None:
        argument = f"--wheel {options.wheel}"
    elif installed is not None:
        argument = f"--installed {options.installed}"
    return Binaries(wheel, installed, argument)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 on")
    return int(text)


def _stop_on_signals() -> None:
    def stop(number: int, frame: object) -> None:
        # Once is enough: a second signal must not cut off the clearing up.
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        raise _Stopped(number)

    for each in _SIGNALS:
        # Not what we were told to ignore (nohup, a background job).
        if signal.getsignal(each) is not signal.SIG_IGN:
            signal.signal(each, stop)
