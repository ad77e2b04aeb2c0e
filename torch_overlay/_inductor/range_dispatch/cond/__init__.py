"""The graph of nested ``torch.cond`` over winners' graphs, and inlining it."""
