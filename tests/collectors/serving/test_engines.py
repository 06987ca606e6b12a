from __future__ import annotations

from dataclasses import fields

import pytest

from collectors.scrape.exposition import Page, PageReader
from collectors.sources.serving import ENGINES
from collectors.sources.serving.engine import Engine
from collectors.sources.serving.llamacpp import LLAMACPP
from collectors.sources.serving.recognition import keep, recognise
from collectors.sources.serving.vllm import VLLM
from core.errors import CollectorError
from core.readings import DeploymentSample, Latency
from tests.collectors.serving.pages import recorded

TINY, SMALL = "acme/tiny-1b", "acme/small-7b"


def read(text: str) -> tuple[Engine, dict[str | None, Page]]:
    kept = keep(text.encode())
    engine = recognise(kept)
    return engine, engine.by_model(PageReader().read(kept))


def quantities(text: str, model: str | None) -> dict[str, float | None]:
    engine, models = read(text)
    return engine.read_quantities(models[model])


def histogram_names(text: str, model: str | None) -> dict[Latency, set[str]]:
    engine, models = read(text)
    return {kind: {name for name, _ in found} for kind, found in engine.read_histograms(models[model]).items()}


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.name)
def test_quantities_are_fields_of_the_sample(engine):
    assert set(engine.quantities) <= {field.name for field in fields(DeploymentSample)}
    own = (name for name in engine.series_names() if "process_start" not in name)
    assert all(name.startswith(engine.prefixes) for name in own)


def test_vllm_v0():
    text = recorded("vllm-0.8.5-v0")
    assert read(text)[0] is VLLM
    assert list(read(text)[1]) == [TINY]
    assert quantities(text, TINY) == {
        "running_requests": 3,
        "waiting_requests": 2,
        "kv_cache_usage_ratio": 0.25,
        "prompt_tokens_total": 1200,
        "cached_prompt_tokens_total": None,
        "generation_tokens_total": 345,
        "succeeded_requests_total": 5,
        "failed_requests_total": None,  # this version does not count errors
        "aborted_requests_total": 0,  # it does count these, from the first on
        "rejected_requests_total": None,
        "preemptions_total": 4,
        "prefix_cache_queries_tokens_total": None,
        "prefix_cache_hits_tokens_total": None,
    }
    assert histogram_names(text, TINY) == {
        Latency.TTFT: {"vllm:time_to_first_token_seconds"},
        Latency.ITL: {"vllm:time_per_output_token_seconds"},
        Latency.E2E: {"vllm:e2e_request_latency_seconds"},
    }


def test_vllm_v1_that_counts_its_prefix_cache_in_blocks():
    found = quantities(recorded("vllm-0.8.5-v1"), TINY)
    assert found["kv_cache_usage_ratio"] == 0.125
    assert found["prefix_cache_queries_tokens_total"] == 40 * 16
    assert found["prefix_cache_hits_tokens_total"] == 10 * 16
    assert found["succeeded_requests_total"] == 4
    assert found["aborted_requests_total"] == 2
    assert found["preemptions_total"] is None


def test_vllm_v1_that_counts_tokens_under_the_old_name():
    found = quantities(recorded("vllm-0.8.5-v1").replace("blocks.", "tokens."), TINY)
    assert found["prefix_cache_queries_tokens_total"] == 40


def test_vllm_v1_without_a_word_on_the_unit():
    text = "\n".join(line for line in recorded("vllm-0.8.5-v1").splitlines() if not line.startswith("#"))
    assert quantities(text, TINY)["prefix_cache_queries_tokens_total"] is None


def test_vllm_today_with_two_models_and_two_engines():
    text = recorded("vllm-current-two-models")
    assert set(read(text)[1]) == {TINY, SMALL}
    assert quantities(text, TINY) == {
        "running_requests": 8,
        "waiting_requests": 18,
        "kv_cache_usage_ratio": 0.5,  # the mean of two caches of one size
        "prompt_tokens_total": 3000,
        "cached_prompt_tokens_total": 500,
        "generation_tokens_total": 500,
        "succeeded_requests_total": 2 * (4 + 3 + 9),  # stop, length and repetition
        "failed_requests_total": 2,
        "rejected_requests_total": None,
        "aborted_requests_total": 4,
        "preemptions_total": 20,
        "prefix_cache_queries_tokens_total": 1500,
        "prefix_cache_hits_tokens_total": 500,
    }
    small = quantities(text, SMALL)
    assert (small["generation_tokens_total"], small["kv_cache_usage_ratio"]) == (7, 0.0625)
    names = histogram_names(text, SMALL)
    assert set(names) == set(Latency)
    assert names[Latency.ITL] == {"vllm:inter_token_latency_seconds"}  # though the old one is there as well
    assert names[Latency.TPOT] == {"vllm:request_time_per_output_token_seconds"}


def test_llama_server():
    text = recorded("llamacpp-current")
    assert read(text)[0] is LLAMACPP
    assert quantities(text, None) == {
        "running_requests": 2,
        "waiting_requests": 4,
        "kv_cache_usage_ratio": None,
        "prompt_tokens_total": 938 + 1013,  # Vatio's prompt tokens include cached ones
        "cached_prompt_tokens_total": 1013,
        "generation_tokens_total": 1_978_120,
        "prefill_seconds_total": 0.0934,
        "decode_seconds_total": 0.7775,
    }


def test_old_llama_server_does_not_say_how_many_prompt_tokens_there_were():
    found = quantities(recorded("llamacpp-early-2025"), None)
    assert found["prompt_tokens_total"] is None
    assert found["generation_tokens_total"] == 20
    assert found["kv_cache_usage_ratio"] == 0.5


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
