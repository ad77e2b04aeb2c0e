"""Finds the nodes before and after a dispatched op that are fused into its branches."""
