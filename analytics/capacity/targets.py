"""What was measured beside plans, and how many accelerators that makes for an output asked for."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from analytics.capacity.demand import Term
from analytics.capacity.output import Measured
from analytics.capacity.plans import Plan
from core.language import _
from core.texts import text


@dataclass(frozen=True, slots=True)
class Target:
    """Accelerators that give the output asked for, going by what was measured; ``None``: nothing was, or does not fit.

    They are whole copies of the model, so often a few more than the rate alone asks for.
    """

    accelerators: int | None = None
    terms: tuple[Term, ...] = ()


def beside(plans: Iterable[Plan], measured: Iterable[Measured]) -> list[Plan]:
    """The same plans with what was measured of their model on their accelerator."""
    rows = tuple(measured)
    return [
        replace(
            one,
            measured=tuple(row for row in rows if (row.model, row.accelerator) == (one.model, one.accelerator.model)),
        )
        for one in plans
    ]


def towards(one: Plan, tokens_per_second: float) -> Target:
    """How many accelerators give an output (tokens/s), if they work as fast as those that were measured."""
    if one.layout is None or not one.measured:
        return Target()
    size, rate = one.layout.accelerators, one.measured[0].tokens_per_second_per_accelerator
    copies = math.ceil(tokens_per_second / (rate * size))
    count = copies * size
    arithmetic = text(
        _("⌈{wanted} tokens/s / ({rate} tokens/s × {size})⌉ × {size} in each copy"),
        wanted=round(tokens_per_second),
        rate=round(rate, 1),
        size=size,
    )
    return Target(
        count,
        (
            Term(_("measured output of an accelerator"), rate, "tokens/s", one.measured[0].basis),
            Term(_("accelerators for the output asked for"), count, "accelerators", arithmetic),
        ),
    )
