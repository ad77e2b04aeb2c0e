# Owner(s): ["module: inductor"]
"""A clock for the time that tuning may take, which moves when a size is timed."""

import contextlib
import itertools
import types
from collections.abc import Iterator
from typing import Any
from unittest import mock

from torch._inductor.range_dispatch.benchmark import budget, contests


@contextlib.contextmanager
def each_size_takes(seconds: float) -> Iterator[None]:
    """Timing candidates at a size takes so long, and nothing else takes any time."""
    timed = itertools.count(1)
    now = [0.0]
    make_inputs = contests.make_inputs

    def make_inputs_later(*args: Any, **kwargs: Any) -> Any:
        # By multiplication, for sums of decimal fractions to be exact.
        now[0] = next(timed) * seconds
        return make_inputs(*args, **kwargs)

    clock = types.SimpleNamespace(perf_counter=lambda: now[0])
    with (
        mock.patch.object(budget, "time", clock),
        mock.patch.object(contests, "make_inputs", make_inputs_later),
    ):
        yield
