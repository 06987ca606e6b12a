"""Inference servers that are running: their metrics pages, read the same way whatever the engine.

A new engine is one file like ``vllm.py`` and its name in ``ENGINES``.
"""

from __future__ import annotations

from collectors.sources.serving.cerebras import CEREBRAS
from collectors.sources.serving.engine import Engine
from collectors.sources.serving.litellm import LITELLM
from collectors.sources.serving.llamacpp import LLAMACPP
from collectors.sources.serving.lmdeploy import LMDEPLOY
from collectors.sources.serving.nim import NIM
from collectors.sources.serving.ollama import OLLAMA
from collectors.sources.serving.ray import RAY
from collectors.sources.serving.sglang import SGLANG
from collectors.sources.serving.tgi import TGI
from collectors.sources.serving.triton import TRITON
from collectors.sources.serving.trtllm import TRTLLM
from collectors.sources.serving.vllm import VLLM

ENGINES: tuple[Engine, ...] = (
    VLLM,
    SGLANG,
    LLAMACPP,
    LMDEPLOY,
    TRTLLM,
    TGI,
    TRITON,
    RAY,
    LITELLM,
    OLLAMA,
    CEREBRAS,
    NIM,
)
"""In the order in which a page is compared with them: those that a prefix gives away first."""
