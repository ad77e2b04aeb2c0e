"""Candidates as functional graphs that hold for a range, with the guards they need."""
