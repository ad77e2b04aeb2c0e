"""One candidate for all sizes, for debugging: ``config.range_dispatch.force``."""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING

from torch._inductor import config

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from torch._inductor.range_dispatch.registration.candidates import Candidate


log = logging.getLogger(__name__)

_SETTING = "config.range_dispatch.force (TORCHINDUCTOR_RANGE_DISPATCH_FORCE)"


def forced_name(op: torch._ops.OpOverload) -> str | None:
    """The name of the candidate that is forced for an op, None if timing decides.

    Raises:
        ValueError: the setting is not ``op:name``, or several of them with ``;``
            between.
    """
    forced = None
    for entry in filter(None, map(str.strip, config.range_dispatch.force.split(";"))):
        # The op may be written as lib::op.
        wanted, separator, name = entry.replace("::", ".", 1).partition(":")
        if not separator or not wanted.strip() or not name.strip():
            raise ValueError(f"{_SETTING} must be 'op:name', got {entry!r}")
        if wanted.strip() in names_of_op(op):
            forced = name.strip()
        elif not _is_registered(wanted.strip()):
            _warn_of_unknown(wanted.strip())
    return forced


def forced_among(
    op: torch._ops.OpOverload, name: str, candidates: Sequence[Candidate]
) -> Candidate:
    """The candidate of that name.

    Raises:
        ValueError: there is none.
    """
    found = [one for one in candidates if one.name == name]
    if not found:
        names = ", ".join(dict.fromkeys(repr(one.name) for one in candidates))
        raise ValueError(f"{_SETTING}: {op} has no candidate {name!r}, but {names}")
    return found[0]


def given_winner(op: torch._ops.OpOverload, index: int) -> str:
    """What a message calls the winner that is given for a range."""
    return f"winners[{index}]" if forced_name(op) is None else "the forced winner"


def _is_registered(wanted: str) -> bool:
    from torch._inductor.lowering import user_lowerings

    return any(wanted in names_of_op(op) for op in user_lowerings)


@functools.cache
def _warn_of_unknown(wanted: str) -> None:
    log.warning("%s: no op %r is registered for autotuning", _SETTING, wanted)


def names_of_op(op: torch._ops.OpOverload) -> list[str]:
    """What an op may be called by: ``lib.op.default``, ``lib.op`` and ``op``."""
    packet = str(op.overloadpacket)
    return [str(op), packet, packet.rpartition(".")[2]]
