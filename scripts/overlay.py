#!/usr/bin/env python3
"""Lays this repository's overlay and patches over a PyTorch tree, and takes them off.

Run ``python scripts/overlay.py --help``. Needs Python 3.11 and, for checkouts and
patches, git.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

if sys.version_info < (3, 11):  # noqa: UP036
    sys.exit("overlay: error: Python 3.11 or newer is needed to run this tool")

from overlay_tool import checking, commands, exporting, refreshing
from overlay_tool.errors import EnvironmentFailure, OverlayError
from overlay_tool.report import Report

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
    _say_goodbye_on_signals()
    try:
        report = _run(options)
    except OverlayError as error:
        return _fail(options, str(error), error.exit_code)
    except OSError as error:
        return _fail(options, _explain(error), EnvironmentFailure.exit_code)
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
    patch_set = Path(os.path.abspath(options.patch_set))
    if options.command == "wheel":
        return _wheel(options, patch_set)
    # Absolute at once; links in it are resolved later.
    tree = Path(os.path.abspath(options.tree))

    def on_wait(who: str) -> None:
        if not options.quiet:
            print(f"overlay: waiting for {who}", file=sys.stderr, flush=True)

    if options.command == "status":
        return commands.status(tree, patch_set)
    if options.command == "check":
        return checking.check(tree, patch_set, options.base)
    if options.command == "export":
        out = Path(os.path.abspath(options.out))
        return exporting.export(tree, out, patch_set, options.branch, options.author)
    if options.command == "apply":
        return commands.apply(tree, patch_set, on_wait)
    if options.command == "refresh":
        others = [Path(os.path.abspath(other)) for other in options.other_tree]
        return refreshing.refresh(tree, patch_set, on_wait, options.patch, others)
    if options.command == "revert":
        return commands.revert(tree, on_wait, patch_set)
    return commands.pin(tree, patch_set, options.keep)


def _wheel(options: argparse.Namespace, patch_set: Path) -> Report:
    try:
        from overlay_tool.wheels import make_wheel
    except ImportError as error:
        raise EnvironmentFailure(
            f"the command wheel needs the Python package {error.name}: run it with "
            ".venv/bin/python after scripts/setup, or pip install installer packaging"
        ) from None
    with _progress(options, "writing the wheel") as on_progress:
        source, out = Path(options.source), Path(options.out)
        return make_wheel(source, out, patch_set, on_progress)


@contextlib.contextmanager
def _progress(
    options: argparse.Namespace, text: str
) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal, if rich is there to draw one."""
    try:
        from rich.console import Console
        from rich.progress import Progress
    except ImportError:
        yield lambda done, total: None
        return
    console = Console(stderr=True, quiet=options.quiet)
    with Progress(console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(text)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _parser() -> argparse.ArgumentParser:
    of_tree = argparse.ArgumentParser(add_help=False)
    of_tree.add_argument(
        "--tree",
        required=True,
        metavar="PATH",
        help="a git checkout of PyTorch, or the site-packages folder of an "
        "installed torch",
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--patch-set",
        default=str(Path(__file__).resolve().parent.parent),
        metavar="DIR",
        help="the folder that holds torch_overlay/ and patches/ (default: the "
        "repository of this script); for tests and forks",
    )
    common.add_argument(
        "--quiet", action="store_true", help="print errors only, on stderr"
    )
    common.add_argument(
        "--json",
        action="store_true",
        help="print the result, errors too, as one JSON object on stdout",
    )
    parser = argparse.ArgumentParser(
        prog="overlay.py",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in (
        ("status", "say whether it is applied, and current; changes nothing"),
        ("check", "say of each file and patch whether it fits; changes nothing"),
        ("apply", "apply it, or bring what is applied up to date"),
        ("refresh", "bring what you edited in the tree back into the patch set"),
        ("revert", "take it off: every file byte for byte as it was"),
        ("export", "write it as commits, in mails that git am takes"),
        ("wheel", "make a wheel of torch with it, from a wheel without"),
        ("pin", "for maintainers: note a pristine tree's blob ids in bases.toml"),
    ):
        command = subparsers.add_parser(
            name,
            parents=[common] if name == "wheel" else [of_tree, common],
            help=text,
            description=text[0].upper() + text[1:] + ".",
            epilog="exit status: see overlay.py --help",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if name == "check":
            command.add_argument(
                "--base",
                metavar="TAG",
                help="the patches of this base are meant (default: those of the "
                "tree's own, or if it is none that is known, those that fit best)",
            )
        if name == "refresh":
            command.add_argument(
                "--patch",
                metavar="NAME",
                help="the patch that edits of the base's files go to (default: the "
                "one that wrote those lines, or the nearest)",
            )
            command.add_argument(
                "--other-tree",
                action="append",
                default=[],
                metavar="PATH",
                help="a tree of another base, to say whether the patches that it "
                "shares still fit; may be repeated (found by themselves: the .venv* "
                "that scripts/setup made)",
            )
        if name == "export":
            command.add_argument(
                "--out", required=True, metavar="DIR", help="where the mails go"
            )
            command.add_argument(
                "--branch", metavar="NAME", help="make this branch of the commits, too"
            )
            command.add_argument(
                "--author",
                metavar="'NAME <MAIL>'",
                help="of the commits (default: as the patches say)",
            )
        if name == "wheel":
            command.add_argument(
                "--from",
                dest="source",
                required=True,
                metavar="WHEEL",
                help="a torch-*.whl of a known base (pip download --no-deps torch)",
            )
            command.add_argument(
                "--out", required=True, metavar="DIR", help="where to; made if missing"
            )
        if name == "pin":
            command.add_argument(
                "--keep",
                action="store_true",
                help="keep accepting the blob ids that are listed now, too",
            )
    return parser


def _say_goodbye_on_signals() -> None:
    def stop(number: int, frame: object) -> None:
        # Once is enough: a second signal must not cut off the undoing.
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        raise _Stopped(number)

    for each in _SIGNALS:
        # Not what we were told to ignore (nohup, a background job).
        if signal.getsignal(each) is not signal.SIG_IGN:
            signal.signal(each, stop)


def _explain(error: OSError) -> str:
    place = f"{error.filename}: " if error.filename is not None else ""
    return (
        f"{place}{error.strerror or error}; nothing was changed. Make it possible "
        "(space, permission, a writable disk) and run this again"
    )


def _print(options: argparse.Namespace, report: Report) -> None:
    if options.json:
        _print_json(
            {
                "command": options.command,
                "exit_code": report.exit_code,
                "summary": report.summary,
                **report.details,
                "notes": list(report.notes),
            }
        )
    elif not options.quiet:
        for line in (*(f"note: {note}" for note in report.notes), report.summary):
            print(line)
        for line in report.lines:
            print(f"  {line}")


def _fail(options: argparse.Namespace, message: str, exit_code: int) -> int:
    print(f"overlay: error: {message}", file=sys.stderr)
    if options.json:
        document = {
            "command": options.command,
            "exit_code": exit_code,
            "error": message,
        }
        _print_json(document)
    return exit_code


def _print_json(document: dict[str, Any]) -> None:
    print(json.dumps(document, indent=2))


if __name__ == "__main__":
    sys.exit(main())
