#!/usr/bin/env bash
# torch 2.13.0 (CPU). torch.fx.passes' fuser (fuse_by_partitions) makes one node of a
# partition, but raises for any partition with several results while
# torch.fx.traceback.preserve_node_meta() is in force: the node that takes a result out
# of the tuple has been given metadata by then, and the fuser asks that it has none.
# Inductor has that context around a compile when it tracks provenance, so that a custom
# pass that calls the fuser works until somebody sets INDUCTOR_PROVENANCE=1.
# Seen:
#   without: 1 fused node
#   with: AssertionError
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
cd "$folder"
cat >seen.py <<'PYTHON'
import contextlib

import torch
from torch.fx.passes.utils.fuser_utils import fuse_by_partitions


def two_results(x):
    shared = x + 1
    return shared * 2, shared - 3


def fused():
    graph_module = torch.fx.symbolic_trace(two_results)
    calls = dict.fromkeys(
        node for node in graph_module.graph.nodes if node.op == "call_function"
    )
    fuse_by_partitions(graph_module, [calls])
    return len([*graph_module.graph.find_nodes(op="call_module", target="fused_0")])


kept = torch.fx.traceback.preserve_node_meta
for name, context in (("without", contextlib.nullcontext), ("with", kept)):
    with context():
        try:
            print(f"{name}: {fused()} fused node")
        except AssertionError as error:
            print(f"{name}: {type(error).__name__}")
PYTHON
venv/bin/python seen.py 2>/dev/null | tee seen.txt
grep -qx 'without: 1 fused node' seen.txt
grep -qx 'with: AssertionError' seen.txt
