"""Explains what the dispatches of a compiled function do for given arguments.

The function is run once, and what is explained is the compiled graphs that it ran, be
they new or from a cache: each carries a record of its dispatched calls.
"""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass, field
from typing import Any, TYPE_CHECKING

import torch
from torch._inductor.range_dispatch.plan.decisions import decide, Decision
from torch._inductor.range_dispatch.plan.guesses import guess_texts
from torch._inductor.range_dispatch.record.live_counting import (
    count_of,
    describe,
    LiveCount,
    watch_calls,
)
from torch._inductor.range_dispatch.record.record_text import fusion_texts, nearest_text


if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch._inductor.range_dispatch.plan.decisions import Box
    from torch._inductor.range_dispatch.plan.ranges import Cell
    from torch._inductor.range_dispatch.record.kept_calls import KeptCall
    from torch._inductor.range_dispatch.record.records import DispatchRecord


@dataclass(frozen=True)
class ExplainedCall:
    """What one dispatched call of a compiled graph does.

    ``axes`` are the dispatched sizes by name, with their values, None where the graph's
    inputs do not tell one. ``predicates`` are what is asked about them, in order, with
    the answers; none are if there is only one branch. ``branch`` is the number of the
    branch taken, ``winner`` the name of what it runs, ``number`` the same as registered
    (-1 is the op itself), ``cell`` the ranges that the sizes are in and ``reason`` why
    the winner won there; all are None for unknown sizes. ``nearest`` tells what was
    measured at the size nearest to these ones, None if nothing was, and ``unmeasured``
    at which ends of the range a split is a guess. ``is_backward`` and
    ``is_conditional`` tell of calls in a backward graph, and in a branch of a cond,
    which run only if the branch does. ``fusion`` says what branches compute besides
    the op, and why not more. ``dropped`` are the candidates that could not be used,
    for which ranges and why. ``counts`` has what was counted so far.
    """

    op: str
    name: str
    call: str
    axes: tuple[tuple[str, int | None], ...]
    predicates: tuple[tuple[str, bool], ...]
    branch: int | None
    winner: str | None
    number: int | None
    cell: Cell | None
    reason: str | None
    nearest: str | None = None
    unmeasured: tuple[str, ...] = ()
    is_backward: bool = False
    is_conditional: bool = False
    fusion: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    counts: tuple[LiveCount, ...] = field(default=(), compare=False)

    def __str__(self) -> str:
        where = " (backward)" if self.is_backward else ""
        lines = [f"{self.op}{where}, called with {self.call}"]
        if self.is_conditional:
            lines.append("in a branch of a cond: it runs only if the branch does")
        for name, size in self.axes:
            shown = "known only inside the graph" if size is None else size
            lines.append(f"{name} is {shown}")
        lines += [
            f"{text}: {'yes' if answer else 'no'}" for text, answer in self.predicates
        ]
        if self.winner is not None:
            by_number = "the op itself" if self.number == -1 else f"{self.number}"
            lines.append(f"-> {self.winner} (winner {by_number})")
            if self.axes:
                lines[-1] += f" for {self.cell or 'sizes that no range was tuned for'}"
        if self.reason is not None:
            lines.append(f"   {self.reason}")
        if self.nearest is not None:
            lines.append(f"   {self.nearest}")
        lines += [f"   {text}" for text in self.unmeasured]
        lines += self.fusion
        lines += [f"dropped: {one}" for one in self.dropped]
        lines += [f"counted so far: {count}" for count in self.counts]
        return "\n  ".join(lines)


class Explanation(list[ExplainedCall]):
    """The dispatched calls of the graphs that ran, in order; prints as a text."""

    def __str__(self) -> str:
        if not self:
            return (
                "no dispatched op ran in a compiled graph: it was not reached, not "
                "registered when it was compiled, or ran eagerly (a graph break)"
            )
        return "\n".join(map(str, self))


def explain(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Explanation:
    """Show which branch each dispatched op takes for these arguments, and why.

    This calls the function once, with all its side effects, and compiles it if needed.
    Sizes that depend on data are known only inside the graph. To see which branch they
    take, compile with ``config.range_dispatch.count_calls``.

    Args:
        fn: what ``torch.compile`` returned, or a module compiled in place.
        *args, **kwargs: the arguments to call it with.

    Returns:
        a list with one ``ExplainedCall`` for each dispatched call that ran, in order.
        ``print`` shows it as text.

    Raises:
        TypeError: ``fn`` is not compiled.
        Exception: whatever the function raises.
    """
    if not _is_compiled(fn):
        raise TypeError(
            "fn must be what torch.compile returned, or a module that was compiled in "
            f"place, got {fn!r} of {type(fn)}"
        )
    with _graphs_run() as found, watch_calls() as counted:
        fn(*args, **kwargs)
    explained = Explanation()
    for call, sizes, is_backward in found:
        description = describe(call.record)
        ran = next((one for one in counted if one[0] == description), None)
        if ran is not None:
            # Those of equal dispatches come in the order of the calls.
            counted.remove(ran)
            if None in sizes:
                sizes = ran[1]
        counts = tuple(count_of(description))
        explained.append(_explained(call, sizes, is_backward, counts))
    return explained


def _is_compiled(fn: Any) -> bool:
    from torch._dynamo.eval_frame import DisableContext, OptimizedModule

    if isinstance(fn, OptimizedModule):
        return not isinstance(fn.dynamo_ctx, DisableContext)
    if isinstance(fn, torch.nn.Module):
        return fn._compiled_call_impl is not None
    return hasattr(fn, "_torchdynamo_orig_callable") and not getattr(
        fn, "_torchdynamo_disable", False
    )


@contextlib.contextmanager
def _graphs_run() -> Iterator[list[tuple[KeptCall, tuple[int | None, ...], bool]]]:
    """The dispatched calls of the graphs that run in the context, with their sizes.

    What other threads run is left out, except for backward graphs, for which autograd
    has threads of its own.
    """
    from torch._inductor.output_code import CompiledFxGraph, graph_call_observers

    found: list[tuple[KeptCall, tuple[int | None, ...], bool]] = []
    thread = threading.get_ident()

    def watch(graph: CompiledFxGraph, inputs: Sequence[Any]) -> None:
        is_backward = bool(graph.fx_kwargs.get("is_backward"))
        if is_backward or threading.get_ident() == thread:
            # Graphs empty the list of their inputs, so it is read before.
            found.extend(
                (call, call.sizes_in(inputs), is_backward)
                for call in getattr(graph, "range_dispatch_calls", ())
            )

    graph_call_observers.append(watch)
    try:
        yield found
    finally:
        graph_call_observers.remove(watch)


def _explained(
    call: KeptCall,
    sizes: tuple[int | None, ...],
    is_backward: bool,
    counts: tuple[LiveCount, ...],
) -> ExplainedCall:
    record = call.record
    known = tuple(size for size in sizes if size is not None)
    is_known = len(known) == len(sizes) or record.branches == 1
    branch = row = None
    if is_known:
        branch = decide(record.tree, known)
        row = _row_of(record, known, branch)
    winner = None if branch is None else record.branch_winners[branch]
    cell = nearest = None
    unmeasured: list[str] = []
    if row is not None and len(known) == len(sizes):
        nearest = nearest_text(record, known, winner)
        around = record.ranges[max(row - 1, 0) : row + 1]
        unmeasured = guess_texts([r.cell for r in around], [r.guess for r in around])
        own = record.ranges[row].cell
        cell = own if known in own else None
    return ExplainedCall(
        op=record.op,
        name=record.name,
        call=record.call,
        axes=tuple(zip(record.axes, sizes)),
        predicates=tuple(_predicates(record, known)) if is_known else (),
        branch=branch,
        winner=winner,
        number=None if row is None else record.ranges[row].number,
        cell=cell,
        reason=None if row is None else record.ranges[row].reason,
        nearest=nearest,
        unmeasured=tuple(unmeasured),
        is_backward=is_backward,
        is_conditional=call.is_conditional,
        fusion=tuple(fusion_texts(record)),
        dropped=record.dropped,
        counts=counts,
    )


def _row_of(record: DispatchRecord, sizes: tuple[int, ...], branch: int) -> int | None:
    """The range that holds the sizes, or else one that takes the same branch."""
    cells = [row.cell for row in record.ranges]
    is_known = len(sizes) == len(record.axes)
    own = [i for i, cell in enumerate(cells) if is_known and sizes in cell]
    starts = [[one.start for one in cell.ranges] for cell in cells]
    same = [i for i, one in enumerate(starts) if decide(record.tree, one) == branch]
    return next(iter(own or same), None)


def _predicates(
    record: DispatchRecord, sizes: Sequence[int]
) -> Iterator[tuple[str, bool]]:
    tree = record.tree
    while isinstance(tree, Decision):
        holds = tree.holds(sizes)
        yield predicate_text(tree.boxes, record.axes), holds
        tree = tree.inside if holds else tree.outside


def predicate_text(boxes: Sequence[Box], axes: Sequence[str]) -> str:
    """The condition of a ``Decision`` as text: ``513 <= x.shape[1] <= 2048``.

    Several boxes are joined by "or". Axes that a box leaves open are left out.
    """
    texts = [
        " and ".join(
            _interval_text(name, low, high)
            for name, (low, high) in zip(axes, box, strict=True)
            if (low, high) != (None, None)
        )
        for box in boxes
    ]
    if len(texts) > 1:
        texts = [f"({text})" if " and " in text else text for text in texts]
    return " or ".join(texts)


def _interval_text(name: str, low: int | None, high: int | None) -> str:
    if low == high:
        return f"{name} == {low}"
    if high is None:
        return f"{name} >= {low}"
    return f"{name} <= {high}" if low is None else f"{low} <= {name} <= {high}"
