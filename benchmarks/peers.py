"""The peers of the dispatch benchmark: what each is and what it is expected to do."""

from __future__ import annotations

from dataclasses import dataclass

REFERENCE = "plain"
"""The peer that all ratios refer to."""

OURS = "ours"

RECOMPILE_LIMIT = 8
"""torch.compile's default: one more graph for the same function, and it gives up."""


@dataclass(frozen=True)
class Peer:
    """One way to run the right implementation for a size.

    ``letter`` is what the issue and the tables call it. A ``pristine`` peer runs in
    the environment without the patch set. One that ``visits_all`` is called once with
    a size of every branch before it is timed, as a model in service would be; the
    others only with the sizes that are timed.
    """

    name: str
    letter: str
    title: str
    pristine: bool = False
    visits_all: bool = True

    def expected_graphs(self, branches: int, timed: int) -> int:
        """How many graphs torch.compile makes of it; ``timed`` branches are timed."""
        if self.name == "eager":
            return 0
        if self.name == "recompiling":
            return min(branches, RECOMPILE_LIMIT)
        if not self.visits_all:
            return timed
        return branches if self.name == "python_if" else 1


PEERS = {
    peer.name: peer
    for peer in (
        Peer("plain", "a", "winner compiled alone", visits_all=False),
        Peer("ours", "b", "range dispatch, patched"),
        Peer("base", "c", "range dispatch, pristine", pristine=True),
        Peer("recompiling", "d", "if inside torch.compile"),
        Peer("python_if", "e", "if outside, compiled ranges"),
        Peer("nested_cond", "f", "torch.cond by hand, pristine", pristine=True),
        Peer("eager", "g", "if, eager"),
        Peer("python_bisect", "e'", "(e), bisect for if", visits_all=False),
        Peer("nested_cond_patched", "f'", "(f), patched"),
    )
}
