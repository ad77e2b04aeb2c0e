"""The part of a graph's cache key that tells the user lowerings in it apart.

A cached graph holds the dispatch of the registrations that it was compiled with, so
the key has to change with everything that a dispatch depends on: ranges, winners,
configs, the code of implementations and what that reads, the op's schema and its
autograd formula. What the key cannot hold keeps a graph out of the cache.
"""

from __future__ import annotations

import uuid
import weakref
from typing import Any, TYPE_CHECKING

from torch._functorch import config as functorch_config
from torch._guards import TracingContext
from torch._inductor.range_dispatch.cache import table_store
from torch._inductor.range_dispatch.cache.called_ops import ops_called
from torch._inductor.range_dispatch.cache.identity import Indescribable
from torch._inductor.range_dispatch.cache.op_digests import OpDigests

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch


# What each compile found registered when it first asked, and the parts of keys since.
_Found = tuple[dict["torch._ops.OpOverload", Any], dict[str, str]]
_found: weakref.WeakKeyDictionary[TracingContext, _Found] = weakref.WeakKeyDictionary()


def user_lowerings_key(
    graph_module: torch.fx.GraphModule | None = None, inputs: Sequence[Any] = ()
) -> list[tuple[str, str]]:
    """The ops with a user lowering that a graph may come to, and their digests.

    All that are registered count without a graph.

    Raises:
        BypassFxGraphCache: a lowering cannot be described, or what is registered has
            changed since the compile began, whose key the graph would get.
    """
    from torch._inductor.codecache import BypassFxGraphCache
    from torch._inductor.lowering import user_lowerings

    digests = OpDigests(user_lowerings)
    ops = ops_called(graph_module, inputs, digests)
    key = []
    for op in ops:
        try:
            key.append((str(op), digests.of(op)))
        except Indescribable as reason:
            # An artifact to be saved needs a key, though nothing may be found by it.
            if not functorch_config.force_non_lazy_backward_lowering:
                raise BypassFxGraphCache(f"lowering of {op}: {reason}") from reason
            return [(str(op), uuid.uuid4().hex)]
    if key and (tables := table_store.state()):
        key.append(("tuning tables", tables))
    key.sort()
    if _have_changed(user_lowerings, key):
        raise BypassFxGraphCache("user lowerings have changed during the compile")
    return key


def _have_changed(
    registered: dict[torch._ops.OpOverload, Any], key: Sequence[tuple[str, str]]
) -> bool:
    context = TracingContext.try_get()
    if context is None:
        return False
    before, digests = _found.setdefault(context, (dict(registered), {}))
    is_same = all(digests.setdefault(name, digest) == digest for name, digest in key)
    return not is_same or before != registered
