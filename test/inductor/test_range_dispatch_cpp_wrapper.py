# Owner(s): ["module: inductor"]
"""A dispatch in C++: the wrapper of ``torch.compile``, and AOTInductor."""

from test_cond_cpp_wrapper import CppWrapperTestCase, WIDTH

import torch
from torch._inductor.kernel.custom_op import custom_op_autotuning, CustomOpConfig
from torch._inductor.test_case import run_tests
from torch.testing._internal.common_utils import (
    instantiate_parametrized_tests,
    parametrize,
)


_library = torch.library.Library("range_dispatch_cpp_wrapper", "FRAGMENT")


def operand_itself(x, n):
    return x, x.sin() * n


def one_twice(x, n):
    y = x.cos() + n
    return y, y


def constant_and_value(x, n):
    row = torch.arange(1.0, WIDTH + 1)
    return x + row, x * n + torch.tensor([0.5])


PAIR = (operand_itself, one_twice, constant_and_value)

_library.define("pair(Tensor x, SymInt n) -> (Tensor, Tensor)")
_library.impl("pair", constant_and_value, "CompositeExplicitAutograd")
torch.library.register_fake(
    "range_dispatch_cpp_wrapper::pair",
    lambda x, n: (torch.empty_like(x), torch.empty_like(x)),
    lib=_library,
)


class DispatchCppWrapperTest(CppWrapperTestCase):
    @parametrize("wrapper", ["jit", "aoti"])
    def test_outputs_that_alias_and_a_size_as_argument(self, wrapper):
        op = torch.ops.range_dispatch_cpp_wrapper.pair.default

        def model(call, x):
            y = x + 1
            first, second = call(y, 2 * x.shape[0] + 1)
            return first * 2, second, y

        def due(x, k):
            n = x.shape[0]
            return model(PAIR[(n > 4) + (n > 8)], x)

        registration = custom_op_autotuning(
            op,
            configs=[CustomOpConfig(implementation) for implementation in PAIR],
            dispatch_on={"tensor_name": "x", "dim": 0},
            split_points=[4, 8],
            winners=[0, 1, 2],
        )
        with registration:
            self.check(lambda _, x, k: model(op, x), wrapper, due)


instantiate_parametrized_tests(DispatchCppWrapperTest)


if __name__ == "__main__":
    run_tests()
