"""What a language model needs of memory, and how many accelerators hold it. Bytes, tokens, seconds.

A group of accelerators in one node shares each layer (tensor parallel); nodes share the layers (pipeline). That is
the common practice of vLLM's guide to distributed serving. Every accelerator of a plan is alike.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from analytics.formulas.unknown import per, product
from core.hardware.planning import Precision

USABLE_MEMORY_RATIO = 0.9  # vLLM's gpu_memory_utilization as it comes
RUNTIME_RESERVE_BYTES = 3 << 30  # out of that: vLLM logged 1.8 GiB beside torch and 1.3 of activations (its PR 10511)
LARGEST_GROUP = 8  # where nobody says how many accelerators a server has

_BITS = {
    Precision.FP32: 32.0,
    Precision.BF16: 16.0,
    Precision.FP16: 16.0,
    Precision.FP8: 8.0,  # one scale for a tensor or a block of 128 x 128 does not show
    Precision.INT8: 8.0,
    Precision.MXFP4: 4 + 8 / 32,  # a scale of 8 bits for 32 values (OCP microscaling formats)
    Precision.INT4: 4 + (16 + 4) / 128,  # a scale and a zero point for 128 values, as AWQ and GPTQ store them
}
_WIDE_BITS = 16.0
_BITS_PER_BYTE = 8


@dataclass(frozen=True, slots=True)
class Layout:
    """Accelerators that share each layer, and groups of them that share the layers."""

    tensor_parallel: int
    pipeline_parallel: int = 1

    @property
    def accelerators(self) -> int:
        """All of them."""
        return self.tensor_parallel * self.pipeline_parallel


def bytes_per_value(precision: Precision) -> float:
    """Memory of one stored number with its part of the scales (B)."""
    return _BITS[precision] / _BITS_PER_BYTE


def weight_bytes(parameters: float, wide_parameters: float, precision: Precision) -> float:
    """Memory of weights (B) of which some keep at least 16 bits when the others are quantized."""
    wide_bits = max(_BITS[precision], _WIDE_BITS)
    return (wide_parameters * wide_bits + (parameters - wide_parameters) * _BITS[precision]) / _BITS_PER_BYTE


def kv_bytes_per_token(layers: int, kv_heads: int, values_per_head: int, precision: Precision) -> float:
    """KV cache of one token (B): 2 x head dimension values per head, or a latent (MLA), which counts as one head."""
    return layers * kv_heads * values_per_head * bytes_per_value(precision)


def cached_tokens(context_tokens: int, layers: int, windowed_layers: int, window_tokens: int) -> float:
    """Tokens of a request that a layer caches in the mean; one with a sliding window keeps no more than that."""
    windowed = windowed_layers * min(context_tokens, window_tokens)
    return (windowed + (layers - windowed_layers) * context_tokens) / layers


def kv_heads_held(kv_heads: int, tensor_parallel: int) -> int | None:
    """KV heads on each accelerator of a group: divided evenly, or where there are too few, each repeated evenly.

    ``None`` where neither works; vLLM refuses it too.
    """
    if kv_heads % tensor_parallel == 0:
        return kv_heads // tensor_parallel
    return 1 if tensor_parallel % kv_heads == 0 else None


def layouts(accelerators_per_node: int | None, layers: int, kv_heads: int) -> Iterator[Layout]:
    """Every layout to try, smallest first: 1, 2, 4, ... in one node, then whole nodes, to one layer each.

    Where the size of a node is unknown, one group of up to 8.
    """
    largest = accelerators_per_node or LARGEST_GROUP
    for exponent in range(largest.bit_length()):
        if kv_heads_held(kv_heads, 1 << exponent) is not None:
            yield Layout(1 << exponent)
    if accelerators_per_node is not None and kv_heads_held(kv_heads, accelerators_per_node) is not None:
        for nodes in range(2, layers + 1):
            yield Layout(accelerators_per_node, nodes)


def stage_ratio(layers: int, pipeline_parallel: int) -> float:
    """Part of the model on the fullest stage of a pipeline, taking layers as alike and whole."""
    return math.ceil(layers / pipeline_parallel) / layers


def bytes_per_accelerator(weights: float, kv: float, layers: int, kv_heads: int, layout: Layout) -> float | None:
    """What the fullest accelerator holds of weights and KV cache (B); ``None`` where the heads cannot be shared so."""
    held = kv_heads_held(kv_heads, layout.tensor_parallel)
    if held is None:
        return None
    group = weights / layout.tensor_parallel + kv * held / kv_heads
    return stage_ratio(layers, layout.pipeline_parallel) * group


def usable_bytes(memory_bytes: float) -> float:
    """Memory of an accelerator (B) that weights and KV cache may fill, by the two assumptions above."""
    return max(memory_bytes * USABLE_MEMORY_RATIO - RUNTIME_RESERVE_BYTES, 0.0)


def nodes_needed(accelerators: int | None, accelerators_per_node: int | None) -> int | None:
    """Whole nodes; ``None`` where a side is unknown."""
    whole = per(accelerators, accelerators_per_node)
    return None if whole is None else math.ceil(whole)


def decode_bound_tokens_per_second(
    active_weight_bytes: float,
    kv_bytes: float,
    concurrency: int,
    layout: Layout,
    memory_bytes_per_second: float | None,
) -> float | None:
    """Output that memory bandwidth allows at most, all requests together: a bound and never a forecast.

    It is the rate at a model bandwidth utilization of 1. For each token a request waits until one group after the
    other has read the weights of a token and the KV cache of its part of the requests, of which a pipeline works on
    as many at a time as it has stages. A batch of a mixture of experts reads more than the weights of one token.
    """
    parts = min(concurrency, layout.pipeline_parallel)
    group_bytes_per_second = product(layout.tensor_parallel, memory_bytes_per_second)
    return per(concurrency, per(active_weight_bytes + kv_bytes / parts, group_bytes_per_second))
