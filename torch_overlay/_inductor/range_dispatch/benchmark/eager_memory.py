"""What memory an op's own kernels take, measured at sizes that are small enough."""

from __future__ import annotations

import math
import time
from typing import Any, TYPE_CHECKING

import torch
from torch._inductor.range_dispatch.benchmark.timing import undisturbed
from torch._inductor.range_dispatch.call.inputs import make_inputs
from torch._inductor.range_dispatch.call.memory import is_out_of_memory, release
from torch.autograd import (
    _disable_profiler_legacy,
    _enable_profiler_legacy,
    _profiler_enabled,
    ProfilerConfig,
    ProfilerState,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import sympy

    from torch._inductor.range_dispatch.call.binding import BoundCall
    from torch._inductor.range_dispatch.call.sizes import SymbolValues
    from torch._inductor.range_dispatch.registration.spec import InputGenerators


# Bits of the largest of the symbols that are varied, at the first size measured.
_FIRST_BITS = 5
# How memory grows with the extent, as far as one size can tell.
_GROWTH = 2.0
# Bytes that a number takes which is made a tensor: they are no part of any growth.
_NUMBER = 16


class EagerMemory:
    """The most bytes that a call of the op allocates, outputs and temporaries.

    Nothing tells but calling it. Sizes are doubled as long as those before say that
    the next one fits; from there on, the last doubling is carried forward.
    """

    def __init__(
        self,
        call: BoundCall,
        generators: InputGenerators,
        extent: Callable[[SymbolValues], int],
        limit: int,
    ) -> None:
        """``extent`` is in bytes what sizes need at least, ``limit`` what they may."""
        self._call = call
        self._generators = generators
        self._extent = extent
        self._limit = limit
        # Extents with the bytes allocated, ascending.
        self._known: list[tuple[int, float]] = []

    def measure(
        self, values: SymbolValues, symbols: Iterable[sympy.Symbol], seconds: float
    ) -> None:
        """Call the op at sizes up to half of ``values``, of the varied ``symbols``.

        No call is begun after so many seconds.
        """
        deadline = time.perf_counter() + seconds
        if _profiler_enabled():
            return  # which can be had once at a time
        varied = {s: values[s] for s in symbols if s in values}
        bits = max((n.bit_length() for n in varied.values()), default=0)
        for shift in range(bits - _FIRST_BITS, 0, -1):
            smaller = {s: max(n >> shift, 1) for s, n in varied.items()}
            is_late = time.perf_counter() > deadline
            if is_late or not self._extend({**values, **smaller}):
                break

    def at(self, values: SymbolValues) -> int:
        """The bytes expected at sizes; 0 as long as nothing was measured."""
        if not self._known:
            return 0
        extent = self._extent(values)
        for known, taken in self._known:
            if extent <= known:
                return int(taken)
        last, taken = self._known[-1]
        growth = _GROWTH
        if len(self._known) > 1 and taken:
            before, taken_before = self._known[-2]
            growth = math.log(taken / max(taken_before, 1)) / math.log(last / before)
        return int(min(taken * (extent / last) ** max(growth, 1.0), 2.0**62))

    def _extend(self, values: SymbolValues) -> bool:
        """Measure sizes that are larger than those before; False if they are not."""
        extent = self._extent(values)
        last = self._known[-1][0] if self._known else 0
        if extent <= max(last, 1):
            return True
        if self._known and self.at(values) + extent > self._limit:
            return False
        try:
            self._known.append((extent, self._allocated(values)))
        except Exception as error:
            # An op may refuse small sizes; what fails at all of them fails when timed.
            if is_out_of_memory(error):
                release(error)
                self._known.append((extent, 2.0**62))
                return False
        return True

    def _allocated(self, values: SymbolValues) -> float:
        with undisturbed(self._call.nodes[0].get_device_or_error()):
            inputs = make_inputs(self._call, values, self._generators)
            return _allocated_by(lambda: self._call.invoke(self._call.op, {}, inputs))


def _allocated_by(run: Callable[[], Any]) -> float:
    """The most bytes alive at a time of those that a call allocates."""
    # The newer profiler writes to standard error, and has one session a process.
    settings = ProfilerConfig(
        ProfilerState.CPU,
        report_input_shapes=False,
        profile_memory=True,
        with_stack=False,
        with_flops=False,
        with_modules=False,
        experimental_config=torch._C._profiler._ExperimentalConfig(),
    )
    _enable_profiler_legacy(settings)
    try:
        run()
    finally:
        events = [one for thread in _disable_profiler_legacy() for one in thread]
    alive = most = 0
    for event in events:
        if event.kind() == "memory_alloc":
            change = event.cpu_memory_usage() + event.cuda_memory_usage()
            if abs(change) > _NUMBER:
                alive += change
                most = max(most, alive)
    return float(most)
