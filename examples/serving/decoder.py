"""A decoder-only transformer over the flattened tokens of all requests."""

from collections.abc import Callable, Mapping
from typing import Any

import serving_ops
import torch
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM

CAPACITY = 1280
"""Positions of a slot in the cache."""


def make_reference(**changes: int) -> LlamaForCausalLM:
    """The model of the package transformers, with seeded random weights."""
    sizes: dict[str, Any] = {
        "hidden_size": 512,
        "intermediate_size": 1024,
        "num_hidden_layers": 4,
        "num_attention_heads": 8,
        "num_key_value_heads": 8,
        "vocab_size": 2048,
        "max_position_embeddings": CAPACITY,
    }
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**{**sizes, **changes})).eval()


class Weight:
    """One weight in the three forms that implementations of the linear op read."""

    def __init__(self, *parts: torch.Tensor) -> None:
        weight = torch.cat([part.detach() for part in parts])
        scale = weight.abs().amax(1) / 127
        integers = (weight / scale[:, None]).round().to(torch.int8)
        self.forms = (weight, weight.bfloat16(), integers, scale)


class Decoder:
    """The reference's weights, a cache, and one step of all requests.

    ``choice`` has the function for each op by name: the custom op, which is
    dispatched, or one of its implementations.
    """

    def __init__(
        self, reference: LlamaForCausalLM, capacity: int = CAPACITY
    ) -> None:
        config = reference.config
        self.heads = config.num_attention_heads
        self.dim = config.hidden_size // self.heads
        self.eps = config.rms_norm_eps
        self.embedding = reference.model.embed_tokens.weight.detach()
        self.head = reference.lm_head.weight.detach()
        self.final_norm = reference.model.norm.weight.detach()
        self.frequencies = reference.model.rotary_emb.inv_freq
        self.layers = [self._layer(one) for one in reference.model.layers]
        shape = (serving_ops.SLOTS, self.heads, capacity, self.dim)
        self.cache = [(torch.zeros(shape), torch.zeros(shape)) for _ in self.layers]

    def _layer(self, layer: Any) -> dict[str, Any]:
        attention, mlp = layer.self_attn, layer.mlp
        return {
            "qkv": Weight(
                attention.q_proj.weight,
                attention.k_proj.weight,
                attention.v_proj.weight,
            ).forms,
            "out": Weight(attention.o_proj.weight).forms,
            "gate_up": Weight(mlp.gate_proj.weight, mlp.up_proj.weight).forms,
            "down": Weight(mlp.down_proj.weight).forms,
            "norm_1": layer.input_layernorm.weight.detach(),
            "norm_2": layer.post_attention_layernorm.weight.detach(),
        }

    def rotated(self, x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Rotary position embedding of x [tokens, heads, dim]."""
        angles = positions[:, None].float() * self.frequencies
        angles = torch.cat([angles, angles], -1)[:, None]
        first, second = x.chunk(2, -1)
        turned = torch.cat([-second, first], -1)
        return x * angles.cos() + turned * angles.sin()

    def step(
        self,
        choice: Mapping[str, Callable[..., Any]],
        step: torch.Tensor,
        context: torch.Tensor,
        last: torch.Tensor,
    ) -> torch.Tensor:
        """Logits [slots, vocabulary] of the tokens at the indices ``last``."""
        attention, linear, norm = (
            choice[name] for name in ("attention", "linear", "add_norm")
        )
        x = F.embedding(step[0], self.embedding)
        total = torch.zeros_like(x)
        for layer, (keys, values) in zip(self.layers, self.cache):
            x, total = norm(x, total, layer["norm_1"], self.eps)
            q, k, v = linear(x, *layer["qkv"]).chunk(3, -1)
            q, k, v = (one.reshape(-1, self.heads, self.dim) for one in (q, k, v))
            q, k = self.rotated(q, step[2]), self.rotated(k, step[2])
            serving_ops.write_cache(keys, values, k, v, step)
            x = attention(q, keys, values, step, context).flatten(1)
            x = linear(x, *layer["out"])
            x, total = norm(x, total, layer["norm_2"], self.eps)
            gate, up = linear(x, *layer["gate_up"]).chunk(2, -1)
            x = linear(F.silu(gate) * up, *layer["down"])
        x, _ = norm(x, total, self.final_norm, self.eps)
        return F.linear(x[last], self.head)
