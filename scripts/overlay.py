#!/usr/bin/env python3
"""Lays this repository's overlay and patches over a PyTorch tree, and takes them off.

Run ``python scripts/overlay.py --help``. Needs Python 3.11 and, for checkouts and
patches, git.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

if sys.version_info < (3, 11):  # noqa: UP036
    sys.exit("overlay: error: Python 3.11 or newer is needed to run this tool")

from overlay_tool import checking, commands, exporting, refreshing
from overlay_tool.errors import EnvironmentFailure, OverlayError, Report

_DESCRIPTION = """\
Lays the overlay (whole files) and the patches of this repository over a PyTorch
tree, and takes them off again. All or nothing: every file is checked first, and a
command that fails or is killed leaves the tree as it was (if killed, as soon as
the next apply or revert has run).
"""

_EPILOG = """\
exit status:
  0   done, or nothing to do; status: applied and current
  1   refused, nothing changed: no PyTorch tree, unknown base, a file that is not
      the base's or that you edited, a patch that does not fit, an unsafe path
  2   wrong usage
  3   the machine does not let us: no git, no space, no permission, a damaged
      receipt; the message names the path
  10  status: not applied
  11  status: outdated: apply would change files (a newer patch set, another torch,
      files put back to the base's), or torch has another patch set in its own files
  12  status: edited: files were edited or deleted since apply; they are listed
  13  status: interrupted: a command was killed; the next apply or revert recovers
  14  status: in progress: another process is changing the tree
  15  check: something does not fit; the hunks are shown
  128+N  stopped by signal N; the change was undone

in the tree, while applied:
  .torch_overlay.json   the receipt: base, patch set, blob ids before and after
  .torch_overlay/       the originals, and what a running command needs

example:
  python scripts/overlay.py apply --tree ~/pytorch
  python scripts/overlay.py status --tree .venv/lib/python3.11/site-packages
"""

_COMMANDS = {
    "status": "say whether it is applied, and current; changes nothing",
    "check": "say of each file and patch whether it fits; changes nothing",
    "apply": "apply it, or bring what is applied up to date",
    "refresh": "bring what you edited in the tree back into the patch set",
    "revert": "take it off: every file byte for byte as it was",
    "export": "write it as commits, in mails that git am takes",
    "wheel": "make a wheel of torch with it, from a wheel without",
    "pin": "for maintainers: note a pristine tree's blob ids in bases.toml",
}

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _Stopped(BaseException):
    """A signal asked us to stop: unwinds, and so undoes, like any other error."""

    def __init__(self, number: int) -> None:
        self.number = number


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit status."""
    options = _parser().parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A path that the terminal cannot show must not end a command.
        sys.stdout.reconfigure(errors="backslashreplace")
    _stop_on_signals()
    try:
        report = _run(options)
    except OverlayError as error:
        return _fail(options, str(error), error.exit_code)
    except OSError as error:
        place = f"{error.filename}: " if error.filename is not None else ""
        message = (
            f"{place}{error.strerror or error}; nothing was changed. Make it possible "
            "(space, permission, a writable disk) and run this again"
        )
        return _fail(options, message, EnvironmentFailure.exit_code)
    except _Stopped as stopped:
        name = signal.Signals(stopped.number).name
        return _fail(options, f"stopped by {name}", 128 + stopped.number)
    try:
        _print(options, report)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever reads had enough, as in `| head`; what was to be done is done.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return report.exit_code


def _run(options: argparse.Namespace) -> Report:
    patch_set = options.patch_set
    if options.command == "wheel":
        try:
            from overlay_tool.wheels import make_wheel
        except ImportError as error:
            raise EnvironmentFailure(
                f"the command wheel needs the Python package {error.name}: run it with "
                ".venv/bin/python after scripts/setup, or pip install installer "
                "packaging"
            ) from None
        return make_wheel(options.source, options.out, patch_set)
    tree = options.tree

    def on_wait(who: str) -> None:
        if not options.quiet:
            print(f"overlay: waiting for {who}", file=sys.stderr, flush=True)

    if options.command == "status":
        return commands.status(tree, patch_set)
    if options.command == "check":
        return checking.check(tree, patch_set, options.base)
    if options.command == "export":
        author = options.author
        return exporting.export(tree, options.out, patch_set, options.branch, author)
    if options.command == "apply":
        return commands.apply(tree, patch_set, on_wait)
    if options.command == "refresh":
        others = options.other_tree
        return refreshing.refresh(tree, patch_set, on_wait, options.patch, others)
    if options.command == "revert":
        return commands.revert(tree, on_wait, patch_set)
    return commands.pin(tree, patch_set, options.keep)


def _path(text: str) -> Path:
    """Absolute at once; links in it are resolved later."""
    return Path(os.path.abspath(text))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="overlay.py",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add = {}
    for name, text in _COMMANDS.items():
        command = subparsers.add_parser(
            name,
            help=text,
            description=f"{text[0].upper()}{text[1:]}.",
            epilog="exit status: see overlay.py --help",
        )
        add[name] = command.add_argument
        if name != "wheel":
            command.add_argument(
                "--tree",
                type=_path,
                required=True,
                metavar="PATH",
                help="a git checkout of PyTorch, or the site-packages folder of an "
                "installed torch",
            )
        command.add_argument(
            "--patch-set",
            type=_path,
            default=Path(__file__).resolve().parent.parent,
            metavar="DIR",
            help="the folder that holds torch_overlay/ and patches/ (default: the "
            "repository of this script); for tests and forks",
        )
        command.add_argument(
            "--quiet", action="store_true", help="print errors only, on stderr"
        )
        command.add_argument(
            "--json",
            action="store_true",
            help="print the result, errors too, as one JSON object on stdout",
        )
    add["check"](
        "--base",
        metavar="TAG",
        help="the patches of this base are meant, such as v2.13.0 or 2.13.0 (default: "
        "those of the tree's own, or if it is none that is known, those that fit best)",
    )
    add["refresh"](
        "--patch",
        metavar="NAME",
        help="the patch that edits of the base's files go to (default: the one that "
        "wrote those lines, or the nearest)",
    )
    add["refresh"](
        "--other-tree",
        type=_path,
        action="append",
        default=[],
        metavar="PATH",
        help="a tree of another base, to say whether patches that it shares still fit; "
        "may be repeated (found by themselves: the .venv* that scripts/setup made)",
    )
    for name, what in (("export", "where the mails go"), ("wheel", "made if missing")):
        add[name]("--out", type=_path, required=True, metavar="DIR", help=what)
    add["export"](
        "--branch", metavar="NAME", help="make this branch of the commits, too"
    )
    add["export"](
        "--author",
        metavar="'NAME <MAIL>'",
        help="of the commits (default: as the patches say)",
    )
    add["wheel"](
        "--from",
        dest="source",
        type=_path,
        required=True,
        metavar="WHEEL",
        help="a torch-*.whl of a known base (pip download --no-deps torch)",
    )
    add["pin"](
        "--keep",
        action="store_true",
        help="keep accepting the blob ids that are listed now, too",
    )
    return parser


def _stop_on_signals() -> None:
    def stop(number: int, frame: object) -> None:
        # Once is enough: a second signal must not cut off the undoing.
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        raise _Stopped(number)

    for each in _SIGNALS:
        # Not what we were told to ignore (nohup, a background job).
        if signal.getsignal(each) is not signal.SIG_IGN:
            signal.signal(each, stop)


def _print(options: argparse.Namespace, report: Report) -> None:
    if options.json:
        document = {
            "command": options.command,
            "exit_code": report.exit_code,
            "summary": report.summary,
            **report.details,
            "notes": list(report.notes),
        }
        print(json.dumps(document, indent=2))
    elif not options.quiet:
        for line in (*(f"note: {note}" for note in report.notes), report.summary):
            print(line)
        for line in report.lines:
            print(f"  {line}")


def _fail(options: argparse.Namespace, message: str, exit_code: int) -> int:
    print(f"overlay: error: {message}", file=sys.stderr)
    if options.json:
        error = {"command": options.command, "exit_code": exit_code, "error": message}
        print(json.dumps(error, indent=2))
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
