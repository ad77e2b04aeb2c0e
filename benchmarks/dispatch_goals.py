"""What the dispatch must not cost, checked against the figures of one run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from goals import Goal
from peers import OURS, PEERS

LIMITS = {2: 1.05, 64: 1.10, 256: 1.15}
"""Branches -> how many times the winner compiled alone a call may take."""

BEATEN_FROM = 4
"""Branches from which ours has to beat the other conds."""


def dispatch_goals(data: Mapping[str, Any]) -> list[Goal]:
    """The goals that the peers and branch counts of this run let one check."""
    goals: list[Goal] = []
    for one in data["rounds"]:
        branches, peers = one["branches"], one["peers"]
        if OURS not in peers:
            continue
        small = [t for t in one["timings"] if t["input"] == "small"]
        goals += _ours(branches, peers[OURS], small)
        for name in ("base", "nested_cond"):
            if branches >= BEATEN_FROM and name in peers:
                goals.append(_against(name, "faster than", branches, peers, small))
        if "python_if" in peers:
            name = "python_if"
            goals.append(_against(name, "not slower than", branches, peers, small))
    return goals


def _ours(
    branches: int, ours: Mapping[str, Any], small: Sequence[Mapping[str, Any]]
) -> Iterator[Goal]:
    where = f"{branches} branches: "
    if "failure" in ours:
        yield Goal(f"{where}ours compiles", ours["failure"]["error"], False)
        return
    ratios = {t["position"]: t["peers"][OURS]["ratio"] for t in small}
    if branches in LIMITS:
        worst = max(ratios, key=lambda position: ratios[position]["median"])
        value = ratios[worst]["median"]
        yield Goal(
            f"{where}ours at most {LIMITS[branches]:.2f}x (a)",
            f"{value:.3f}x ({worst})",
            value <= LIMITS[branches],
        )
    if "last" in ratios:
        first, last = ratios["first"], ratios["last"]
        overlap = (
            first["lower_quartile"] <= last["upper_quartile"]
            and last["lower_quartile"] <= first["upper_quartile"]
        )
        yield Goal(
            f"{where}ours' first and last branch the same (quartiles overlap)",
            f"{first['median']:.3f}x, {last['median']:.3f}x",
            overlap,
        )


def _against(
    name: str,
    wanted: str,
    branches: int,
    peers: Mapping[str, Any],
    small: Sequence[Mapping[str, Any]],
) -> Goal:
    goal = f"{branches} branches: ours {wanted} ({PEERS[name].letter})"
    for one, met in ((OURS, False), (name, True)):
        if "failure" in peers[one]:
            letter = PEERS[one].letter
            return Goal(goal, f"({letter}) {peers[one]['failure']['error']}", met)
    ratios = {t["position"]: t["peers"][name]["ratio_of_ours"] for t in small}
    worst = max(ratios, key=lambda position: ratios[position]["median"])
    value, best_quarter = ratios[worst]["median"], ratios[worst]["lower_quartile"]
    if wanted == "faster than":
        return Goal(goal, f"{value:.3f}x ({worst})", value < 1)
    measured = f"{value:.3f}x ({worst}), quartile from {best_quarter:.3f}x"
    return Goal(f"{goal}, within quartiles", measured, best_quarter <= 1)
