#!/usr/bin/env bash
# torch 2.13.0 (CPU). A slice of one row that starts at a number from the data, added to
# a tensor of several rows, compiles in one graph and then raises for every input:
# "RuntimeError: u1 >= 2". The row broadcasts, as it does eagerly; the compiled graph
# has decided that the slice's length, 1 here, is not 1, and asserts that when it runs.
# Seen:
#   eager: (8, 50)
#   compiled: RuntimeError: u1 >= 2
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
cd "$folder"
cat >seen.py <<'PYTHON'
import torch


def row_added(x):
    first = (x > 100).sum().item()
    return x[first : first + 1] + x


x = torch.randn(8, 50)
print("eager:", tuple(row_added(x).shape))
try:
    print("compiled:", torch.compile(row_added, fullgraph=True, dynamic=True)(x).shape)
except RuntimeError as error:
    print(f"compiled: {type(error).__name__}: {error}")
PYTHON
TORCHINDUCTOR_CACHE_DIR="$folder/cache" venv/bin/python seen.py 2>/dev/null | tee seen.txt
grep -qx 'eager: (8, 50)' seen.txt
grep -qx 'compiled: RuntimeError: u1 >= 2' seen.txt
