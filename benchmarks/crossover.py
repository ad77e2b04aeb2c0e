"""Measures one operator: every implementation alone and the dispatch, side by side."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from operators.specification import RealOperator
from reporting import (
    geometric_mean,
    interleaved,
    median,
    paired_ratios,
    Reporter,
    summary,
)
from torch._dynamo.testing import CompileCounterWithBackend
from torch._inductor.kernel.custom_op import custom_op_autotuning, CustomOpConfig
from torch._inductor.range_dispatch.plan.ranges import SizeRange
from torch._inductor.range_dispatch.record.records import (
    DispatchRecord,
    record_dispatches,
)
from torch._inductor.utils import fresh_cache

DISPATCH = "dispatch"


class WrongResult(Exception):
    """A compiled function computes something else, or was compiled more than once."""


@dataclass(frozen=True)
class SizeResult:
    """One size: microseconds a call by peer (one a repeat), the branch that ran."""

    size: int
    branch: str
    microseconds: Mapping[str, Sequence[float]]

    @property
    def best(self) -> str:
        """The implementation with the lowest median, the dispatch not among them."""
        times = {n: median(t) for n, t in self.microseconds.items() if n != DISPATCH}
        return min(times, key=times.__getitem__)

    def ratio(self, peer: str) -> float:
        """Median over the repeats of the peer's time over that of the best."""
        times = self.microseconds
        return median(paired_ratios(times[peer], times[self.best]))

    def as_json(self) -> dict[str, Any]:
        """For the JSON file."""
        return {
            "size": self.size,
            "branch": self.branch,
            "best": self.best,
            "ratio_to_best": {peer: self.ratio(peer) for peer in self.microseconds},
            "microseconds": {n: summary(t) for n, t in self.microseconds.items()},
        }


@dataclass(frozen=True)
class Branch:
    """One range, and the implementation that the dispatch runs in it.

    ``is_eager``: the op itself won, which runs the implementation uncompiled.
    ``milliseconds`` are those by which tuning decided, for the sizes ``timed_at``.
    """

    size_range: SizeRange
    implementation: str
    is_eager: bool
    timed_at: Sequence[int]
    milliseconds: Mapping[str, float]

    @property
    def label(self) -> str:
        """The implementation, for people."""
        return self.implementation + (" (eager)" if self.is_eager else "")

    def as_json(self) -> dict[str, Any]:
        """For the JSON file."""
        return {
            "start": self.size_range.start,
            "end": self.size_range.end,
            "implementation": self.implementation,
            "is_eager": self.is_eager,
            "timed_at": self.timed_at,
            "milliseconds": dict(self.milliseconds),
        }


@dataclass(frozen=True)
class OperatorResult:
    """An operator's sweep, and what tuning decided."""

    operator: RealOperator
    branches: Sequence[Branch]
    sizes: Sequence[SizeResult]

    @property
    def peers(self) -> list[str]:
        """The implementations, then the dispatch."""
        return [*self.sizes[0].microseconds]

    @property
    def implementations(self) -> list[str]:
        """The peers that are compiled alone."""
        return [peer for peer in self.peers if peer != DISPATCH]

    def mean_ratio(self, peer: str) -> float:
        """Geometric mean over the sweep of the ratio to the best at each size."""
        return geometric_mean([one.ratio(peer) for one in self.sizes])

    def as_json(self) -> dict[str, Any]:
        """For the JSON file."""
        return {
            "title": self.operator.title,
            "unit": self.operator.unit,
            "ranges": [branch.as_json() for branch in self.branches],
            "sizes": [one.as_json() for one in self.sizes],
            "geometric_mean_ratio": {n: self.mean_ratio(n) for n in self.peers},
        }


def steps_for(operator: RealOperator, repeats: int) -> int:
    """Of the progress bar: one for compiling, then one a repeat and size."""
    return 1 + repeats * len(operator.sizes)


def autotuned(operator: RealOperator, **options: Any) -> AbstractContextManager[None]:
    """Registers the operator with its implementations; ``options`` are further
    arguments of ``register_custom_op_autotuning``."""
    return custom_op_autotuning(
        operator.op,
        configs=[CustomOpConfig(one) for one in operator.implementations],
        dispatch_on={
            "tensor_name": operator.tensor_name,
            "dim": operator.dim,
            "range_upper_bound": operator.open_size,
        },
        split_points=[*operator.split_points],
        accuracy_tolerance=(operator.relative_tolerance, operator.absolute_tolerance),
        **options,
    )


def measure(
    operator: RealOperator,
    repeats: int,
    milliseconds: int,
    reporter: Reporter,
    **options: Any,
) -> OperatorResult:
    """Tune, compile, check and time everything.

    The registration, the mode and the settings stay in force from the first call to
    the last: Dynamo compiles anew, without a word, when they change. ``options`` are
    those of :func:`autotuned`: with ``winners`` nothing is tuned.

    Raises:
        WrongResult: the figures would be of something else than they claim.
    """
    torch._dynamo.reset()
    with (
        fresh_cache(),
        torch.no_grad(),
        autotuned(operator, **options),
    ):
        reporter.describe(f"{operator.name}: tuning and compiling")
        functions = {one.__name__: one for one in operator.implementations}
        functions[DISPATCH] = operator.call
        backends = {name: CompileCounterWithBackend("inductor") for name in functions}
        peers = {
            name: torch.compile(function, backend=backends[name])
            for name, function in functions.items()
        }
        inputs = operator.make_first_inputs()
        with record_dispatches() as records:
            for peer in peers.values():
                peer(*inputs)
        (record,) = records
        branches = branches_of(operator, record)
        reporter.advance()
        check(operator, peers)
        sizes = []
        for size in operator.sizes:
            reporter.describe(f"{operator.name}: {operator.unit} {size}")
            times = _time(
                peers, operator.make_inputs(size), repeats, milliseconds, reporter
            )
            branch = next(one for one in branches if size in one.size_range)
            sizes.append(SizeResult(size, branch.label, times))
    for name, backend in backends.items():
        if backend.frame_count != 1:
            raise WrongResult(
                f"{operator.name}: {name} was compiled {backend.frame_count} times, "
                "expected one graph for all sizes"
            )
    return OperatorResult(operator, branches, sizes)


def branches_of(operator: RealOperator, record: DispatchRecord) -> list[Branch]:
    """What was decided for each range."""
    names = [one.__name__ for one in operator.implementations]
    return [
        Branch(
            row.size_range,
            row.winner if row.winner in names else operator.eager.__name__,
            row.winner not in names,
            row.timed_sizes,
            row.milliseconds,
        )
        for row in record.ranges
    ]


def check(
    operator: RealOperator, peers: Mapping[str, Callable[..., torch.Tensor]]
) -> None:
    """Every peer computes at every size what the op itself does.

    Raises:
        WrongResult: one does not; the message names it, the size and the difference.
    """
    for size in operator.sizes:
        inputs = operator.make_inputs(size)
        expected = operator.op(*inputs)
        for name, peer in peers.items():
            difference = operator.first_difference(peer(*inputs), expected)
            if difference is not None:
                raise WrongResult(
                    f"{operator.name}: {name} is wrong at size {size}: {difference}"
                )


def _time(
    peers: Mapping[str, Callable[..., torch.Tensor]],
    inputs: Sequence[torch.Tensor],
    repeats: int,
    milliseconds: int,
    reporter: Reporter,
) -> dict[str, list[float]]:
    """Microseconds a call; one timing is of as many calls as take ``milliseconds``."""

    def timer(peer: Callable[..., torch.Tensor]) -> Callable[[], float]:
        once = min(_microseconds(peer, inputs, 1) for _ in range(3))
        calls = max(1, math.ceil(milliseconds * 1e3 / once))

        def time_warm() -> float:
            # What ran before has had the caches to itself, and is always the same.
            peer(*inputs)
            return _microseconds(peer, inputs, calls)

        return time_warm

    timers = {name: timer(peer) for name, peer in peers.items()}
    return interleaved(timers, repeats, reporter.advance)


def _microseconds(
    peer: Callable[..., torch.Tensor], inputs: Sequence[torch.Tensor], calls: int
) -> float:
    """Of a call in a row of so many, until the device is done with all of them."""
    device = inputs[0].device
    synchronize = torch.get_device_module(device).synchronize
    clock = _clock(device)
    synchronize()
    start = clock()
    for _ in range(calls):
        peer(*inputs)
    synchronize()
    return (clock() - start) * 1e6 / calls


def _clock(device: torch.device) -> Callable[[], float]:
    """Seconds; of this thread on the processor, if it is the only one that computes.

    Then it does not matter how long other programs keep the processor for themselves.
    """
    alone = device.type == "cpu" and torch.get_num_threads() == 1
    return time.thread_time if alone else time.perf_counter
