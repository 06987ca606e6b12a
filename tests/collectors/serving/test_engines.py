from __future__ import annotations

import json
import math
from dataclasses import fields

import pytest

from collectors.sources.serving import ENGINES
from collectors.sources.serving.ollama import OLLAMA
from collectors.sources.serving.recognition import engine_of
from collectors.sources.serving.sglang import SGLANG
from collectors.sources.serving.vllm import VLLM
from core.errors import CollectorError
from core.readings import DeploymentSample, Latency
from tests.collectors.serving.pages import FIXTURES, Figures, figures, quantities, read, recorded

TINY = "acme/tiny-1b"
OF_HARDWARE = FIXTURES.parent / "exporters"


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.name)
def test_quantities_are_fields_of_the_sample(engine):
    assert set(engine.quantities) <= {field.name for field in fields(DeploymentSample)}
    own = (name for name in engine.series_names() if "process_start" not in name)
    assert all(name.startswith(engine.prefixes) for name in own)


def test_vllm_v1_that_counts_tokens_under_the_old_name():
    found = quantities(recorded("vllm-0.8.5-v1").replace("blocks.", "tokens."), TINY)
    assert found["prefix_cache_queries_tokens_total"] == 40


def test_vllm_v1_without_a_word_on_the_unit():
    text = "\n".join(line for line in recorded("vllm-0.8.5-v1").splitlines() if not line.startswith("#"))
    assert quantities(text, TINY)["prefix_cache_queries_tokens_total"] is None


def histogram_names(text: str, model: str | None) -> dict[Latency, set[str]]:
    engine, models = read(text)
    return {kind: {name for name, _ in found} for kind, found in engine.read_histograms(models[model]).items()}


def test_of_two_names_for_one_latency_the_newer_counts():
    names = histogram_names(recorded("vllm-current-two-models"), "acme/small-7b")
    assert names[Latency.ITL] == {"vllm:inter_token_latency_seconds"}
    assert names[Latency.TPOT] == {"vllm:request_time_per_output_token_seconds"}


def bounds(text: str, model: str, kind: Latency) -> set[tuple[float, ...]]:
    engine, models = read(text)
    return {one.bounds for one in engine.read_histograms(models[model])[kind].values()}


def test_bounds_in_milliseconds_become_seconds():
    assert bounds(recorded("triton"), "ranker", Latency.TTFT) == {(0.1, 0.5, 2.0, math.inf)}


def test_a_latency_that_is_only_added_up_has_one_bucket_without_a_bound():
    """Its mean is exact; no quantile can be read from it."""
    assert bounds(recorded("triton"), "ranker", Latency.E2E) == {(math.inf,)}


def test_the_time_that_requests_took_needs_their_number():
    text = "\n".join(
        line for line in recorded("triton").splitlines() if not line.startswith("nv_inference_request_success")
    )
    assert Latency.E2E not in figures(text)["ranker"].latencies


def test_ranks_that_say_the_same_are_one_and_the_largest_counts():
    engine, models = read(recorded("sglang-0.5.23-two-replicas"))
    waiting = models["acme/small-7b"].points["sglang:num_queue_reqs"]
    assert engine is SGLANG
    assert [(point.series.labels["dp_rank"], point.value) for point in waiting] == [("0", 2), ("1", 0)]
    assert not engine.repeats_labels & waiting[0].series.labels.keys()


@pytest.mark.parametrize("label", ["percentile", "statistic"])
def test_the_mean_of_a_minute_goes_by_two_labels(label):
    text = recorded("cerebras-2026").replace("percentile", label)
    assert figures(text)["prod-70b"].latencies[Latency.TTFT] == (46, 11.5)


def test_percentiles_of_a_minute_are_not_taken_for_its_mean():
    text = recorded("cerebras-2026").replace('percentile="avg"', 'percentile="p75"')
    assert figures(text)["prod-70b"].latencies == {}


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "[]",
        "{}",
        '{"models": 7}',
        '{"models": [7]}',
        '{"models": [{"model": 7, "size_vram": 1}]}',
        '{"models": [{"model": "m"}]}',
        '{"models": [{"model": "m", "size_vram": "much"}]}',
        '{"models": [{"model": "m", "size_vram": 1e999}]}',
        "[" * 100_000,
    ],
)
def test_other_answers_are_not_of_ollama(answer):
    with pytest.raises(CollectorError, match=r"^not an answer of Ollama$"):
        read(answer, "/api/ps")


def test_ollama_with_nothing_loaded():
    assert read('{"models": []}', "/api/ps") == (OLLAMA, {})


def test_ollama_with_a_name_that_breaks_lines():
    name = 'a"b\\c\nollama:model_memory_bytes{model_name="forged"} 1'
    answer = json.dumps({"models": [{"model": name, "size_vram": 5}]})
    assert figures(answer, "/api/ps") == {name: Figures({"model_memory_bytes": 5})}


@pytest.mark.parametrize("path", sorted(OF_HARDWARE.glob("*.prom")), ids=lambda path: path.stem)
def test_a_page_about_hardware_is_of_no_engine(path):
    assert engine_of(path.read_bytes()) is None


@pytest.mark.parametrize(
    ("value", "kept"), [("1.0", 1.0), ("0.0", 0.0), ("1.5", None), ("-0.1", None), ("NaN", None), ("+Inf", None)]
)
def test_impossible_shares_are_unknown(value, kept):
    text = (
        f'vllm:kv_cache_usage_perc{{model_name="m"}} {value}\nvllm:generation_tokens_total{{model_name="m"}} {value}\n'
    )
    assert quantities(text, "m")["kv_cache_usage_ratio"] == kept


@pytest.mark.parametrize(("value", "kept"), [("1e12", 1e12), ("-1", None), ("NaN", None), ("+Inf", None)])
def test_impossible_counts_are_unknown(value, kept):
    assert quantities(f"llamacpp:tokens_predicted_total {value}\n", None)["generation_tokens_total"] == kept


def test_a_renamed_quantity_is_unknown_not_zero():
    found = quantities('vllm:num_requests_running{model_name="m"} 0\n', "m")
    assert found["running_requests"] == 0
    assert found["generation_tokens_total"] is None


def test_a_page_that_only_announces_its_series_has_no_model_yet():
    text = "# HELP vllm:generation_tokens_total Number.\n# TYPE vllm:generation_tokens_total counter\n"
    assert read(text) == (VLLM, {})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not a metrics page: empty"),
        ("<html>vllm:</html>", "not a metrics page: HTML"),
        ('{"vllm": 1}', "not a metrics page: JSON"),
        ("process_start_time_seconds 1\n", "not a metrics page: other text"),
        ("# HELP up Up.\nup 1\n", "a metrics page, but not of an inference server that Vatio knows"),
    ],
)
def test_other_pages_are_named(text, reason):
    with pytest.raises(CollectorError, match=f"^{reason}$"):
        read(text)
