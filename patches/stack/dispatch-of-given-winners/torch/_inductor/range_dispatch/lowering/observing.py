"""What is made known of calls where they are lowered."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch._inductor.range_dispatch.lowering.groups import Group
    from torch._inductor.range_dispatch.plan.decisions import DispatchPlan
    from torch.fx import GraphModule


log = logging.getLogger(__name__)


@contextlib.contextmanager
def observed(
    group: Group, plan: DispatchPlan[tuple[GraphModule, ...]]
) -> Iterator[None]:
    """Log what was chosen for calls that are lowered in the context."""
    for one in group.members:
        for choice in one.choices:
            winner = choice.winner.candidate.name
            name = one.registration.name
            log.info("%s range %s -> %s", name, choice.task.cell, winner)
    yield
