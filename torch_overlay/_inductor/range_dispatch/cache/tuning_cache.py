"""Keeps what candidates took, in Inductor's cache folder, for later compiles.

One file for each range: a key that holds all that the times depend on, and the times.
``config.autotune_local_cache`` and ``force_disable_caches`` turn it off, as they do
for the base's own tuning results.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import re
from typing import Any, TYPE_CHECKING, TypeAlias

import torch
from torch._dynamo.utils import counters
from torch._inductor import config
from torch._inductor.codecache import CacheBase, torch_key, write_atomic
from torch._inductor.range_dispatch.cache.environment import processor
from torch._inductor.range_dispatch.cache.identity import (
    digest,
    digest_of_implementation,
    Indescribable,
)
from torch._inductor.range_dispatch.cache.settings import deciding_settings
from torch._inductor.range_dispatch.call.inputs import operand_layouts
from torch._inductor.range_dispatch.plan.times import Timing
from torch._inductor.runtime.cache_dir_utils import cache_dir
from torch.utils._ordered_set import OrderedSet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch._inductor.range_dispatch.benchmark.timing import Timings

    from torch._inductor.range_dispatch.call.binding import BoundCall
    from torch._inductor.range_dispatch.call.sizes import SymbolValues
    from torch._inductor.range_dispatch.plan.split_search import SearchRules
    from torch._inductor.range_dispatch.region.fused_call import FusedCall
    from torch._inductor.range_dispatch.registration.spec import Registration
    from torch._inductor.range_dispatch.trace.tracing import TracedCandidate


log = logging.getLogger(__name__)

# Candidates, and the sizes that they are timed at.
_Contest: TypeAlias = "tuple[Sequence[TracedCandidate], SymbolValues]"

# Symbols are named after where they came from; times do not depend on that.
_SYMBOL = re.compile(r"\b[su]\d+\b")


class TuningCache:
    """What the candidates of one call took, by range, as earlier compiles stored it."""

    def __init__(self, registration: Registration, call: BoundCall | FusedCall) -> None:
        self._call = call
        self._is_on = config.autotune_local_cache and not config.force_disable_caches
        self._hashes: dict[TracedCandidate, str] = {}
        self._seconds = registration.seconds
        if self._is_on:
            self._environment = [
                torch_key().hex(),
                CacheBase.get_system()["hash"],
                _machine(),
                deciding_settings(),
                str(call.op),
                registration.benchmark_with_cudagraphs,
            ]
            self._generators = registration.input_gen_fns

    def load(
        self,
        candidates: Sequence[TracedCandidate],
        values: SymbolValues,
        agreed: str | None = None,
    ) -> Timings | None:
        """What was stored for these sizes, None if that is nothing.

        Candidates that could not be run then are left out. With ``agreed`` it must have
        been stored with the same.
        """
        path = self._path([(candidates, values)])
        if path is None:
            return None
        found = _read(path, candidates, agreed)
        outcome = "miss" if found is None else "hit"
        counters["inductor"][f"custom_op_tuning_cache_{outcome}"] += 1
        return found

    def store(
        self,
        candidates: Sequence[TracedCandidate],
        values: SymbolValues,
        timings: Timings,
        agreed: str | None = None,
    ) -> None:
        """Keep the times for later compiles, also of other processes.

        ``agreed`` is the tolerance within which candidates were found to agree with the
        op itself, if they were.
        """
        path = self._path([(candidates, values)])
        if path is None:
            return
        taken = [timings.get(one.candidate) for one in candidates]
        content = {
            "candidates": [one.candidate.name for one in candidates],
            "timings": [one and (one.milliseconds, one.noise) for one in taken],
            "agreed": agreed,
        }
        _write(path, content)

    def load_search(
        self, contests: Sequence[_Contest], rules: SearchRules | str
    ) -> OrderedSet[int] | None:
        """The sizes that a search measured, None if there was none."""
        path = self._path(contests, rules, self._seconds)
        return None if path is None else _read_sizes(path)

    def store_search(
        self,
        contests: Sequence[_Contest],
        rules: SearchRules | str,
        sizes: Sequence[int],
    ) -> None:
        """Keep the sizes, or numbers of cells, that a search measured.

        Their times are stored one by one.
        """
        path = self._path(contests, rules, self._seconds)
        if path is not None:
            _write(path, {"sizes": [*sizes]})

    def _path(self, contests: Sequence[_Contest], *rules: Any) -> str | None:
        """Differs when what the candidates take at these sizes may differ.

        None if nothing can be kept.
        """
        if not self._is_on:
            return None
        try:
            generators = digest(self._generators)
            hashes = [[*map(self._hash_of, candidates)] for candidates, _ in contests]
        except Indescribable as reason:
            log.info("%s: tuning results are not kept: %s", self._call.op, reason)
            return None
        layouts = [operand_layouts(self._call, values) for _, values in contests]
        key = _hash(self._environment, generators, layouts, hashes, rules)
        return os.path.join(cache_dir(), "range_dispatch", key[:2], f"{key}.json")

    def _hash_of(self, traced: TracedCandidate) -> str:
        if traced not in self._hashes:
            self._hashes[traced] = _hash(_candidate_text(traced))
        return self._hashes[traced]


def _hash(*parts: Any) -> str:
    text = json.dumps(parts, sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()


def _write(path: str, content: Any) -> None:
    try:
        write_atomic(path, json.dumps(content), make_dirs=True)
    except OSError as error:
        log.warning("tuning results are not kept: %r", error)


def _read_sizes(path: str) -> OrderedSet[int] | None:
    try:
        with open(path) as file:
            return OrderedSet(int(size) for size in json.load(file)["sizes"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        log.warning("searching again, as a stored search cannot be read: %r", error)
        return None


def _read(
    path: str, candidates: Sequence[TracedCandidate], agreed: str | None
) -> Timings | None:
    try:
        with open(path) as file:
            content = json.load(file)
        rows = content["timings"]
        if agreed is not None and content.get("agreed") != agreed:
            return None
        return {
            one.candidate: Timing(float(row[0]), float(row[1]))
            for one, row in zip(candidates, rows, strict=True)
            if row is not None
        }
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, IndexError) as error:
        log.warning("timing again, as stored times cannot be read: %r", error)
        return None


def _candidate_text(traced: TracedCandidate) -> str:
    """The candidate's graph, and digests of what it was traced from."""
    names: dict[str, str] = {}

    def renamed(match: re.Match[str]) -> str:
        return names.setdefault(match[0], f"size_{len(names)}")

    candidate = traced.candidate
    text = traced.graph_module.print_readable(print_output=False)
    source = digest_of_implementation(*candidate.source)
    return f"{_SYMBOL.sub(renamed, text)} {source}"


def _machine() -> list[Any]:
    """The processor and the threads on it; of a GPU the base's key tells."""
    return [
        platform.machine(),
        processor(),
        torch.backends.cpu.get_cpu_capability(),
        os.cpu_count(),
        torch.get_num_threads(),
    ]
