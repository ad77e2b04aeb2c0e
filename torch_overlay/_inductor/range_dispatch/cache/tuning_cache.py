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
from typing import Any, TYPE_CHECKING, TypeVar

import torch
from torch._dynamo.utils import counters
from torch._inductor import config
from torch._inductor.codecache import CacheBase, torch_key, write_atomic
from torch._inductor.range_dispatch.cache.environment import (
    deciding_settings,
    processor,
)
from torch._inductor.range_dispatch.cache.identity import (
    digest,
    digest_of_implementation,
    Indescribable,
)
from torch._inductor.range_dispatch.call.inputs import operand_layouts
from torch._inductor.range_dispatch.plan.times import Timing
from torch._inductor.runtime.cache_dir_utils import cache_dir
from torch.utils._ordered_set import OrderedSet

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch._inductor.range_dispatch.benchmark.contests import Contest
    from torch._inductor.range_dispatch.benchmark.timing import Timings
    from torch._inductor.range_dispatch.call.binding import BoundCall
    from torch._inductor.range_dispatch.plan.split_search import SearchRules
    from torch._inductor.range_dispatch.region.fused_call import FusedCall
    from torch._inductor.range_dispatch.registration.spec import Registration
    from torch._inductor.range_dispatch.trace.tracing import TracedCandidate


log = logging.getLogger(__name__)

_Content = TypeVar("_Content")

# Symbols are named after where they came from; times do not depend on that.
_SYMBOL = re.compile(r"\b[su]\d+\b")


class TuningCache:
    """What the candidates of one call took, by range, as earlier compiles stored it."""

    def __init__(
        self,
        registration: Registration,
        call: BoundCall | FusedCall,
        as_timed: Callable[[TracedCandidate], TracedCandidate],
    ) -> None:
        """``as_timed`` gives the graph that is timed for a candidate."""
        self._call = call
        self._as_timed = as_timed
        self._is_on = config.autotune_local_cache and not config.force_disable_caches
        self._hashes: dict[TracedCandidate, str] = {}
        self._seconds = registration.seconds
        if self._is_on:
            self._generators = registration.input_gen_fns
            self._environment = [
                torch_key().hex(),
                CacheBase.get_system()["hash"],
                # The processor and the threads on it; of a GPU the base's key tells.
                platform.machine(),
                processor(),
                torch.backends.cpu.get_cpu_capability(),
                os.cpu_count(),
                torch.get_num_threads(),
                deciding_settings(),
                str(call.op),
                registration.benchmark_with_cudagraphs,
            ]

    def load(self, contest: Contest, agreed: str | None = None) -> Timings | None:
        """What was stored for a contest, None if that is nothing.

        Candidates that could not be run then are left out. With ``agreed`` it must have
        been stored with the same.
        """

        def parse(content: Any) -> Timings | None:
            rows = content["timings"]
            if agreed is not None and content.get("agreed") != agreed:
                return None
            return {
                one.candidate: Timing(float(row[0]), float(row[1]))
                for one, row in zip(contest.candidates, rows, strict=True)
                if row is not None
            }

        path = self._path([contest])
        if path is None:
            return None
        found = _read(path, parse, "timing again, as stored times")
        outcome = "miss" if found is None else "hit"
        counters["inductor"][f"custom_op_tuning_cache_{outcome}"] += 1
        return found

    def store(
        self, contest: Contest, timings: Timings, agreed: str | None = None
    ) -> None:
        """Keep the times for later compiles, also of other processes.

        ``agreed`` is the tolerance within which candidates were found to agree with the
        op itself, if they were.
        """
        candidates = [one.candidate for one in contest.candidates]
        taken = [timings.get(one) for one in candidates]
        content = {
            "candidates": [one.name for one in candidates],
            "timings": [one and (one.milliseconds, one.noise) for one in taken],
            "agreed": agreed,
        }
        _write(self._path([contest]), content)

    def load_search(
        self, contests: Sequence[Contest], rules: SearchRules | str
    ) -> OrderedSet[int] | None:
        """The sizes that a search measured, None if there was none."""
        path = self._path(contests, rules, self._seconds)
        if path is None:
            return None
        return _read(
            path,
            lambda content: OrderedSet(int(size) for size in content["sizes"]),
            "searching again, as a stored search",
        )

    def store_search(
        self,
        contests: Sequence[Contest],
        rules: SearchRules | str,
        sizes: Sequence[int],
    ) -> None:
        """Keep the sizes, or numbers of cells, that a search measured.

        Their times are stored one by one.
        """
        _write(self._path(contests, rules, self._seconds), {"sizes": [*sizes]})

    def _path(self, contests: Sequence[Contest], *rules: Any) -> str | None:
        """Differs when what the candidates take in the contests may differ.

        None if nothing can be kept.
        """
        if not self._is_on:
            return None
        try:
            generators = digest(self._generators)
            hashes = [[*map(self._hash_of, one.candidates)] for one in contests]
        except Indescribable as reason:
            log.info("%s: tuning results are not kept: %s", self._call.op, reason)
            return None
        layouts = [operand_layouts(self._call, one.sample.values) for one in contests]
        key = _hash(self._environment, generators, layouts, hashes, rules)
        return os.path.join(cache_dir(), "range_dispatch", key[:2], f"{key}.json")

    def _hash_of(self, traced: TracedCandidate) -> str:
        """Of the candidate's graph, and of what it was traced from."""
        if traced not in self._hashes:
            names: dict[str, str] = {}

            def renamed(match: re.Match[str]) -> str:
                return names.setdefault(match[0], f"size_{len(names)}")

            graph_module = self._as_timed(traced).graph_module
            text = graph_module.print_readable(print_output=False)
            source = digest_of_implementation(*traced.candidate.source)
            self._hashes[traced] = _hash(_SYMBOL.sub(renamed, text), source)
        return self._hashes[traced]


def _hash(*parts: Any) -> str:
    text = json.dumps(parts, sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()


def _write(path: str | None, content: Any) -> None:
    if path is not None:
        try:
            write_atomic(path, json.dumps(content), make_dirs=True)
        except OSError as error:
            log.warning("tuning results are not kept: %r", error)


def _read(
    path: str, parse: Callable[[Any], _Content | None], what: str
) -> _Content | None:
    """None if there is no file, and with a warning if it cannot be used."""
    try:
        with open(path) as file:
            return parse(json.load(file))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, IndexError) as error:
        log.warning("%s cannot be read: %r", what, error)
        return None
