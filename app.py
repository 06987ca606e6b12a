"""The dashboard: ``streamlit run app.py``. What it draws is in ``pages/shared/dashboard.py``."""

from __future__ import annotations

from streamlit import App

app = App("pages/shared/dashboard.py")
