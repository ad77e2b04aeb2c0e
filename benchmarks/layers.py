"""Compares layers that each call a dispatched op with the same layers without dispatch.

There are 32 of them and three winners. Compiles are compared with one implementation in
all layers, calls with the winner of the size.
"""

from __future__ import annotations

import sys

from branches import Benchmark, Compiled, main

LAYERS = Benchmark(
    "layers",
    __doc__ or "",
    [Compiled("32 layers", ("layers", 0), ("one_implementation", 0), 1.3)],
    {"layers": ("{}", 1.02)},
)

if __name__ == "__main__":
    sys.exit(main(LAYERS))
