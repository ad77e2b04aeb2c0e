"""Run by the Python of the environment that was made: `dispatch_check.py CHECKOUT`.

Its torch is the checkout's, and a compiled call takes the branch of its range.
"""

import sys
from pathlib import Path

import torch


@torch.library.custom_op("range_dispatch_build::op", mutates_args=())
def op(x: torch.Tensor) -> torch.Tensor:
    """Neither branch's value."""
    return torch.tan(x)


@op.register_fake
def _(x: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(x)


def short(x: torch.Tensor) -> torch.Tensor:
    """The branch up to 512."""
    return torch.sin(x)


def long(x: torch.Tensor) -> torch.Tensor:
    """The branch above."""
    return torch.cos(x)


def main(root: Path) -> None:
    """Checks, and says which torch it is."""
    if not Path(torch.__file__).resolve().is_relative_to(root / "torch"):
        sys.exit(
            f"imports {torch.__file__}, not {root / 'torch'}: call scripts/build with "
            "--remove, then again"
        )
    from torch._dynamo.testing import CompileCounterWithBackend
    from torch._inductor.kernel.custom_op import (
        CustomOpConfig,
        register_custom_op_autotuning,
    )

    register_custom_op_autotuning(
        op,
        configs=[CustomOpConfig(short), CustomOpConfig(long)],
        dispatch_on={"tensor_name": "x", "dim": 1},
        split_points=[512],
        winners=[0, 1],
    )
    counter = CompileCounterWithBackend("inductor")
    compiled = torch.compile(lambda x: op(x) + 1, dynamic=True, backend=counter)
    for size, expected in ((300, short), (512, short), (513, long)):
        x = torch.randn(4, size)
        torch.testing.assert_close(compiled(x), expected(x) + 1)
    assert counter.frame_count == 1, f"{counter.frame_count} graphs were compiled"
    print(f"torch {torch.__version__} is {torch.__file__}, and dispatches by size")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
