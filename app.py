"""The dashboard: ``streamlit run app.py``. What it draws is in ``pages/shared/dashboard.py``."""

from __future__ import annotations

import gc
from importlib import import_module

from altair.utils.schemapi import disable_debug_mode
from streamlit import App

from core import heap

heap.give_back()  # first, so that it holds for all that comes
HEAVY = ("analytics.capacity", "analytics.compare", "analytics.what_if", "reports.weekly", "storage.spool")
for heavy in HEAVY:
    import_module(heavy)  # before the server listens, so that its first visitor does not wait for it
disable_debug_mode()  # of Altair: tests check every part of a chart against its schema, not each visitor
gc.freeze()  # none of that is garbage, ever
gc.set_threshold(20_000, 20, 20)  # else a look through all objects, of 0.1 s, falls into every other page

app = App("pages/shared/dashboard.py")
