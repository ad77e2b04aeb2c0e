"""What is remembered between compiles: keys of graphs, times that were measured, and
tuning tables."""
