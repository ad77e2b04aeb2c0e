"""Runs a script offline, and writes what its compiles measure into a table."""

from __future__ import annotations

import contextlib
import os
import runpy
import sys
import traceback
from typing import TYPE_CHECKING

from torch._inductor import config
from torch._inductor.kernel.custom_op import AutotunedLowering
from torch._inductor.lowering import user_lowerings
from torch._inductor.range_dispatch.cache.table_store import tuning_into
from torch._inductor.range_dispatch.cache.tune_table import TuneTable
from torch._inductor.range_dispatch.record.record_text import record_parts
from torch._inductor.range_dispatch.record.records import (
    DispatchRecord,
    record_dispatches,
    without_summaries,
)
from torch._inductor.range_dispatch.record.text_tables import Part, write
from torch.utils._ordered_set import OrderedSet

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
    # Hours of tuning must not end with a table that cannot be written.
    table = TuneTable(out, is_fresh)
    before = dict(user_lowerings)
    with record_dispatches() as records, without_summaries(), tuning_into(table):
        failure = _run(script, arguments)
    table.write()
    registered = [
        str(op)
        for op, lowering in user_lowerings.items()
        if isinstance(lowering, AutotunedLowering) and before.get(op) is not lowering
    ]
    write(_summary(records, registered), sys.stdout)
    print(f"{out}: {_counts(table)}")
    if failure:
        print(f"error: {script} {failure}", file=sys.stderr)
    return 1 if failure or not (table.measured or table.taken) else 0


def _counts(table: TuneTable) -> str:
    """How many sizes were measured, and how many were not but taken."""
    measured = f"{len(table.measured)} sizes measured"
    if not table.has_something_to_take:
        return measured
    return f"{measured}, {len(table.taken - table.measured)} taken from the table"


def _run(script: str, arguments: Sequence[str]) -> str:
    """Why the script failed; empty if it did not."""
    try:
        with _as_program(script, arguments), config.patch(force_disable_caches=True):
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


def _summary(
    records: Sequence[DispatchRecord], registered: Sequence[str]
) -> list[Part]:
    """What was chosen for each call, and which ops were never tuned."""
    parts: list[Part] = []
    for record in records:
        parts += [*record_parts(record), ""]
    tuned = OrderedSet(record.op for record in records)
    parts += [
        f"note: {op} is registered, but no call of it was tuned: the script must call "
        "it in a function that torch.compile compiles"
        for op in registered
        if op not in tuned
    ]
    return parts
