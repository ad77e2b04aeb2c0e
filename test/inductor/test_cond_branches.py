# Owner(s): ["module: inductor"]
"""What a patch mends in the base's ``torch.cond``, whoever writes the cond."""

import torch
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


if __name__ == "__main__":
    run_tests()
