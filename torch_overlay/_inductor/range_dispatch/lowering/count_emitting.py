"""Puts counting into the Python wrapper of a dispatched graph, where it is asked for.

The wrapper calls what is set on a dispatch's IR node as ``range_dispatch_count`` just
before it decides. Nothing is set, and the code is the same as ever, where counting is
off.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
from typing import Any, TYPE_CHECKING

from torch._inductor import config
from torch._inductor.range_dispatch.plan.decisions import Leaf
from torch._inductor.range_dispatch.record.live_counting import describe
from torch._inductor.virtualized import V

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import sympy

    from torch._inductor.range_dispatch.call.axes import Axis
    from torch._inductor.range_dispatch.record.records import DispatchRecord


log = logging.getLogger(__name__)

_IMPORT = (
    "from torch._inductor.range_dispatch.record.live_counting import counter as "
    "range_dispatch_counter"
)


@contextlib.contextmanager
def counted_dispatch(
    records: Sequence[DispatchRecord], axes: Sequence[Axis]
) -> Iterator[None]:
    """Count calls of the dispatch that is lowered in the context, if config says so.

    Each of the ops that share it counts by itself.

    Raises:
        ValueError: ``config.range_dispatch.count_calls`` is no number of calls.
    """
    every = config.range_dispatch.count_calls
    if isinstance(every, bool) or not isinstance(every, int) or every < 0:
        raise ValueError(
            "config.range_dispatch.count_calls must be 0 (off) or N, to record one in "
            f"N calls, got {every!r}"
        )
    first_new = len(V.graph.operations)
    yield
    if not every or isinstance(records[0].tree, Leaf):
        return
    if V.graph.cpp_wrapper or V.graph.aot_mode or config.fx_wrapper:
        _warn_uncounted()
        return
    sizes = [axis.size for axis in axes]
    # The dispatch has one cond at its root; its other conds are in branches.
    new: list[Any] = V.graph.operations[first_new:]
    (root,) = (one for one in new if one.get_subgraphs())
    # So that the symbols of all sizes are at hand where the root is.
    root.constant_args = [*root.constant_args, *sizes]
    root.range_dispatch_count = functools.partial(
        _write, descriptions=[*map(describe, records)], every=every, sizes=sizes
    )


def _write(
    wrapper: Any, descriptions: Sequence[str], every: int, sizes: Sequence[sympy.Expr]
) -> None:
    """Write calls of counters, and what defines the counters at the module's top."""
    top = wrapper
    while (parent := getattr(top, "parent_wrapper", None)) is not None:
        top = parent
    for description in descriptions:
        digest = hashlib.sha256(f"{every} {description}".encode()).hexdigest()[:8]
        name = f"range_dispatch_count_{digest}"
        definition = f"{name} = range_dispatch_counter({description!r}, {every})"
        for line in (_IMPORT, definition):
            if not top.imports.contains(line):
                top.imports.writeline(line)
        wrapper.writeline(f"{name}({', '.join(map(wrapper.codegen_sizevar, sizes))})")


@functools.cache
def _warn_uncounted() -> None:
    log.warning(
        "config.range_dispatch.count_calls counts in the Python wrapper only: a graph "
        "of the C++ wrapper, of AOTInductor or of the FX wrapper counts nothing"
    )
