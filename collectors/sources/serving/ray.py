"""Ray Serve LLM: vLLM's metrics on the page of a node's Ray agent, with underscores where vLLM has colons.

Replicas begin and end while the page stays, and their series come and go with them (label ``WorkerId``). Counters are
exported with the first event only, by older versions of Ray without ``_total``.
"""

from __future__ import annotations

from dataclasses import replace

from collectors.sources.serving.engine import Adapters, Alias, Engine, Histogram, Timing
from collectors.sources.serving.vllm import VLLM
from core.readings import Latency


def _name(vllm_name: str) -> str:
    return f"ray_{vllm_name.replace(':', '_')}"


def _aliases(vllm_aliases: tuple[Alias, ...]) -> tuple[Alias, ...]:
    """Under its name today and its older one; how many tokens a block has, Ray's pages do not tell."""
    renamed = [
        replace(alias, series=tuple(map(_name, alias.series)))
        for alias in vllm_aliases
        if not any("gpu_prefix_cache" in name for name in alias.series)
    ]
    older = [
        replace(alias, series=tuple(name.removesuffix("_total") for name in alias.series))
        for alias in renamed
        if any(name.endswith("_total") for name in alias.series)
    ]
    return (*renamed, *older)


def _timings(vllm_timings: tuple[Timing, ...]) -> tuple[Timing, ...]:
    return tuple(replace(timing, name=_name(timing.name)) for timing in vllm_timings if isinstance(timing, Histogram))


RAY = Engine(
    name="Ray Serve LLM",
    prefixes=("ray_vllm_",),
    quantities={quantity: _aliases(aliases) for quantity, aliases in VLLM.quantities.items()},
    histograms={kind: _timings(timings) for kind, timings in VLLM.histograms.items()},
    adapters=Adapters("ray_vllm_lora_requests_info", ("running_lora_adapters", "waiting_lora_adapters")),
    ignored=("ray_vllm_cache_config_info", *map(_name, VLLM.ignored)),
    optional=frozenset(VLLM.quantities) - {"running_requests", "waiting_requests", "generation_tokens_total"}
    | (frozenset(Latency) - {Latency.TTFT}),
    part_label="WorkerId",
)
