"""How close hardware comes to its peak, and what a joule and a megawatt bring.

A share of a peak means nothing without the peak: always print the precision whose peak was the denominator.
"""

from __future__ import annotations

from analytics.formulas.unknown import per, product, total

FLOPS_PER_PARAMETER_AND_TOKEN = 2  # a multiplication and an addition; attention over long contexts comes on top
WATTS_PER_MEGAWATT = 1e6


def mfu_ratio(
    active_parameters: float | None,
    tokens_per_second: float | None,
    accelerators: float | None,
    peak_flops_per_second: float | None,
) -> float | None:
    """Model FLOPs utilization of decoding: arithmetic the tokens need over what the accelerators could do.

    Args:
        active_parameters: of the model that take part in a token; fewer than all in a mixture of experts.
        tokens_per_second: output of all accelerators together.
        accelerators: how many serve the model.
        peak_flops_per_second: of one accelerator, dense, at the precision served.
    """
    done = product(FLOPS_PER_PARAMETER_AND_TOKEN, active_parameters, tokens_per_second)
    return per(done, product(accelerators, peak_flops_per_second))


def mbu_ratio(
    weight_bytes: float | None,
    kv_bytes: float | None,
    tpot_seconds: float | None,
    accelerators: float | None,
    peak_bytes_per_second: float | None,
) -> float | None:
    """Model bandwidth utilization of one decode step: bytes it must read over what the memories could give.

    Args:
        weight_bytes: of the parameters read in a step, at the precision served.
        kv_bytes: of the KV cache read in a step.
        tpot_seconds: duration of a step.
        accelerators: how many serve the model.
        peak_bytes_per_second: of one accelerator's memory.
    """
    return per(per(total(weight_bytes, kv_bytes), tpot_seconds), product(accelerators, peak_bytes_per_second))


def tokens_per_joule(tokens: float | None, joules: float | None) -> float | None:
    """What a joule brings; say which tokens, and whether the energy is of the chip, the node or the facility."""
    return per(tokens, joules)


def tokens_per_second_per_megawatt(tokens_per_second: float | None, watts: float | None) -> float | None:
    """What a megawatt brings; measured and provisioned power must not share a chart."""
    return product(per(tokens_per_second, watts), WATTS_PER_MEGAWATT)
