"""What an accelerator does at each of its samples: works, is held without work, or is held by nobody."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.integer[Any]]

LOOKBACK_MS = 300_000  # a lull shorter than this is still work
BUSY_RATIO = 0.01  # under this for the whole look-back, without server metrics: not working


class State(StrEnum):
    """``off`` is what is left of a stretch of time: no sample."""

    ACTIVE = "active"
    PARKED = "parked"
    FREE = "free"
    OFF = "off"


def recently(at_ms: Integers, happened_ms: Integers, lookback_ms: int = LOOKBACK_MS) -> NDArray[np.bool_]:
    """Whether something happened at each instant or up to ``lookback_ms`` before it. Both arguments ascend."""
    if not len(happened_ms):
        return np.zeros(len(at_ms), "bool")
    last = np.searchsorted(happened_ms, at_ms, side="right") - 1
    found: NDArray[np.bool_] = (last >= 0) & (at_ms - happened_ms[np.maximum(last, 0)] <= lookback_ms)
    return found


def accelerator_states(
    at_ms: Integers,
    processes: Floats,
    utilization: Floats,
    serving: NDArray[np.bool_],
    working: NDArray[np.bool_],
) -> NDArray[np.str_]:
    """The state of one accelerator at each of its samples.

    Args:
        at_ms: instants, ascending (Unix ms).
        processes: how many hold memory on it, NaN where not read; the last reading within the look-back counts.
        utilization: busy time, 0 to 1, NaN where unknown.
        serving: whether a deployment that runs on it has reported within the look-back.
        working: whether one of those had requests or tokens within it.

    Returns:
        ``active``, ``parked`` or ``free``: by the server's own metrics where it has one, else by busy time.
    """
    asked = at_ms[np.isfinite(processes)]
    nobody = np.append(processes[np.isfinite(processes)], np.nan)[np.searchsorted(asked, at_ms, side="right") - 1] == 0
    free = nobody & recently(at_ms, asked)
    known = np.isfinite(utilization)
    idle = recently(at_ms, at_ms[known]) & ~recently(at_ms, at_ms[known & (utilization >= BUSY_RATIO)])
    parked = np.where(serving, ~working, idle)
    states: NDArray[np.str_] = np.where(
        free, State.FREE.value, np.where(parked, State.PARKED.value, State.ACTIVE.value)
    )
    return states
