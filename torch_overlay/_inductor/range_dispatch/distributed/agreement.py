"""Makes all ranks of a distributed job run the same winners.

Each rank compiles for itself and may have measured other winners; rank 0's are
everyone's. A winner is decided once, for calls that are alike and a range of them, and
stands for as long as the default process group lives: a later compile takes it, and a
cached graph serves only if it has it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import re
from dataclasses import dataclass
from typing import Any, TYPE_CHECKING

import sympy

import torch
from torch._inductor import config
from torch._inductor.range_dispatch.call.sizes import evaluate, hint_values
from torch._inductor.range_dispatch.distributed.ranks import (
    AgreementError,
    find_peers,
    Peers,
    wait_until,
)
from torch._inductor.range_dispatch.registration.configs import (
    callable_name,
    format_params,
)
from torch._inductor.range_dispatch.registration.spec import FALLBACK, Registration
from torch.utils._ordered_set import OrderedSet

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch._inductor.range_dispatch.call.binding import BoundCall


log = logging.getLogger(__name__)

# Seconds to wait for rank 0 where it has tuned the op, but may never do so for these
# sizes.
PATIENCE = 30.0

# In place of a range: found split points with their winners.
_FOUND = "found"

_ADDRESS = re.compile(r"0x[0-9a-f]+")
_PLAIN = (bool, int, float, complex, str, type(None), torch.dtype)


@dataclass(frozen=True)
class CallKey:
    """What is decided on, in words that all ranks share: a call of a registered op.

    Symbols and addresses, which may have other names elsewhere, are not in it.
    """

    op: str
    registration: str
    call: str
    ranges: int

    @classmethod
    def of(cls, registration: Registration, call: BoundCall) -> CallKey:
        """Calls of one registration with the same sizes and layouts are alike.

        The dispatched size is left out: ranks that see other sizes decide alike.
        """
        return cls(
            str(registration.op),
            describe_registration(registration),
            _hash(_describe_call(registration, call)),
            len(registration.cells),
        )

    def entry(self, index: int | str) -> str:
        """Where the winner of a range is kept, or what was found."""
        return f"{self.registration}/{self.call}/{index}"

    @property
    def count_key(self) -> str:
        """Where rank 0 keeps how many winners of the registration are decided."""
        return f"{self.registration}/decided"


@dataclass(frozen=True)
class AgreedWinners:
    """The winners of a call by range, numbered as in ``winners``.

    Split points that were found are decided on with their winners, all at once.
    """

    call_key: CallKey
    winners: dict[int, int]
    split_points: tuple[int, ...] | None = None

    def __str__(self) -> str:
        """As it would be registered; the op itself for ranges that cannot occur."""
        if self.split_points is not None:
            winners = [*self.winners.values()]
            return f"split_points={[*self.split_points]}, winners={winners}"
        ranges = range(self.call_key.ranges)
        return f"winners={[self.winners.get(i, FALLBACK) for i in ranges]}"

    @property
    def keys(self) -> list[str]:
        """Where the parts of it are kept."""
        if self.split_points is not None:
            return [self.call_key.entry(_FOUND)]
        return [self.call_key.entry(index) for index in self.winners]


def decided(call_key: CallKey, ranges: Iterable[int] | None) -> AgreedWinners | None:
    """What the ranks have decided on before, None if that leaves out a range.

    Without ``ranges`` it is split points that were found.
    """
    peers = _agreeing_peers()
    if peers is None:
        return None
    if ranges is None:
        text = peers.read(call_key.entry(_FOUND))
        return None if text is None else _counted(peers, _parse(call_key, text))
    winners = {}
    for index in ranges:
        winner = peers.read(call_key.entry(index))
        if winner is None:
            return None
        winners[index] = int(winner)
    return _counted(peers, AgreedWinners(call_key, winners))


def agree(found: AgreedWinners) -> AgreedWinners:
    """Rank 0's decision, given the one that this rank came to.

    Where rank 0 calls the op with other sizes, the first rank to come decides.

    Raises:
        AgreementError: rank 0 does not tune the op in time.
    """
    peers = _agreeing_peers()
    if peers is None:
        return found
    call_key = found.call_key
    if peers.rank != 0:
        _wait_for_rank_0(peers, found)
    if found.split_points is None:
        winners = {
            index: int(peers.decide(call_key.entry(index), str(winner)))
            for index, winner in found.winners.items()
        }
        agreed = dataclasses.replace(found, winners=winners)
    else:
        agreed = _parse(call_key, peers.decide(call_key.entry(_FOUND), _format(found)))
    _counted(peers, agreed)
    if agreed != found:
        log.info("%s: this rank found %s, all take %s", call_key.op, found, agreed)
    return agreed


def may_serve(entry: Any) -> bool:
    """Whether the ranks agree on the winners in a compiled graph from a cache.

    An entry of AOTAutograd's cache may hold several graphs.
    """
    parts = [getattr(entry, name, None) for name in ("compiled_fw", "compiled_bw")]
    graphs = [entry, *(getattr(part, "result", None) for part in parts)]
    return all(
        agree(decision) == decision
        for graph in graphs
        for decision in getattr(graph, "range_dispatch_decisions", ())
    )


def _agreeing_peers() -> Peers | None:
    return find_peers() if config.range_dispatch.agree_on_winners else None


def _format(found: AgreedWinners) -> str:
    return json.dumps([[*(found.split_points or ())], [*found.winners.values()]])


def _parse(call_key: CallKey, text: str) -> AgreedWinners:
    """The inverse of ``_format``."""
    split_points, winners = json.loads(text)
    return AgreedWinners(call_key, dict(enumerate(winners)), tuple(split_points))


def _counted(peers: Peers, agreed: AgreedWinners) -> AgreedWinners:
    """Note what is decided; rank 0 tells the others how far it is."""
    met = peers.met[agreed.call_key.registration]
    met.update(agreed.keys)
    if peers.rank == 0:
        peers.store.set(agreed.call_key.count_key, str(len(met)))
    return agreed


def _wait_for_rank_0(peers: Peers, found: AgreedWinners) -> None:
    """Until rank 0 has decided, or has decided on as many others of the op's calls.

    In the latter case it calls the op with other sizes, and need not come to these.
    """
    call_key = found.call_key
    keys = found.keys
    place = len(peers.met[call_key.registration] | OrderedSet(keys))
    timeout = config.range_dispatch.agreement_timeout_seconds

    def rank_0_count() -> int:
        return int(peers.read(call_key.count_key) or 0)

    def is_decided() -> bool:
        return peers.has_all(keys) or rank_0_count() >= place

    if not wait_until(lambda: is_decided() or rank_0_count() > 0, timeout):
        raise AgreementError(
            f"rank {peers.rank} has tuned a call of {call_key.op}, but rank 0, whose "
            f"choice is every rank's, has not tuned it within {timeout:g} seconds. "
            "Register the op with the winners, so that nothing is tuned (this rank "
            f"found {found}), or give rank 0 more time by torch._inductor.config."
            "range_dispatch.agreement_timeout_seconds, or set agree_on_winners = "
            "False there to let each rank choose for itself"
        )
    if not wait_until(is_decided, min(timeout, PATIENCE)):
        log.warning(
            "rank 0 has not tuned %s for the sizes that rank %d calls it with; the "
            "first rank to come decides. Register %s to wait for nothing",
            call_key.op,
            peers.rank,
            found,
        )


def _hash(text: str) -> str:
    return hashlib.sha256(_ADDRESS.sub("", text).encode()).hexdigest()[:32]


def describe_registration(registration: Registration) -> str:
    """The same for all ranks, and hardly for anything else that is registered."""
    configs = [
        (
            callable_name(one.get_decomposition(registration.op)),
            format_params(one.params),
            sorted(one.config_patches),
        )
        for one in registration.configs or ()
    ]
    return _hash(f"{registration.op} {registration.dispatch} {configs}")


def _describe_call(registration: Registration, call: BoundCall) -> str:
    names: dict[sympy.Basic, sympy.Basic] = {}
    dispatched = _dispatched_sizes(registration, call)

    def neutral(size: Any) -> str:
        if size in dispatched:
            return f"dispatched {dispatched.index(size)}"
        if not isinstance(size, sympy.Basic):
            return str(size)
        for symbol in sorted(size.free_symbols, key=lambda s: s.name):
            names.setdefault(symbol, sympy.Symbol(f"size_{len(names)}"))
        return str(size.xreplace(names))

    values = hint_values(call.size_symbols())
    parts: list[Any] = []
    for node in call.nodes:
        strides = [evaluate(stride, values) for stride in node.get_stride()]
        order = sorted(range(len(strides)), key=lambda i: (strides[i], -i))
        sizes = [neutral(size) for size in node.get_size()]
        parts.append((sizes, order, node.get_dtype(), node.get_device_or_error().type))
    scalars = [
        neutral(scalar)
        if isinstance(scalar, (*_PLAIN, sympy.Basic))
        else type(scalar).__name__
        for scalar in call.scalars()
    ]
    return f"{parts} {scalars}"


def _dispatched_sizes(registration: Registration, call: BoundCall) -> list[Any]:
    """Those that are dimensions; of expressions only the symbols are left out."""
    dispatch = registration.dispatch
    axes = dispatch.axes if dispatch is not None else ()
    found = []
    for axis in axes:
        position = None
        if axis.tensor_name is not None:
            position = call.position(axis.tensor_name)
        if position is not None:
            found.append(call.nodes[position].get_size()[axis.dim])
    return found
