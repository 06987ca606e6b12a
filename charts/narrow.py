"""Data as narrow as a picture needs: what is sent to a browser for thousands of marks."""

from __future__ import annotations

import pandas as pd

INSTANTS = ["at"]
"""Columns that ``Span.wall`` made: milliseconds, which need all their digits."""


def narrow(frame: pd.DataFrame) -> pd.DataFrame:
    """The same with numbers of seven digits, and every text once; instants stay as they are."""
    numbers = frame.select_dtypes("float64").columns.difference(INSTANTS)
    texts = frame.select_dtypes(["object", "str"]).columns
    return frame.astype({**dict.fromkeys(numbers, "float32"), **dict.fromkeys(texts, "category")})
