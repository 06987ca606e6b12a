"""The planner's catalogues: every row is sound, and served names find exactly their model."""

import csv
from importlib.resources import files

import pytest

from core.hardware.catalogue import accelerators
from core.hardware.planning import ModelShape, match_model, models, node_of, nodes

SERVED = {
    "meta-llama/Llama-2-7b-chat-hf": "Llama 2 7B",
    "meta-llama/Llama-2-13b-hf": "Llama 2 13B",
    "meta-llama/Llama-2-70b-chat-hf": "Llama 2 70B",
    "meta-llama/Meta-Llama-3.1-8B-Instruct": "Llama 3.1 8B",
    "meta-llama/Llama-3.1-70B-Instruct": "Llama 3.1 70B",
    "meta-llama/Meta-Llama-3.1-405B-Instruct-FP8": "Llama 3.1 405B",
    "meta-llama/Llama-3.3-70B-Instruct": "Llama 3.3 70B",
    "deepseek-ai/DeepSeek-R1": "DeepSeek-R1",
    "deepseek-ai/DeepSeek-R1-0528": "DeepSeek-R1",
    "deepseek-ai/DeepSeek-V3-0324": "DeepSeek-V3",
    "deepseek-ai/DeepSeek-R1-Distill-Llama-70B": "DeepSeek-R1-Distill-Llama-70B",
    "openai/gpt-oss-120b": "gpt-oss-120b",
    "gpt-oss-20b": "gpt-oss-20b",
    "Qwen/Qwen3-32B-FP8": "Qwen3-32B",
    "Qwen/Qwen3-235B-A22B": "Qwen3-235B-A22B",
    "mistralai/Mixtral-8x7B-Instruct-v0.1": "Mixtral 8x7B",
}
OTHERS = (
    "",
    "meta-llama/Llama-3.2-3B",
    "nvidia/Llama-3.1-Nemotron-70B-Instruct",
    "deepseek-ai/DeepSeek-V3.2",
    "deepseek-ai/DeepSeek-R1-0528-Qwen3-8B",
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B",
    "Qwen/Qwen3-235B-A22B-Instruct-2507",
    "mistralai/Mixtral-8x22B-v0.1",
)


@pytest.mark.parametrize(("name", "model"), [*SERVED.items(), *((one.model, one.model) for one in models())])
def test_served_names_find_their_model(name, model):
    found = match_model(name)
    assert found is not None
    assert found.model == model


@pytest.mark.parametrize("name", OTHERS)
def test_other_models_stay_unknown(name):
    assert match_model(name) is None


@pytest.mark.parametrize(("name", "rows"), [("models.csv", models), ("nodes.csv", nodes)])
def test_every_row_is_complete_and_named_once(name, rows):
    with files("core.hardware").joinpath(name).open(encoding="utf-8") as file:
        header, *lines = csv.reader(file, strict=True)
    assert {len(line) for line in lines} == {len(header)}
    assert len({(line[0], line[1]) for line in lines}) == len(lines) == len(rows())


@pytest.mark.parametrize("shape", models(), ids=lambda shape: shape.model)
def test_sizes_of_a_model_fit_together(shape: ModelShape):
    assert shape.source
    kept = shape.embedding_parameters + shape.wide_parameters
    assert shape.wide_parameters < shape.active_parameters <= shape.parameters - shape.embedding_parameters
    assert kept < 0.2 * shape.parameters
    assert (shape.windowed_layers == 0) == (shape.window_tokens == 0)
    assert shape.windowed_layers < shape.layers
    assert shape.kv_values_per_head in (128, 256, 576)
    assert 4_096 <= shape.context_tokens <= 163_840


@pytest.mark.parametrize(
    ("model", "billions", "active_billions"),
    [  # as the model cards round them; of a dense model all but the embedding is active
        ("DeepSeek-R1", 671.0, 36.6),
        ("gpt-oss-120b", 116.83, 5.13),
        ("gpt-oss-20b", 20.91, 3.61),
        ("Llama 3.1 405B", 405.9, 403.8),
        ("Llama 2 70B", 69.0, 68.7),
    ],
)
def test_parameters_are_those_of_the_model_card(model, billions, active_billions):
    shape = match_model(model)
    assert shape is not None
    assert shape.parameters / 1e9 == pytest.approx(billions, abs=0.05)
    assert shape.active_parameters / 1e9 == pytest.approx(active_billions, abs=0.05)


def test_nodes_are_of_accelerators_in_the_catalogue():
    known = {(one.vendor, one.model) for one in accelerators()}
    assert set(nodes()) <= known
    assert all(node.accelerators >= 1 and node.source for node in nodes().values())


def test_a_card_comes_in_no_node_of_its_own():
    sizes = {one.model: node_of(one) for one in accelerators()}
    assert sizes["H100 PCIe"] is None
    assert sizes["H100 SXM"] is not None
    assert sizes["H100 SXM"].accelerators == 8
