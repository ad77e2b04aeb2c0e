# Owner(s): ["module: inductor"]
"""Gradients of, and random numbers in, branches of ``torch.cond``."""

import torch
from torch._functorch import config as functorch_config
from torch._inductor import config
from torch._inductor.test_case import run_tests, TestCase


@torch.compiler.config.patch(force_disable_caches=True)
class CondTrainingTest(TestCase):
    @functorch_config.patch(donated_buffer=True)
    def test_donated_buffers_are_not_a_branchs(self):
        """The branch's second input is the gradient, which is used again later."""

        class Function(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x, w):
                saved = x.exp()
                ctx.save_for_backward(saved, w)
                return saved * w

            @staticmethod
            def backward(ctx, gradient):
                saved, w = ctx.saved_tensors
                sum_of = torch.cond(
                    w[0, 0] > 0,
                    lambda *tensors: tensors[0].sin() + tensors[1] + tensors[2],
                    lambda *tensors: tensors[0].cos() + tensors[1] + tensors[2],
                    (saved, gradient, w),
                )
                return sum_of * gradient * saved, sum_of + gradient + w

        compiled = torch.compile(Function.apply, dynamic=False, fullgraph=True)
        for sign in (1.0, -1.0):
            x = torch.randn(4, 5, requires_grad=True)
            w = torch.rand(4, 5).mul(sign).requires_grad_()
            gradient = torch.randn(4, 5)
            before = gradient.clone(), w.clone()
            due = torch.autograd.grad(Function.apply(x, w), (x, w), gradient)
            self.assertEqual(torch.autograd.grad(compiled(x, w), (x, w), gradient), due)
            self.assertEqual((gradient, w), before)

    @config.patch(fallback_random=True)
    def test_random_numbers_are_drawn_in_order(self):
        def model(x):
            x = x + torch.rand_like(x) + 1
            y = torch.cond(
                x.shape[0] <= 8,
                lambda x: x + torch.rand_like(x),
                lambda x: x * torch.rand_like(x),
                (x,),
            )
            return y.cumsum(0), torch.rand(3).sum()

        compiled = torch.compile(model, dynamic=True, fullgraph=True)
        for size in (8, 9):
            x = torch.randn(size, 5)
            outcomes = []
            for call in (model, compiled):
                torch.manual_seed(size)
                outcomes.append((call(x), torch.get_rng_state()))
            self.assertEqual(*outcomes)


if __name__ == "__main__":
    run_tests()
