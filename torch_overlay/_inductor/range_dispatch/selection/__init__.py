"""Which candidates compete for a range, and what a choice among them is; nothing is
timed here."""
