"""From winners to IR: the tree of ``torch.cond``, inlining, and what counts calls."""
