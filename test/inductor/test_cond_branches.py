# Owner(s): ["module: inductor"]
"""What a patch mends in the base's ``torch.cond``, whoever writes the cond."""

import torch
from torch._inductor import config
from torch._inductor.test_case import run_tests, TestCase


class CondBranchesTest(TestCase):
    def test_item_of_an_operand_in_both_branches(self):
        def model(x, n):
            return torch.cond(
                x.sum() > 0,
                lambda x, n: x * n.item(),
                lambda x, n: x - n.item(),
                (x, n),
            )

        compiled = torch.compile(model, dynamic=True, fullgraph=True)
        for sign in (1.0, -1.0):
            x, n = torch.full((4, 5), sign), torch.tensor(3)
            self.assertEqual(compiled(x, n), model(x, n))

    @config.patch(cpp_wrapper=True)
    def test_predicate_that_is_a_union(self):
        def model(x):
            outside = (x.shape[0] <= 4) | (x.shape[0] > 8)
            return torch.cond(outside, lambda x: x + 1.0, lambda x: x - 1.0, (x,))

        compiled = torch.compile(model, dynamic=True, fullgraph=True)
        for size in (4, 5, 8, 9):
            x = torch.randn(size, 30)
            self.assertEqual(compiled(x), x - 1.0 if 4 < size <= 8 else x + 1.0)


if __name__ == "__main__":
    run_tests()
