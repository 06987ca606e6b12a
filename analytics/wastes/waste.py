"""A waste as the summary lists it, and what the tests claim before it is priced."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from analytics.formulas.energy import Quality
from analytics.ledger import LINES

Floats = NDArray[np.float64]
Integers = NDArray[np.integer[Any]]

DIRECT = LINES[:-1]
"""Lines of the bill that a device brings with it; overhead does not end when a device does."""


class Kind(StrEnum):
    """The ten kinds, in the order of their tests."""

    PARKED = "parked model"
    FREE = "free accelerator"
    SPARE_REPLICA = "over-allocated replica"
    TROUGH = "night or weekend trough"
    LOW_CACHE = "low cache use"
    WRONG_TIER = "wrong tier"
    COMMITMENT = "unused commitment"
    IDLE_POWER = "power without tokens"
    ERRORS = "errors and retries"
    DEAR_HOURS = "dear hours"


class Figure(NamedTuple):
    """A figure that a waste shows for itself; its name ends with its unit. ``None``: unknown."""

    name: str
    value: float | None


class Stretch(NamedTuple):
    """Hours of a device on end, from ``start_ms`` up to, not including, ``end_ms`` (Unix ms)."""

    device_id: int
    start_ms: int
    end_ms: int


class Commitment(NamedTuple):
    """What a contract costs over the window (USD), and what part (0 to 1) of what it promises was used."""

    name: str
    used_ratio: float | None
    amortised_usd: float | None
    quality: Quality = Quality.DERIVED


@dataclass(frozen=True, slots=True, kw_only=True)
class Waste:
    """One row of the list.

    cost_usd: paid in the window for what is wasted, overhead left out; ``None`` for a ``reason`` only.
    cash_saving_usd: lowest and highest amount that would not be paid: rent and electricity, if the hardware is given
        back or switched off; what was spent on own hardware, hosting or a commitment is spent. Negative: acting
        costs more cash than it spares. ``None``: unknown.
    freed_gpu_hours: hours of accelerators that could do other work instead.
    stretches: the hours that it owns; no other waste has them.
    """

    kind: Kind
    what: str
    hosts: tuple[str, ...]
    sites: tuple[str, ...]
    deployment_ids: tuple[int, ...]
    stretches: tuple[Stretch, ...]
    evidence: tuple[Figure, ...]
    cost_usd: float | None
    cash_saving_usd: tuple[float, float] | None
    freed_gpu_hours: float
    quality: Quality
    reason: str = ""

    @property
    def key(self) -> tuple[Kind, str, tuple[str, ...]]:
        """What makes it the same waste in another week."""
        return self.kind, self.what, self.sites

    @property
    def device_ids(self) -> tuple[int, ...]:
        """Devices whose hours it owns."""
        return tuple(sorted({one.device_id for one in self.stretches}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What a test says is wasted: parts (0 to 1) of some lines of some rows of the ledger, less what remains to pay."""

    kind: Kind
    what: str
    rows: Integers
    parts: Floats
    lines: Sequence[str] = DIRECT
    less_usd: float = 0.0
    deployment_ids: tuple[int, ...] = ()
    evidence: tuple[Figure, ...] = ()
