"""When things existed: from their first sign of life to their last account."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray


def there_ms(first_seen_ms: pd.Series[int], until_ms: Mapping[int, int], edges_ms: Sequence[int]) -> NDArray[np.int64]:
    """For how long things existed; silent ones between their first sign of life and their last count.

    Args:
        first_seen_ms: ``queries.first_seen_ms``, of the things.
        until_ms: ``queries.accounted_until``; what has no account was never there.
        edges_ms: ascending (Unix ms); a stretch goes from one to the next.

    Returns:
        A row per thing and a column per stretch (ms).
    """
    edges = np.asarray(edges_ms, dtype="int64")
    last = np.array([until_ms.get(i, 0) for i in first_seen_ms.index.tolist()], dtype="int64")
    first = first_seen_ms.to_numpy("int64")
    there: NDArray[np.int64] = np.minimum(last[:, None], edges[1:]) - np.maximum(first[:, None], edges[:-1])
    return there.clip(min=0)


def stretches_there(
    first_seen_ms: pd.Series[int], until_ms: Mapping[int, int], edges_ms: Sequence[int]
) -> pd.DataFrame:
    """``there_ms``, a row for every stretch in which a thing existed.

    Returns:
        entity_id, start_ms (of the stretch), there_ms.
    """
    there = there_ms(first_seen_ms, until_ms, edges_ms)
    thing, stretch = np.nonzero(there)
    ids, edges = first_seen_ms.index.to_numpy("int64"), np.asarray(edges_ms, dtype="int64")
    return pd.DataFrame({"entity_id": ids[thing], "start_ms": edges[stretch], "there_ms": there[thing, stretch]})
