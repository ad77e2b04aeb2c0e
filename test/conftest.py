"""Fails the test that leaves a registration or a tuning table to those after it.

The keys of cached graphs have all that is registered and every table that is loaded,
so a later test would find no graph that another process cached. A compile that seems
to go on has the key that it began with.
"""

import sys
from collections.abc import Iterator

import pytest


def _left() -> list[str]:
    """What this process has registered and loaded, as the cache keys name it."""
    if "torch._inductor.lowering" not in sys.modules:
        return []
    from torch._guards import TracingContext
    from torch._inductor.lowering import user_lowerings
    from torch._inductor.range_dispatch.cache import table_store

    left = [str(op) for op in user_lowerings]
    left += ["a tuning table"] if table_store.state() else []
    return left + (["a tracing context"] if TracingContext.try_get() else [])


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    before = _left()
    yield
    left = [one for one in _left() if one not in before]
    assert not left, f"the test leaves {', '.join(left)} to those after it"
