"""From winners to IR."""
