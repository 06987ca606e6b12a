"""Inference servers that are running: their metrics pages, read the same way whatever the engine.

A new engine is one file like ``vllm.py`` and its name in ``ENGINES``.
"""

from __future__ import annotations

from collectors.sources.serving.engine import Engine
from collectors.sources.serving.llamacpp import LLAMACPP
from collectors.sources.serving.vllm import VLLM

ENGINES: tuple[Engine, ...] = (VLLM, LLAMACPP)
"""In the order in which a page is compared with them."""
