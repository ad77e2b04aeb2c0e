"""Compiles candidates and times them, within a budget of time and memory. It is told
at which sizes; it knows of no splits."""
