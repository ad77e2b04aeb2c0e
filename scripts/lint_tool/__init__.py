"""What upstream's linters say of the code as scripts/overlay.py exports it.

``scripts/lint.py`` is the command line. Imports go one way:
upstream.toml <- tools -> findings, checks -> findings, exported -> overlay_tool.
"""
