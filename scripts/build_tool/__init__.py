"""What scripts/build is made of. Standard library only.

Imports go one way: commands -> (full, python_only, removal) -> verification ->
(environment, links) -> (session, preflight) -> (binaries, checkout) -> the rest. Of
setup_tool it uses steps, lock, pins and prerequisites, and overlay_tool's bases, trees
and commands.
"""
