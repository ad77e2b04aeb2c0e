"""The other ranks of a distributed job, as a compile can reach them.

Ranks compile at different moments, in another order, or what other ranks do not compile
at all. So nothing passes through collectives, which would wait for all of them, but
through the key-value store of the default process group.
"""

from __future__ import annotations

import itertools
import time
import weakref
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any, TYPE_CHECKING

import torch.distributed as dist
from torch.utils._ordered_set import OrderedSet

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


# Seconds between two looks into the store: few at first, for those who come together,
# then more, as a thousand ranks may be looking.
_FIRST_PAUSE = 0.01
_LONGEST_PAUSE = 0.5


class AgreementError(RuntimeError):
    """The ranks cannot agree; the message says what to do."""


@dataclass
class Peers:
    """This rank among the others, for as long as the default process group lives.

    ``met`` holds the keys of what was decided, by registration; ``entered`` counts
    the occasions on which all ranks came together, by topic.
    """

    rank: int
    world_size: int
    store: Any
    met: defaultdict[str, OrderedSet[str]] = field(
        default_factory=lambda: defaultdict(OrderedSet)
    )
    entered: Counter[str] = field(default_factory=Counter)

    def decide(self, key: str, value: str) -> str:
        """The value that the first rank to come gave, which may be this one."""
        return self.store.compare_set(key, "", value).decode()

    def read(self, key: str) -> str | None:
        """A value, None if there is none yet."""
        return self.store.get(key).decode() if self.store.check([key]) else None

    def has_all(self, keys: Sequence[str]) -> bool:
        """Whether every key has a value by now."""
        return self.store.check([*keys])


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether the condition came true in time."""
    deadline = time.monotonic() + seconds
    pause = _FIRST_PAUSE
    while not condition():
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        time.sleep(min(pause, left))
        pause = min(2 * pause, _LONGEST_PAUSE)
    return True


# A store may outlive a process group and serve the next one, with the old keys in it.
_lives = itertools.count()
_peers: weakref.WeakKeyDictionary[Any, Peers | None] = weakref.WeakKeyDictionary()


def find_peers() -> Peers | None:
    """The other ranks; None if this process is alone, or compiles for all of them.

    Raises:
        AgreementError: there are other ranks, but no store to reach them through.
    """
    if not dist.is_available() or not dist.is_initialized():
        return None
    group = dist.group.WORLD
    if group not in _peers:
        _peers[group] = _meet(next(_lives))
    return _peers[group]


def _meet(life: int) -> Peers | None:
    rank, world_size = dist.get_rank(), dist.get_world_size()
    if world_size == 1 or dist.get_backend() == dist.Backend.FAKE:
        return None
    store = innermost = dist.distributed_c10d._get_default_store()
    while isinstance(innermost, dist.PrefixStore):
        innermost = innermost.underlying_store
    if isinstance(innermost, dist.HashStore):
        return None  # its ranks are threads of this process
    if type(innermost) is dist.Store:
        raise AgreementError(
            f"the process group ({dist.get_backend()}) has no store through which "
            "ranks could agree on the winners of tuned custom ops. Register the ops "
            "with winners=[...], or set torch._inductor.config.range_dispatch."
            "agree_on_winners = False to let each rank choose for itself"
        )
    return Peers(rank, world_size, dist.PrefixStore(f"range_dispatch/{life}", store))
