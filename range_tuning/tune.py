"""Runs a script offline, and writes what its compiles measure into a table."""

from __future__ import annotations

import contextlib
import os
import runpy
import sys
import traceback
from typing import TYPE_CHECKING

from range_tuning.text import write
from torch._inductor.range_dispatch import record_parts, tune_into, TuningSession

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def default_table(script: str) -> str:
    """The table that a script's measurements go to: ``train.tuning.json``."""
    return f"{os.path.splitext(script)[0]}.tuning.json"


def tune_script(
    script: str, arguments: Sequence[str], out: str, is_fresh: bool = False
) -> int:
    """Run a script as a program; returns the exit status of the command.

    Sizes that ``out`` has of this environment and the same candidates are taken from
    it, unless ``is_fresh``. What was measured before a script fails, or is killed, is
    kept.

    Raises:
        TableError: there is something else in ``out``.
        OSError: the script cannot be read, or ``out`` not be written.
        Both before anything is run.
    """
    with open(script, "rb"):
        pass  # what cannot be read is told apart from what the script cannot read
    with tune_into(out, is_fresh) as session:
        failure = _run(script, arguments)
    _print_summary(session)
    if session.records or session.never_tuned:
        print(f"{out}: {_counts(session)}")
    elif not failure:
        failure = "registers no op by register_custom_op_autotuning"
    if failure:
        print(f"error: {script} {failure}", file=sys.stderr)
    return 1 if failure or not (session.measured or session.taken) else 0


def _counts(session: TuningSession) -> str:
    """How many sizes were measured, and how many were not but taken."""
    has_more = session.has_something_to_take
    taken = f", {session.taken} taken from the table" if has_more else ""
    return f"{session.measured} sizes measured{taken}"


def _run(script: str, arguments: Sequence[str]) -> str:
    """Why the script failed; empty if it did not."""
    try:
        with _as_program(script, arguments):
            runpy.run_path(script, run_name="__main__")
    except SystemExit as stop:
        return f"ended with {stop.code}" if stop.code else ""
    except KeyboardInterrupt:
        return "was interrupted"
    except Exception as error:
        traceback.print_exc()
        return f"failed: {error!r}".partition("\n")[0]
    return ""


@contextlib.contextmanager
def _as_program(script: str, arguments: Sequence[str]) -> Iterator[None]:
    """Arguments and module path as Python gives them to a program."""
    before = sys.argv, [*sys.path]
    sys.argv = [script, *arguments]
    sys.path.insert(0, os.path.dirname(os.path.abspath(script)))
    try:
        yield
    finally:
        sys.argv, sys.path[:] = before


def _print_summary(session: TuningSession) -> None:
    """What was chosen for each call, and which ops were never tuned."""
    for record in session.records:
        write([*record_parts(record), ""], sys.stdout)
    for op in session.never_tuned:
        print(
            f"note: {op} is registered, but no call of it was tuned: the script must "
            "call it in a function that torch.compile compiles"
        )
