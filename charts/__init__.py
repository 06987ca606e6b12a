"""How a frame is drawn: tidy DataFrames in, Altair charts out. No Streamlit here."""
