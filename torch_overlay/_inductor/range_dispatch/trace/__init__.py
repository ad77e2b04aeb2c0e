"""Candidates as functional graphs that hold for a range: their guards, and what is
dropped and why."""
