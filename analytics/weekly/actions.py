"""What could be done about wastes, what that takes, and what it could be worth."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from analytics.wastes.waste import Kind, Waste
from analytics.weekly.summary import Action, Effort

EFFORTS: Mapping[Kind, Effort] = {
    Kind.PARKED: Effort("S", 0.5, 2.0, "cold_start"),
    Kind.FREE: Effort("M", 2.0, 8.0, "none"),
    Kind.SPARE_REPLICA: Effort("S", 0.5, 2.0, "peaks"),
    Kind.TROUGH: Effort("M", 2.0, 8.0, "cold_start"),
    Kind.LOW_CACHE: Effort("M", 4.0, 16.0, "none"),
    Kind.WRONG_TIER: Effort("L", 16.0, 40.0, "other_path"),
    Kind.COMMITMENT: Effort("M", 2.0, 8.0, "none"),
    Kind.IDLE_POWER: Effort("S", 0.5, 2.0, "wake_up"),
    Kind.ERRORS: Effort("M", 4.0, 16.0, "none"),
    Kind.DEAR_HOURS: Effort("M", 2.0, 8.0, "later"),
}
"""Project rule; nobody measured them."""


def actions(wastes: Iterable[Waste]) -> Iterator[Action]:
    """Wastes that acting on could save cash or free capacity, dearest first."""
    for one in wastes:
        saving = one.cash_saving_usd
        if saving is not None and saving[0] >= 0 and (saving[1] > 0 or one.freed_gpu_hours > 0):
            yield Action(one, saving, one.freed_gpu_hours, EFFORTS[one.kind])
