"""One call of a registered op, bound to its schema."""
