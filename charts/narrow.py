"""Data as narrow as a picture needs: what is sent to a browser for thousands of marks."""

from __future__ import annotations

from collections.abc import Hashable

import pandas as pd
import pyarrow as pa

INSTANTS = ["at"]
"""Columns that ``Span.wall`` made: milliseconds, which need all their digits."""


def narrow(frame: pd.DataFrame) -> pd.DataFrame:
    """The same with numbers of seven digits, and every text once; instants stay as they are."""
    return pd.DataFrame({name: _narrow(name, column) for name, column in frame.items()}, copy=False)


def _narrow(name: Hashable, column: pd.Series) -> pd.Series:
    if column.dtype == "float64":
        return column if name in INSTANTS else column.astype("float32")
    return column.astype("category") if column.dtype in ("object", "str") else column


def as_arrow(frame: pd.DataFrame) -> bytes:
    """A frame as an Arrow stream of its columns alone: what pandas adds of itself is often more than the data."""
    table = pa.table({name: pa.array(column, from_pandas=True) for name, column in frame.items()})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())
