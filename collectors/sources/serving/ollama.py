"""Ollama has no metrics page. It tells which models are loaded, and how much accelerator memory each of them holds.

That answer, JSON, is rewritten into lines of a metrics page. Tokens, requests and latencies stay unknown.
"""

from __future__ import annotations

import json

from collectors.sources.serving.engine import Alias, Engine, Pointer
from core.errors import CollectorError

_MEMORY = "ollama:model_memory_bytes"
_MAX_MODELS = 1000


def _page(answer: bytes) -> bytes:
    """The lines that say what ``/api/ps`` said.

    Raises:
        CollectorError: it is no such answer.
    """
    try:
        models = json.loads(answer)["models"][:_MAX_MODELS]
        lines = [f'{_MEMORY}{{model_name="{_escaped(model["model"])}"}} {int(model["size_vram"])}' for model in models]
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as exc:
        raise CollectorError("not an answer of Ollama") from exc
    return "\n".join([f"# HELP {_MEMORY} Accelerator memory of a loaded model.", *lines]).encode(errors="replace")


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


OLLAMA = Engine(
    name="Ollama",
    prefixes=("ollama:",),
    path="/api/ps",
    rewrite=_page,
    quantities={"model_memory_bytes": (Alias((_MEMORY,)),)},
    version=(Pointer("/api/version", ("version",)),),
)
