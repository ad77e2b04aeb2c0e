# Owner(s): ["module: inductor"]
"""The serving example: one graph computes what the model of transformers computes."""

import collections
import importlib.util
import sys
import unittest
from pathlib import Path

import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch._inductor.test_case import run_tests, TestCase
from torch._inductor.utils import fresh_cache


sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples" / "serving"))

if HAS_TRANSFORMERS := importlib.util.find_spec("transformers") is not None:
    import scheduler
    import serving_ops
    import variants
    from decoder import Decoder, make_reference


VOCABULARY = 97
CAPACITY = 320

# Of the fallback (-1) and all candidates, in the ranges of SPLIT_POINTS.
WINNERS = {
    "attention": [0, 0, -1, 0, 0, -1, -1],
    "linear": [0, -1, 0, 0, -1, 0, 0],
    "add_norm": [0, 1, -1, 0, 1, 1, 0],
}


def make_trace(count, gap=6.0):
    return scheduler.make_trace(count, VOCABULARY, seed=10, longest=256, gap=gap)


@unittest.skipUnless(
    HAS_TRANSFORMERS, "transformers is not installed: see docs/serving.md"
)
class ServingTest(TestCase):
    def setUp(self):
        super().setUp()
        torch._dynamo.reset()
        self.enterContext(fresh_cache())
        self.enterContext(torch.no_grad())
        self.reference = make_reference(
            hidden_size=64,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=4,
            vocab_size=VOCABULARY,
            max_position_embeddings=CAPACITY,
        )
        self.decoder = Decoder(self.reference, CAPACITY)

    def expected_answer(self, request):
        """What the reference writes, and by how much each token is ahead."""
        tokens = torch.tensor([request.prompt + request.answer[:-1]])
        logits = self.reference(tokens).logits[0, len(request.prompt) - 1 :]
        best = logits.topk(2).values
        return logits.argmax(-1).tolist(), (best[:, 0] - best[:, 1]).tolist()

    def check_answers(self, trace):
        """Tokens are equal, but where the reference itself has a tie."""
        for request in trace:
            self.assertEqual(len(request.answer), request.answer_length)
            expected, ahead = self.expected_answer(request)
            for written, token, margin in zip(request.answer, expected, ahead):
                if margin > 1e-4:
                    self.assertEqual(written, token)

    def test_one_graph_serves_what_the_reference_writes(self):
        backend = CompileCounterWithBackend("inductor")
        counts = collections.Counter()
        trace = make_trace(12)
        with serving_ops.dispatched(WINNERS):
            run = variants.compile_step(self.decoder, serving_ops.OPS, backend)

            def run_step(step):
                counts[step.count] += 1
                return run(step.tokens, step.context, step.last)

            scheduler.serve(trace, run_step)
        self.assertEqual(backend.frame_count, 1)
        self.check_answers(trace)
        # One token, and steps with whole prompts: every kind of step was there.
        self.assertGreater(counts[1], 0)
        self.assertGreater(max(counts), serving_ops.SPLIT_POINTS[-1])

    def test_eager_implementations_write_it_too(self):
        variant = variants.eager(self.decoder)
        trace = make_trace(12)
        scheduler.serve(trace, lambda s: variant.run(s.tokens, s.context, s.last))
        self.check_answers(trace)

    def test_every_candidate_computes_its_op(self):
        tokens, context, _ = variants.typical_inputs(20)
        keys, values = self.decoder.cache[0]
        keys.normal_()
        values.normal_()
        layer = self.decoder.layers[0]
        x = torch.randn(20, 64)
        arguments = {
            "attention": (torch.randn(20, 4, 16), keys, values, tokens, context),
            "linear": (x, *layer["qkv"]),
            "add_norm": (x, torch.randn(20, 64), layer["norm_1"], 1e-6),
        }
        for name, candidates in serving_ops.CANDIDATES.items():
            tolerance = serving_ops.TOLERANCES[name]
            expected = serving_ops.OPS[name](*arguments[name])
            for one in candidates:
                self.assertEqual(
                    one(*arguments[name]), expected, atol=tolerance, rtol=tolerance
                )

    def test_steps_keep_to_the_budget_and_to_slots(self):
        trace = make_trace(40, gap=0.5)
        steps = []

        def run_step(step):
            steps.append(step)
            return torch.zeros(serving_ops.SLOTS, VOCABULARY)

        scheduler.serve(trace, run_step, budget=300)
        self.assertLessEqual(max(step.count for step in steps), 300)
        for step in steps:
            slots = torch.unique_consecutive(step.tokens[1])
            self.assertEqual(len(slots), len(slots.unique()))
            self.assertLess(int(step.tokens[2].max()), CAPACITY)
        computed = sum(step.count for step in steps)
        expected = sum(len(one.prompt) + one.answer_length - 1 for one in trace)
        self.assertEqual(computed, expected)


if __name__ == "__main__":
    run_tests()
