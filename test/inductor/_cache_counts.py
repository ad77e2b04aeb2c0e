# Owner(s): ["module: inductor"]
"""Switches caches of graphs on, and counts what they did."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch._dynamo.utils import counters
from torch._functorch import config as functorch_config
from torch._inductor import config


@contextlib.contextmanager
def cache_counts(report: dict[str, Any]) -> Iterator[None]:
    """Put into ``report`` what caches did in the context."""
    torch._dynamo.reset()
    counters.clear()
    yield
    for group in ("inductor", "aot_autograd", "dynamo_cache"):
        report.update(
            (name, count)
            for name, count in counters[group].items()
            if "cache" in name or "custom_op" in name
        )


def caches(autograd: bool = False) -> contextlib.ExitStack:
    """The cache of graphs is on, and that of AOTAutograd if asked for."""
    stack = contextlib.ExitStack()
    # AOTInductor notes what it compiled for in this dict, which is part of the key: a
    # process that made a package would never hit what another process cached.
    changes = {"fx_graph_cache": True, "aot_inductor.metadata": {}}
    stack.enter_context(config.patch(changes))
    stack.enter_context(functorch_config.patch(enable_autograd_cache=autograd))
    stack.enter_context(torch._dynamo.config.patch(specialize_float=True))
    return stack
