"""What a model asks of memory, whatever the accelerator: weights, the KV cache of all requests, and the arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

from analytics.formulas import capacity
from core.hardware.planning import ModelShape, Precision
from core.language import _
from core.texts import Text, text


@dataclass(frozen=True, slots=True)
class Term:
    """One line of the arithmetic: what it is, its value in ``unit``, and how it came about. ``None``: unknown.

    The name is marked for translation; ``str`` of the arithmetic says it.
    """

    name: str
    value: float | None
    unit: str
    arithmetic: Text


@dataclass(frozen=True, slots=True)
class Demand:
    """What all types are asked to hold (B)."""

    model: ModelShape
    concurrency: int
    weight_bytes: float
    active_weight_bytes: float
    kv_bytes: float
    terms: tuple[Term, ...]

    @classmethod
    def of(
        cls, model: ModelShape, precision: Precision, context_tokens: int, concurrency: int, kv_precision: Precision
    ) -> Demand:
        """What so many requests of so many tokens ask for at once, each with its KV cache."""
        wide = model.embedding_parameters + model.wide_parameters
        weights = capacity.weight_bytes(model.parameters, wide, precision)
        token = capacity.kv_bytes_per_token(model.layers, model.kv_heads, model.kv_values_per_head, kv_precision)
        cached = capacity.cached_tokens(context_tokens, model.layers, model.windowed_layers, model.window_tokens)
        kv = concurrency * cached * token
        narrow_bytes, kv_value_bytes = capacity.bytes_per_value(precision), capacity.bytes_per_value(kv_precision)
        wide_bytes = capacity.weight_bytes(1, 1, precision)
        return cls(
            model=model,
            concurrency=concurrency,
            weight_bytes=weights,
            active_weight_bytes=capacity.weight_bytes(model.active_parameters, model.wide_parameters, precision),
            kv_bytes=kv,
            terms=(
                Term(
                    _("weights"),
                    weights,
                    "B",
                    text(
                        _("{narrow} parameters × {narrow_bytes} B + {wide} × {wide_bytes} B"),
                        narrow=model.parameters - wide,
                        narrow_bytes=narrow_bytes,
                        wide=wide,
                        wide_bytes=wide_bytes,
                    ),
                ),
                Term(
                    _("KV cache of a token"),
                    token,
                    "B",
                    text(
                        _("{layers} layers × {heads} KV heads × {values} values × {value_bytes} B"),
                        layers=model.layers,
                        heads=model.kv_heads,
                        values=model.kv_values_per_head,
                        value_bytes=kv_value_bytes,
                    ),
                ),
                Term(
                    _("KV cache of all requests"),
                    kv,
                    "B",
                    text(
                        _("{requests} requests × {tokens} tokens (mean of the layers) × {token_bytes} B"),
                        requests=concurrency,
                        tokens=round(cached),
                        token_bytes=round(token),
                    ),
                ),
            ),
        )
