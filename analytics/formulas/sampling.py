"""How often something was sampled, instant by instant: what tells a gap from a slower pace."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

AROUND = 15
"""Steps looked at on either side: where the pace changes, each step still has more neighbours of its own kind."""
ALIKE = 3.0
"""Steps within this factor of the median of all are of the same pace."""


def usual_intervals(at: NDArray[Any]) -> Floats:
    """The interval that is usual around each of some ascending instants, in their unit; 0 where there is but one.

    It is the median of the steps nearby, so a gap does not count as a pace, and a pace that changes is no gap.
    """
    if len(at) < 2:
        return np.zeros(len(at))
    steps = np.diff(at).astype("float64")
    median = float(np.median(steps))
    usual = np.full(len(steps), median)
    long, short = steps > ALIKE * median, steps * ALIKE < median
    odd = np.ones(len(steps), "bool") if short.any() else long  # among short steps a common one may be long
    if odd.any():
        padded = np.pad(steps, AROUND, constant_values=np.nan)
        around = np.lib.stride_tricks.sliding_window_view(padded, 2 * AROUND + 1)
        usual[odd] = np.nanmedian(around[odd], axis=1)
    return np.concatenate((usual[:1], usual))
