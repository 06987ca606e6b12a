"""The dashboard: ``streamlit run app.py``. What it draws is in ``pages/shared/dashboard.py``."""

from __future__ import annotations

import gc
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from altair.utils.schemapi import disable_debug_mode
from starlette.middleware import Middleware
from streamlit import App

from core import heap
from pages.shared.document import Document
from pages.shared.files import Files

heap.give_back()  # first, so that it holds for all that comes
disable_debug_mode()  # of Altair: tests check every part of a chart against its schema, not each visitor
gc.set_threshold(20_000, 20, 20)  # else a look through all objects, of 0.1 s, falls into every other page
sys.setswitchinterval(0.001)  # while a page computes, each of the many files that browsers ask for waits for this long


@asynccontextmanager
async def ready(_: App) -> AsyncIterator[None]:
    """Before the server listens."""
    from pages.shared.rehearsal import rehearse  # here, where Streamlit can keep what it reads

    rehearse()
    gc.freeze()  # none of that is garbage, ever
    yield


app = App("pages/shared/dashboard.py", lifespan=ready, middleware=[Middleware(Files), Middleware(Document)])
