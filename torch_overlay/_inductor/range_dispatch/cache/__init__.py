"""What is remembered between compiles, and by which keys."""
