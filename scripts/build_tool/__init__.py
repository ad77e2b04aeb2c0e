"""What scripts/build is made of. Standard library only.

Imports go one way: commands -> (full, python_only, removal) -> (environment,
verification) -> (session, preflight) -> (links, binaries, log) -> the rest. Nothing in
setup_tool or overlay_tool imports from here.
"""
