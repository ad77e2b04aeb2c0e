"""One call of an op: its arguments by name, its sizes and symbols, the outputs that it
has to give, and inputs of other sizes to time it with."""
