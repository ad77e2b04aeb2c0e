"""Lays the overlay and the patches of this repository over a PyTorch tree.

``scripts/overlay.py`` is the command line; each module here has one job. Imports
go one way only, from the bottom up: errors, filesystem, git, bases, patching,
patch_set, trees, transaction, plan, status, checking, commands, stack, exporting,
wheels, refreshing.
"""
