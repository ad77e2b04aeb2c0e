"""The lowerings of calls and of regions: from a registered op's arguments to IR."""
