"""Which candidates compete for the ranges of a call, and what is chosen for it."""
