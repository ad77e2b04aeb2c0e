#!/usr/bin/env bash
# torch 2.13.0 (CPU). Compiled, a value that is computed from a tensor before a custom op
# writes to that tensor may be computed after it: no graph break, no warning, other
# values than eager's. The op (mutates_args={"x"}) adds 10 to x and reads z = x * 2; what
# is returned is z's sum, which must not know of the 10. Inductor puts off the product
# until the op has run.
# Seen:
#   eager: 16.0
#   compiled: 176.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
cd "$folder"
cat >seen.py <<'PYTHON'
import torch


@torch.library.custom_op("findings::add_ten", mutates_args={"x"})
def add_ten(x: torch.Tensor, z: torch.Tensor) -> None:
    x.add_(10)


def write_after_reading(x):
    z = x * 2
    add_ten(x, z)
    return z.sum()


print("eager:", write_after_reading(torch.ones(8)).item())
print("compiled:", torch.compile(write_after_reading)(torch.ones(8)).item())
PYTHON
TORCHINDUCTOR_CACHE_DIR="$folder/cache" venv/bin/python seen.py 2>/dev/null | tee seen.txt
grep -qx 'eager: 16.0' seen.txt
grep -qx 'compiled: 176.0' seen.txt
