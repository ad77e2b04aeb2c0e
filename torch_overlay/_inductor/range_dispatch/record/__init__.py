"""What is recorded when a call is lowered; ``explain``, call counts and the log show
it."""
