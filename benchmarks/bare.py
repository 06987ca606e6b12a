"""Serves ``bare_page.py``, with all that it needs imported before."""

from __future__ import annotations

from importlib import import_module

from streamlit import App

for needed in ("altair", "pandas", "pyarrow"):
    import_module(needed)

app = App("bare_page.py")
