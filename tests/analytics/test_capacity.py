"""The capacity planner against deployments that others published, and the laws its answers keep."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.capacity import NO_BANDWIDTH, NO_NODE, NO_TDP, Measured, beside, plan
from analytics.formulas import capacity
from analytics.formulas.capacity import Layout
from core.hardware.catalogue import accelerators
from core.hardware.planning import Precision, models
from core.texts import text

MODELS = {one.model: one for one in models()}
TYPES = {one.model: one for one in accelerators()}
H100, MI300X = TYPES["H100 SXM"], TYPES["Instinct MI300X"]
BF16, FP8, MXFP4 = Precision.BF16, Precision.FP8, Precision.MXFP4

PUBLISHED = [  # model, precision, context, requests, accelerator, accelerators, nodes, who published it
    ("Llama 2 70B", BF16, 4_096, 4, "Instinct MI300X", 1, 1, "recorded run: news.ycombinator.com/item?id=40833109"),
    ("Llama 2 70B", BF16, 4_096, 4, "H100 SXM", 2, 1, "2 x 80 GB, little left: text-generation-inference issue 734"),
    ("Llama 3.1 405B", BF16, 8_192, 16, "Instinct MI300X", 8, 1, "tensorwave.com/blog/405-billion-parameters-1-node"),
    ("Llama 3.1 405B", FP8, 8_192, 16, "Instinct MI300X", 4, 1, "the same: FP8 on just four"),
    ("Llama 3.1 405B", BF16, 8_192, 16, "H100 SXM", 16, 2, "llama-models sku_list.py: 16 x 70 GB"),
    ("Llama 3.1 405B", FP8, 8_192, 16, "H100 SXM", 8, 1, "llama-models sku_list.py: 8 x 70 GB"),
    # A few long requests: with short ones four MI300X hold it too, while the guides always take the whole node.
    ("DeepSeek-R1", FP8, 131_072, 4, "Instinct MI300X", 8, 1, "SGLang guide to DeepSeek: 8 x MI300X"),
    ("DeepSeek-R1", FP8, 131_072, 4, "H200 SXM", 8, 1, "SGLang guide to DeepSeek: 8 x H200"),
    ("DeepSeek-R1", FP8, 131_072, 4, "H100 SXM", 16, 2, "SGLang guide to DeepSeek: 2 x 8 x H100"),
    ("gpt-oss-120b", MXFP4, 8_192, 16, "H100 SXM", 1, 1, "openai/gpt-oss README: a single H100"),
    ("Llama 3.1 70B", BF16, 4_096, 1, "WSE-3 / CS-3", 4, 4, "The Register on Hot Chips 2024: four CS-3"),
]


def planned(model, precision, context, requests, accelerator):
    [answer] = plan(model, precision, context, requests, [accelerator])
    return answer


@pytest.mark.parametrize(
    ("model", "precision", "context", "requests", "accelerator", "count", "nodes", "source"), PUBLISHED
)
def test_published_deployments_are_found(model, precision, context, requests, accelerator, count, nodes, source):
    answer = planned(MODELS[model], precision, context, requests, TYPES[accelerator])
    assert (answer.accelerators, answer.nodes) == (count, nodes), source
    assert answer.reason == ""


def test_weights_are_as_large_as_published_checkpoints():
    """GiB of the gpt-oss model card, and of the Llama 2 70B run above as it was seen on the MI300X."""
    for model, precision, gib in (
        ("gpt-oss-120b", MXFP4, 60.8),
        ("gpt-oss-20b", MXFP4, 12.8),
        ("Llama 2 70B", BF16, 128.48),
    ):
        shape = MODELS[model]
        wide = shape.embedding_parameters + shape.wide_parameters
        assert capacity.weight_bytes(shape.parameters, wide, precision) / (1 << 30) == pytest.approx(gib, abs=0.05)


def test_kv_cache_is_as_large_as_sglang_logged():
    """sgl on 4 x H100 with Qwen3-235B-A22B: 367,404 tokens took 8.23 GiB each of K and V (vllm issue 21348)."""
    shape = MODELS["Qwen3-235B-A22B"]
    token = capacity.kv_bytes_per_token(shape.layers, shape.kv_heads, shape.kv_values_per_head, BF16)
    held = capacity.kv_heads_held(shape.kv_heads, 4)
    assert held is not None
    assert token * held / shape.kv_heads * 367_404 == pytest.approx(2 * 8.23 * (1 << 30), rel=1e-3)


def test_a_latent_takes_the_place_of_heads_and_is_whole_everywhere():
    shape = MODELS["DeepSeek-R1"]
    assert capacity.kv_bytes_per_token(shape.layers, shape.kv_heads, shape.kv_values_per_head, BF16) == 61 * 576 * 2
    one, eight = (capacity.bytes_per_accelerator(0, 1e9, 61, shape.kv_heads, Layout(size)) for size in (1, 8))
    assert one == eight == 1e9


def test_heads_are_divided_then_repeated_then_refused():
    assert [capacity.kv_heads_held(8, size) for size in (1, 2, 8, 16)] == [8, 4, 1, 1]
    assert capacity.kv_heads_held(40, 16) is None


def test_a_window_ends_the_growth_of_its_layers():
    assert capacity.cached_tokens(100, 36, 18, 128) == 100
    assert capacity.cached_tokens(10_128, 36, 18, 128) == (10_128 + 128) / 2


def test_the_bound_is_one_reading_of_all_memory_per_token():
    bound = capacity.decode_bound_tokens_per_second
    assert bound(8e9, 2e9, 1, Layout(1), 1e12) == 100
    assert bound(8e9, 2e9, 1, Layout(2), 1e12) == 200
    assert bound(8e9, 2e9, 1, Layout(1, 2), 1e12) == 100, "one request waits for one stage after the other"
    assert bound(8e9, 4e9, 2, Layout(1, 2), 1e12) == 200
    assert bound(8e9, 2e9, 1, Layout(1), None) is None


@pytest.mark.parametrize(
    ("model", "accelerator", "tokens_per_second"),
    [  # one user at 16 bits, as Cerebras published (The Register on Hot Chips 2024), of others' H100 instances too
        ("Llama 3.1 8B", "WSE-3 / CS-3", 1_800),
        ("Llama 3.1 8B", "H100 SXM", 242),
        ("Llama 3.1 70B", "WSE-3 / CS-3", 450),
    ],
)
def test_no_published_speed_is_above_its_bound(model, accelerator, tokens_per_second):
    answer = planned(MODELS[model], BF16, 1_024, 1, TYPES[accelerator])
    group = 8 / answer.layout.tensor_parallel if accelerator == "H100 SXM" else 1  # an instance has up to eight
    assert answer.decode_bound_tokens_per_second * group > tokens_per_second


def test_every_figure_of_a_plan_is_in_its_arithmetic():
    answer = planned(MODELS["DeepSeek-R1"], FP8, 8_192, 16, H100)
    values = {term.name: term.value for term in answer.terms}
    assert values["accelerators"] == answer.accelerators == 16
    assert values["nodes"] == answer.nodes == 2
    assert values["power of a node"] == answer.node_watts == 8 * 700
    assert values["output of all requests at most"] == answer.decode_bound_tokens_per_second
    assert (
        values["memory filled on an accelerator"] <= values["usable memory of an accelerator"] < 0.9 * H100.memory_bytes
    )
    assert all(term.unit and term.arithmetic for term in answer.terms)


def test_unknown_figures_are_none_with_the_reason():
    answer = planned(MODELS["Llama 2 70B"], BF16, 4_096, 1, TYPES["Instinct MI308X"])
    assert answer.accelerators == 1
    assert (answer.nodes, answer.node_watts, answer.decode_bound_tokens_per_second) == (None, None, None)
    assert all(reason in answer.reason for reason in (NO_NODE, NO_TDP, NO_BANDWIDTH))


@pytest.mark.parametrize(
    ("model", "context", "accelerator"),
    [
        ("DeepSeek-R1", 4_096, "GeForce RTX 4090"),  # more cards than one server is known to have
        ("DeepSeek-R1", 4_096, "Jetson Orin Nano 8GB"),  # one layer is more than one of them holds
        ("Llama 2 70B", 8_192, "Instinct MI300X"),  # more than the model's context
    ],
)
def test_what_does_not_fit_says_why(model, context, accelerator):
    answer = planned(MODELS[model], FP8, context, 1, TYPES[accelerator])
    assert answer.accelerators is None
    assert answer.nodes is None
    assert answer.reason


@pytest.mark.parametrize(("context", "requests"), [(0, 1), (1, 0)])
def test_a_plan_is_for_one_request_at_least(context, requests):
    with pytest.raises(ValueError, match="one request"):
        plan(MODELS["Llama 2 70B"], BF16, context, requests, [H100])


def test_a_node_is_paid_as_a_whole_and_by_no_price_but_ones_own():
    priced = plan(MODELS["Llama 2 70B"], BF16, 4_096, 1, [H100, MI300X], usd_per_accelerator_hour={H100.model: 2.5})
    assert [one.usd_per_node_hour for one in priced] == [20.0, None]


def test_measured_rates_stand_beside_the_plan_of_their_model_and_accelerator():
    plans = plan(MODELS["Llama 2 70B"], BF16, 4_096, 1, [H100, MI300X])
    seen = Measured("Llama 2 70B", MI300X.model, 900.0, text("week 47, 32 requests"))
    other = Measured("Llama 3.1 8B", MI300X.model, 9_000.0, text("week 47"))
    assert [one.measured for one in beside(plans, [seen, other])] == [(), (seen,)]


shapes = st.sampled_from(models())
contexts, loads = st.integers(1, 4_096), st.integers(1, 512)
kinds = st.sampled_from(accelerators())
precisions = st.sampled_from(Precision)


def count(*asked) -> float:
    """Accelerators; what does not fit needs more than any number."""
    return planned(*asked).accelerators or float("inf")


@given(shapes, precisions, contexts, contexts, loads, loads, kinds)
def test_more_context_or_requests_never_need_fewer(shape, precision, context, more_context, load, more_load, kind):
    context, more_context = sorted((context, more_context))
    load, more_load = sorted((load, more_load))
    assert count(shape, precision, context, load, kind) <= count(shape, precision, more_context, more_load, kind)


@given(shapes, precisions, st.floats(1, 10), contexts, loads, kinds)
def test_more_parameters_never_need_fewer(shape, precision, factor, context, load, kind):
    larger = replace(shape, parameters=int(shape.parameters * factor))
    assert count(shape, precision, context, load, kind) <= count(larger, precision, context, load, kind)


@given(shapes, precisions, st.floats(1, 10), contexts, loads, kinds)
def test_more_memory_never_needs_more(shape, precision, factor, context, load, kind):
    roomier = replace(kind, memory_bytes=int(kind.memory_bytes * factor))
    assert count(shape, precision, context, load, roomier) <= count(shape, precision, context, load, kind)


@given(shapes, precisions, contexts, loads, kinds)
def test_a_plan_fits_and_the_next_smaller_layout_does_not(shape, precision, context, load, kind):
    answer = planned(shape, precision, context, load, kind)
    values = {term.name: term.value for term in answer.terms}
    sizes = list(capacity.layouts(answer.accelerators_per_node, shape.layers, shape.kv_heads))
    if answer.layout is not None:
        assert values["memory filled on an accelerator"] <= values["usable memory of an accelerator"]
        sizes = sizes[: sizes.index(answer.layout)]
    for smaller in sizes[-1:]:
        held = capacity.bytes_per_accelerator(
            values["weights"], values["KV cache of all requests"], shape.layers, shape.kv_heads, smaller
        )
        assert held > values["usable memory of an accelerator"]
