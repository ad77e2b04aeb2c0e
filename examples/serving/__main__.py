"""Serves a trace of requests on a small decoder, with one graph and with others.

Every variant runs every step, in turn; times are of the thread on the processor.
"""

import argparse
import logging
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch  # noqa: E402
from allocator import keep_freed_memory  # noqa: E402
from decoder import Decoder, make_reference  # noqa: E402
from reporting import (  # noqa: E402
    add_output_arguments,
    machine_description,
    machine_line,
    report_console,
    write_json,
    write_plot,
)
from scheduler import make_trace, serve  # noqa: E402
from serving_ops import dispatched, LARGEST_STEP  # noqa: E402
from serving_report import draw, summary_of, table_of  # noqa: E402
from torch._inductor.range_dispatch import load, tune_into  # noqa: E402
from variants import (  # noqa: E402
    Comparison,
    dispatch,
    eager,
    graph_per_range,
    measure_peak,
    single,
    tuned,
    Variant,
)


def build_variants(decoder: Decoder, seconds: float) -> list[Variant]:
    """Tunes, then compiles everything; the dispatch is compiled from stored times."""
    with dispatched(seconds=seconds), tempfile.TemporaryDirectory() as folder:
        table = str(Path(folder) / "serving.tuning.json")
        with tune_into(table):
            ranges = tuned(decoder)
        load(table)
        for one in ranges:
            print(f"{one.size_range}: {', '.join(one.winners.values())}")
        ours = dispatch(decoder)
    return [
        ours,
        graph_per_range(decoder, ranges),
        single(decoder, "defaults"),
        single(decoder, "by_token", attention="by_token"),
        single(decoder, "bfloat16_loops", linear="bfloat16_loops"),
        single(decoder, "both", attention="by_token", linear="bfloat16_loops"),
        single(decoder, "int8_loops", linear="int8_loops"),
        eager(decoder),
    ]


def main() -> int:
    """Runs the comparison; status 1 if a variant needs more graphs than it should."""
    parser = argparse.ArgumentParser(prog="examples/serving", description=__doc__)
    parser.add_argument("--requests", type=int, default=60, help="of the trace")
    parser.add_argument(
        "--tuning-seconds", type=float, default=15, help="to time a call at most"
    )
    parser.add_argument("--layers", type=int, default=4, help="of the model")
    add_output_arguments(parser)
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    logging.getLogger("torch.fx.experimental.symbolic_shapes").setLevel(logging.ERROR)
    console = report_console()
    machine = machine_description()
    busy = os.getloadavg()
    console.print(f"{machine_line(machine)}, 1 used, load {busy[0]:.1f}")
    with torch.no_grad():
        reference = make_reference(num_hidden_layers=options.layers)
        decoder = Decoder(reference)
        variants = build_variants(decoder, options.tuning_seconds)
        for variant in variants:
            if variant.name not in ("bfloat16_loops", "both", "int8_loops"):
                measure_peak(variant, LARGEST_STEP)
        comparison = Comparison(variants)
        trace = make_trace(options.requests, reference.config.vocab_size)
        serve(trace, comparison.run)
    console.print(table_of(comparison))
    console.print(f"load at the end {os.getloadavg()[0]:.1f}")
    if options.json is not None:
        write_json(
            options.json,
            {"machine": machine, "load": busy, **summary_of(comparison)},
        )
    if options.plot is not None:
        write_plot(options.plot, draw(comparison))
    return 0 if variants[0].graphs == 1 else 1


if __name__ == "__main__":
    sys.exit(main())
