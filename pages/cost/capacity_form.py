"""What a plan of capacity shall hold: a form that is kept in the address."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass

import streamlit as st

from core.hardware.planning import ModelShape, Precision, models
from core.language import _, say
from pages.shared.choice import selection

OWN, USUAL = _("own numbers"), "usual"
KV_PRECISIONS = (Precision.BF16, Precision.FP8, Precision.INT8)
DEFAULT_MODEL = "Llama 3.3 70B"
BILLION = 10**9


@dataclass(frozen=True, slots=True)
class Asked:
    """What the form asks for; ``target_tokens_per_second`` is of output, if any."""

    model: ModelShape
    precision: Precision
    kv_precision: Precision
    context_tokens: int
    requests: int
    target_tokens_per_second: float | None


def form() -> None:
    """What to hold, kept in the address."""
    with st.container(border=True):
        left, *right = st.columns([2, 1, 1])
        with left:
            selection(
                say("Model"),
                [OWN, *(one.model for one in models())],
                "plan",
                DEFAULT_MODEL,
                help=say("Sizes from each model's own config.json, or your own numbers."),
                format_func=lambda name: say(OWN) if name == OWN else name,
            )
        if st.session_state["plan"] == OWN:
            _own_form()
        with right[0]:
            selection(
                say("Weights"),
                [USUAL, *Precision],
                "weights",
                USUAL,
                help=say("How weights are stored. As usual: as the model was published, bf16 for own numbers."),
                format_func=lambda name: _usual() if name == USUAL else str(name),
            )
        with right[1]:
            st.selectbox(
                say("KV cache"),
                KV_PRECISIONS,
                format_func=str,
                key="kv",
                bind="query-params",
                help=say("Servers keep it at 16 bits unless told otherwise."),
            )
        for place, (label, key, value, most, why) in zip(
            st.columns(3),
            (
                (say("Context (tokens)"), "context", 8_192, 10**8, say("Of each request, prompt and answer together.")),
                (
                    say("Requests at once"),
                    "requests",
                    16,
                    10**6,
                    say("All of them are in the KV cache at the same time."),
                ),
                (
                    say("Output wanted (tokens/s)"),
                    "target",
                    None,
                    10**9,
                    say("Of all requests together. May stay empty."),
                ),
            ),
            strict=True,
        ):
            with place:
                _number(label, key, value, most, why)


def _usual() -> str:
    return say("as usual: {precision}", precision=str(_shape().precision))


def _own_form() -> None:
    active = say("Read for one token; empty: all, as in a dense model.")
    latent = say("Half the latent for MLA, which is key and value in one.")
    fields = (
        (say("Parameters (10⁹)"), "parameters", 70.0, 1e5, say("All of them.")),
        (say("Active (10⁹)"), "active", None, 1e5, active),
        (say("Layers"), "layers", 80, 10**3, ""),
        (say("KV heads"), "heads", 8, 10**4, say("Cached in each layer. One for a latent (MLA).")),
        (say("Head dimension"), "head_dim", 128, 10**5, latent),
    )
    for place, (label, key, value, most, why) in zip(st.columns(len(fields)), fields, strict=True):
        with place:
            _number(label, key, value, most, why)


def _number(label: str, key: str, value: float | None, most: float, why: str) -> None:
    least = 0.01 if isinstance(most, float) else 1
    st.number_input(
        label,
        min_value=least,
        max_value=most,
        value=value,
        key=key,
        bind="query-params",
        required=value is not None,
        help=why or None,
        placeholder="",
    )


def _shape() -> ModelShape:
    """The model that the form names."""
    state = st.session_state
    if state["plan"] != OWN:
        return next(one for one in models() if one.model == state["plan"])
    parameters = round(state["parameters"] * BILLION)
    return ModelShape(
        vendor="",
        model=OWN,
        name_pattern=re.compile("(?!)"),
        parameters=parameters,
        active_parameters=round((state["active"] or state["parameters"]) * BILLION),
        embedding_parameters=0,
        wide_parameters=0,
        layers=state["layers"],
        windowed_layers=0,
        window_tokens=0,
        kv_heads=state["heads"],
        kv_values_per_head=2 * state["head_dim"],
        precision=Precision.BF16,
        context_tokens=sys.maxsize,
        source="",
        notes="",
    )


def asked() -> Asked:
    """What the form asks for now."""
    state, shape = st.session_state, _shape()
    return Asked(
        model=shape,
        precision=shape.precision if state["weights"] == USUAL else Precision(state["weights"]),
        kv_precision=Precision(state["kv"]),
        context_tokens=state["context"],
        requests=state["requests"],
        target_tokens_per_second=state["target"],
    )
