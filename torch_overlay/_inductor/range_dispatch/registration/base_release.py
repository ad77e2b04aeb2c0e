"""What torch has in other words in some releases; nothing else asks which this is."""

from __future__ import annotations

import inspect
from typing import Any, TYPE_CHECKING

from torch._inductor import config

if TYPE_CHECKING:
    import torch
    from torch._inductor.fx_utils import FakeTensorUpdater


def decides_without_timing() -> bool:
    """Whether Inductor is told to decide nothing by timing."""
    # batch_invariant is there from v2.13.0 on.
    return config.deterministic or getattr(config, "batch_invariant", False)


def fake_tensor_updater(graph_module: torch.fx.GraphModule) -> FakeTensorUpdater:
    """What brings a graph's fake tensors up to date when its nodes were changed."""
    from torch._inductor.fx_utils import FakeTensorUpdater

    of_graph = "graph" in inspect.signature(FakeTensorUpdater).parameters  # v2.12
    updated: Any = graph_module.graph if of_graph else graph_module
    return FakeTensorUpdater(updated)
