"""What a capacity plan needs to know of models and of nodes: two CSV files, each row with its origin.

Sizes are those of a model's own ``config.json``; parameters are counted from them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache

from core.hardware.catalogue import AcceleratorModel, rows


class Precision(StrEnum):
    """How a number is stored."""

    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"
    FP8 = "fp8"
    INT8 = "int8"
    MXFP4 = "mxfp4"
    INT4 = "int4"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """The sizes of one language model.

    Attributes:
        active_parameters: that are read for one token. The input embedding is not among them, it is looked up.
        wide_parameters: that keep at least 16 bits when the others are quantized; the input embedding does too and
            is counted apart.
        windowed_layers: of all layers, those that see the last ``window_tokens`` only.
        kv_heads: that are cached in each layer; 1 where all heads share a latent (MLA).
        kv_values_per_head: cached for one token in one layer: key and value, or the latent, which serves as both.
        precision: in which the weights are published.
        context_tokens: most that one request may hold, prompt and answer together.
    """

    vendor: str
    model: str
    name_pattern: re.Pattern[str]
    parameters: int
    active_parameters: int
    embedding_parameters: int
    wide_parameters: int
    layers: int
    windowed_layers: int
    window_tokens: int
    kv_heads: int
    kv_values_per_head: int
    precision: Precision
    context_tokens: int
    source: str
    notes: str


@dataclass(frozen=True, slots=True)
class Node:
    """How many accelerators of one kind a published machine has."""

    accelerators: int
    source: str
    notes: str


def match_model(served_name: str) -> ModelShape | None:
    """The model that a server says it serves (``meta-llama/Llama-3.3-70B-Instruct``); ``None`` unless one row fits."""
    found = [one for one in models() if one.name_pattern.search(served_name)]
    return found[0] if len(found) == 1 else None


def node_of(accelerator: AcceleratorModel) -> Node | None:
    """The machine an accelerator comes in; ``None`` for a card, of which a server has as many as somebody put in."""
    return nodes().get((accelerator.vendor, accelerator.model))


@cache
def models() -> tuple[ModelShape, ...]:
    """Every row of ``models.csv``."""
    return tuple(_model(row) for row in rows("models.csv"))


@cache
def nodes() -> Mapping[tuple[str, str], Node]:
    """Every row of ``nodes.csv``, by the accelerator's vendor and model."""
    return {
        (row["vendor"], row["model"]): Node(int(row["accelerators"]), row["source"], row["notes"])
        for row in rows("nodes.csv")
    }


def _model(row: Mapping[str, str]) -> ModelShape:
    return ModelShape(
        vendor=row["vendor"],
        model=row["model"],
        name_pattern=re.compile(row["name_pattern"]),
        parameters=int(row["parameters"]),
        active_parameters=int(row["active_parameters"]),
        embedding_parameters=int(row["embedding_parameters"]),
        wide_parameters=int(row["wide_parameters"]),
        layers=int(row["layers"]),
        windowed_layers=int(row["windowed_layers"]),
        window_tokens=int(row["window_tokens"] or 0),
        kv_heads=int(row["kv_heads"]),
        kv_values_per_head=int(row["latent_dim"]) if row["latent_dim"] else 2 * int(row["head_dim"]),
        precision=Precision(row["precision"]),
        context_tokens=int(row["context_tokens"]),
        source=row["source"],
        notes=row["notes"],
    )
