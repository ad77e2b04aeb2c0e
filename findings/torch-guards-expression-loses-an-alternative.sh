#!/usr/bin/env bash
# torch 2.13.0 (CPU). ShapeEnv.produce_guards_expression, which the FX graph cache and
# AOTAutograd's keep with a graph, joins guards with "and" and no parentheses. A guard
# that is an alternative binds weaker than that, so that the expression holds for sizes
# that a guard rules out: 70 is neither more than 90 nor a multiple of 11.
# Seen:
#   guards: (s77 > 64) | Eq(Mod(s77, 3), 0), (s77 > 90) | Eq(Mod(s77, 11), 0)
#   33 True
#   70 True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
cd "$folder"
cat >seen.py <<'PYTHON'
import torch
from torch._guards import detect_fake_mode
from torch.fx.experimental.symbolic_shapes import sym_or


def backend(graph_module, example_inputs):
    shape_env = detect_fake_mode(example_inputs).shape_env
    sizes = [one for one in example_inputs if isinstance(one, torch.SymInt)]
    expression = shape_env.produce_guards_expression(sizes)
    print("guards:", ", ".join(str(one.expr) for one in shape_env.guards))
    for size in (33, 70):
        print(size, shape_env.evaluate_guards_expression(expression, [size]))
    return graph_module.forward


@torch.compile(backend=backend, dynamic=True)
def function(x):
    n = x.shape[0]
    if sym_or(n % 3 == 0, n > 64):
        x = x + 1
    if sym_or(n % 11 == 0, n > 90):
        x = x * 2
    return x


function(torch.ones(33))
PYTHON
venv/bin/python seen.py 2>/dev/null | tee seen.txt
grep -qx '33 True' seen.txt
grep -qx '70 True' seen.txt
