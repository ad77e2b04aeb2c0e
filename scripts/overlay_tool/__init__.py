"""Lays the overlay and the patches of this repository over a PyTorch tree.

``scripts/overlay.py`` is the command line; each module here has one job. Imports
go one way only, from the bottom up: errors, blobs, filesystem, paths, state,
git, bases, patch_set, mail, placing, patching, fitting, line_edits, receipt,
trees, lock, transaction, plan, report, tree_fit, checking, exporting, wheels,
commands, refreshing.
"""
