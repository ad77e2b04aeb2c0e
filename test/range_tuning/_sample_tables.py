# Owner(s): ["module: inductor"]
"""Tables of made-up times, and a test case that calls the commands on them."""

import contextlib
import dataclasses
import io
import os
import re
import tempfile
from collections.abc import Iterable, Sequence
from typing import Any
from unittest import mock

from range_tuning import __main__ as command

from torch._inductor.range_dispatch import (
    CandidateTime,
    Choice,
    Decided,
    Entry,
    TuningTable,
)
from torch._inductor.range_dispatch.cache import table_store
from torch._inductor.range_dispatch.cache.tables import merge_into_file
from torch._inductor.test_case import TestCase


HERE = {"torch": "2", "device": "one", "threads": "2 of 2"}
CALL = "x: float32[s0, 4] (4, 1)"
NAMES: dict[int | None, str | None] = {
    0: "first",
    1: "second",
    -1: "fallback",
    None: None,
}


def entry(
    size: int = 8,
    times: Sequence[float | None] = (1.0, 2.0),
    noise: float = 0.1,
    digests: Sequence[str] = ("abc", "def"),
    **changes: Any,
) -> Entry:
    """What the first and second candidate took at a size."""
    made = Entry(
        op="some::op.default",
        schema="some::op(Tensor x) -> Tensor",
        environment=HERE,
        call=CALL,
        axes=("x.shape[0]",),
        operands=f'[[[[{size}, 4], [4, 1], "torch.float32", "cpu"]], []]',
        sizes=(size,),
        candidates=tuple(
            CandidateTime(name, digest, milliseconds, noise)
            for name, digest, milliseconds in zip(("first", "second"), digests, times)
        ),
    )
    return dataclasses.replace(made, **changes)


def choice(
    split_points: tuple[tuple[int, ...], ...] = ((8,),),
    winners: tuple[int | None, ...] = (0, 1),
    **changes: Any,
) -> Choice:
    """What was chosen for the call of ``entry``."""
    made = Choice(
        op="some::op.default",
        schema="some::op(Tensor x) -> Tensor",
        environment=HERE,
        call=CALL,
        axes=("x.shape[0]",),
        split_points=split_points,
        winners=winners,
        names=tuple(NAMES[winner] for winner in winners),
    )
    return dataclasses.replace(made, **changes)


def decided_by(*times: tuple[Sequence[float], float]) -> tuple[Decided, ...]:
    """What decided in each cell: milliseconds of the first and second, and noise."""
    return tuple(
        Decided(
            dict(zip(("first", "second"), milliseconds)),
            dict.fromkeys(("first", "second"), noise),
        )
        for milliseconds, noise in times
    )


def grid_choice() -> Choice:
    """Two sizes, one of them an expression, and a cell that cannot occur."""
    return choice(
        ((8,), (16, 32)),
        (0, -1, None, 1, 1, 0),
        call="x: float32[s0, s1] (s1, 1)",
        axes=("x.shape[-1]", "x.shape[0]*x.shape[1]"),
    )


class Terminal(io.StringIO):
    """Takes what is written, as a terminal would."""

    def isatty(self) -> bool:
        return True

    def text(self) -> str:
        """Without the control sequences."""
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self.getvalue())


class CommandTestCase(TestCase):
    """With a folder for tables, and nothing measured in this process."""

    def setUp(self) -> None:
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        table_store.forget()
        self.addCleanup(table_store.forget)
        terminal = {"TERM": "xterm", "COLUMNS": "120", "NO_COLOR": "1"}
        patch = mock.patch.dict(os.environ, terminal)
        patch.start()
        self.addCleanup(patch.stop)

    def table(
        self, name: str, entries: Iterable[Entry] = (), choices: Iterable[Choice] = ()
    ) -> str:
        """The path of a new table."""
        path = os.path.join(self.folder, name)
        merge_into_file(path, TuningTable.of(entries, choices))
        return path

    def run_command(
        self,
        *arguments: str,
        out: io.StringIO | None = None,
        err: io.StringIO | None = None,
    ) -> tuple[int, str, str]:
        """The exit status of a command, and what it printed."""
        out = io.StringIO() if out is None else out
        err = io.StringIO() if err is None else err
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = command.main(arguments)
        return status, out.getvalue(), err.getvalue()

    def output(self, *arguments: str, status: int = 0, **options: Any) -> str:
        """What a command prints that ends with a status, and without a word of woe."""
        found, out, err = self.run_command(*arguments, **options)
        self.assertEqual((found, err), (status, ""))
        return out
