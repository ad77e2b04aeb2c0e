"""The lowering of one call of a registered op, with nothing around it."""

from __future__ import annotations

from typing import Any, TYPE_CHECKING

from torch._inductor.range_dispatch.call.axes import axes_of
from torch._inductor.range_dispatch.call.binding import bind_call, UnsupportedArgument
from torch._inductor.range_dispatch.cond.op_itself import lower_op_itself
from torch._inductor.range_dispatch.lowering.groups import Group, lower_group
from torch._inductor.range_dispatch.tuning.winners import choose_winners

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch._inductor.range_dispatch.registration.spec import Registration


def lower_call(
    registration: Registration, args: Sequence[Any], kwargs: dict[str, Any]
) -> Any:
    """The results of a call as IR nodes, None to use the normal lowering.

    Without ``dispatch_on`` there is one range, which holds every size.

    Raises:
        UnsupportedArgument: no branch can take what was passed; the message says why.
    """
    call = bind_call(registration.op, args, kwargs)
    if not call.nodes:
        raise UnsupportedArgument("it has no tensor input")
    dispatch = registration.dispatch
    axes = () if dispatch is None else axes_of(dispatch, call)
    if axes is None:
        return None
    chosen = choose_winners(registration, call, axes)
    if chosen is None:
        return None
    values = lower_group(Group((chosen,)))
    if values is None:
        return lower_op_itself(registration.op, args, kwargs)
    return chosen.expected.results_from(values)
