#!/usr/bin/env bash
# torch 2.13.0 (CPU). A clone that is made so that a custom op which writes to one
# argument does not change the other is taken out when compiled: both arguments are the
# same memory, with no warning. The op adds 10 to x and returns x + y; called with a
# tensor of zeros and its clone it returns 10 eagerly, and 20 compiled.
# Seen:
#   eager: 10.0
#   compiled: 20.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
cd "$folder"
cat >seen.py <<'PYTHON'
import torch


@torch.library.custom_op("findings::write_and_add", mutates_args={"x"})
def write_and_add(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    x.add_(10)
    return x + y


@write_and_add.register_fake
def _(x, y):
    return torch.empty_like(x)


def with_a_copy(x):
    return write_and_add(x, x.clone())


print("eager:", with_a_copy(torch.zeros(8))[0].item())
print("compiled:", torch.compile(with_a_copy)(torch.zeros(8))[0].item())
PYTHON
TORCHINDUCTOR_CACHE_DIR="$folder/cache" venv/bin/python seen.py 2>/dev/null | tee seen.txt
grep -qx 'eager: 10.0' seen.txt
grep -qx 'compiled: 20.0' seen.txt
