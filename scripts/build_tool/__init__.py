"""What scripts/build is made of. Standard library only.

Imports go one way: commands -> (preflight, python_only) -> checkout. ``dispatch_check``
runs in the environment that was made. Nothing in setup_tool or overlay_tool imports
from here.
"""
