# Owner(s): ["module: inductor"]
"""Each branch is lowered, and its kernels are generated, under its own config."""

from _generated_code import in_order_of_code, kernel_sources
from test_cond_codegen import cond_of_size, CondCodegenTestCase

import torch
from torch._inductor import config
from torch._inductor.kernel.custom_op import custom_op_autotuning, CustomOpConfig
from torch._inductor.test_case import run_tests


@torch.library.custom_op("range_dispatch_branch_config_test::pick", mutates_args=())
def pick(x: torch.Tensor) -> torch.Tensor:
    return x.exp()


pick.register_fake(torch.empty_like)


def with_row_sums(x):
    return x + x.view(x.shape[0], -1, 3).sum(-1).sum(1, keepdim=True)


def dispatched(*configs, winners):
    return custom_op_autotuning(
        pick,
        configs=[*configs],
        dispatch_on={"tensor_name": "x", "dim": 0},
        split_points=[8],
        winners=[*winners],
    )


@torch.compiler.config.patch(force_disable_caches=True)
class BranchConfigTest(CondCodegenTestCase):
    def test_branch_is_lowered_with_its_config(self):
        def patch_true_branch(graph):
            branch = getattr(graph.owning_module, "true_graph_0", None)
            if branch is not None:
                patches = {"unroll_reductions_threshold": 1}
                branch.meta["inductor_config_patches"] = patches

        model = cond_of_size(with_row_sums, lambda x: with_row_sums(x) + 1)
        with config.patch(post_grad_custom_post_pass=patch_true_branch):
            result = self.compiled(model, torch.randn(9, 6))
        self.check_unrolled(result, in_order_of_code(False, True))
        self.check_at_sizes(result, model)

    def check_unrolled(self, result, expected):
        """Whether the sums of three are written out, by kernel."""
        sources = kernel_sources(result).values()
        loops = ["<static_cast<int64_t>(3L)" not in source for source in sources]
        self.assertEqual(loops, expected)

    def test_dispatched_branch_is_compiled_as_it_was_timed(self):
        patches = {"unroll_reductions_threshold": 1}
        patched = CustomOpConfig(with_row_sums, config_patches=patches)
        for winners, expected in (
            ((0, 1), in_order_of_code(False, True)),
            ((0, 0), [False]),
        ):
            with dispatched(patched, CustomOpConfig(with_row_sums), winners=winners):
                result = self.compiled(pick, torch.randn(9, 6))
                self.check_unrolled(result, expected)
                self.check_at_sizes(result, with_row_sums)


if __name__ == "__main__":
    run_tests()
