#!/usr/bin/env bash
# torch 2.13.0 (CPU). A convolution whose batch is marked dynamic is compiled twice: the
# shape function asks which backend the convolution would run on, that asks whether the
# batch is 16 or more, and the answer becomes a guard. mark_dynamic, which raises when a
# size is made a number, says nothing. Neither a linear nor a pooling layer does this.
# Seen:
#   convolution: graphs for batches 9, 2, 15, 16, 100: 2
#   pooling: graphs for batches 9, 2, 15, 16, 100: 1
#   2 <= x.size()[0] <= 15
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
cd "$folder"
cat >seen.py <<'PYTHON'
import torch
import torch._dynamo.testing

LAYERS = {
    "convolution": torch.nn.Conv2d(4, 6, 3, padding=1),
    "pooling": torch.nn.AvgPool2d(3, padding=1),
}

for name, layer in LAYERS.items():
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounterWithBackend("inductor")
    compiled = torch.compile(lambda x: layer(x), backend=counter)
    for batch in (9, 2, 15, 16, 100):
        x = torch.randn(batch, 4, 10, 10)
        torch._dynamo.mark_dynamic(x, 0)
        with torch.no_grad():
            compiled(x)
    print(f"{name}: graphs for batches 9, 2, 15, 16, 100: {counter.frame_count}")
PYTHON
TORCHINDUCTOR_CACHE_DIR="$folder/cache" TORCH_LOGS=recompiles \
    venv/bin/python seen.py 2>log | tee seen.txt
grep -o '2 <= x.size()\[0\] <= 15' log | head -n 1 | tee -a seen.txt
grep -qx 'convolution: graphs for batches 9, 2, 15, 16, 100: 2' seen.txt
grep -qx 'pooling: graphs for batches 9, 2, 15, 16, 100: 1' seen.txt
grep -qx '2 <= x.size()\[0\] <= 15' seen.txt
