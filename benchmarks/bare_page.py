"""What no page with charts can be faster than: a heading, a number, two charts and a table, by Streamlit alone."""

from __future__ import annotations

import altair as alt
import pandas as pd
import streamlit as st

ROWS = 50

st.title("Bare")
st.metric("rows", ROWS)
frame = pd.DataFrame({"x": range(ROWS), "y": range(ROWS)})
points = alt.Chart(frame).encode(x="x:Q", y="y:Q")
for column, chart in zip(st.columns(2), (points.mark_line(), points.mark_bar()), strict=True):
    column.altair_chart(chart)
st.dataframe(frame)
