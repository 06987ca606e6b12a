"""When things existed: from their first sign of life to their last account."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from storage import queries


def stretches_there(
    entities: pd.DataFrame, ids: Sequence[int], until_ms: Mapping[int, int], edges_ms: Sequence[int]
) -> pd.DataFrame:
    """A row for every stretch in which a thing existed; silent ones between its first sign of life and its last count.

    Args:
        entities: ``queries.entities``, by entity_id.
        ids: of the things.
        until_ms: ``queries.accounted_until``; what has no account was never there.
        edges_ms: ascending (Unix ms); a stretch goes from one to the next.

    Returns:
        entity_id, start_ms (of the stretch), there_ms.
    """
    edges = np.asarray(edges_ms, dtype="int64")
    things = np.asarray(ids, dtype="int64")
    first = queries.epoch_ms(entities.loc[things, "first_seen_at"]).to_numpy()
    last = np.array([until_ms.get(int(i), 0) for i in things], dtype="int64")
    there = np.minimum(last[:, None], edges[1:]) - np.maximum(first[:, None], edges[:-1])
    thing, stretch = np.nonzero(there > 0)
    return pd.DataFrame({"entity_id": things[thing], "start_ms": edges[stretch], "there_ms": there[thing, stretch]})
