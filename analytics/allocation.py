"""Who used which device for how long, and how much energy that took.

A window is cut wherever an assignment begins or ends. In each piece the deployments on a device share
its hours and energy by their weighted tokens of the whole window (equal parts when none had tokens).
Energy and price of the rest of a host (CPU packages, the machine itself) are cut into equal parts: one for
each accelerator that was seen in the window, and one for what runs on the CPUs, where something does.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from analytics.efficiency import WindowEnergy, energy_samples, window_energy
from analytics.formulas.cost import shares, weighted_tokens
from analytics.formulas.energy import Quality, worst
from analytics.serving import are_gateways
from core.language import _
from storage import queries
from storage.engine import Store

MS_PER_HOUR = 3_600_000
TOKEN_COUNTERS = ["prompt_tokens_total", "cached_prompt_tokens_total", "generation_tokens_total"]
COUNTERS = [*TOKEN_COUNTERS, "succeeded_requests_total"]
ACCELERATOR, WITH_PACKAGES = _("accelerator"), _("accelerator and its part of the CPU packages")
PACKAGES, PART_OF_PACKAGES = _("CPU packages"), _("a part of the CPU packages")


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """One deployment's part of one device during one piece of a window."""

    deployment_id: int
    target_id: int
    target: str
    model: str
    family: str
    host: str
    host_parts: int
    origin: str
    hours: float
    share: float
    joules: float | None  # already multiplied by share
    energy_label: str
    scope: str
    quality: Quality
    coverage_ratio: float


@dataclass(frozen=True, slots=True)
class Window:
    """All that is read once: who exists, who ran where, what was consumed."""

    start_ms: int
    end_ms: int
    entities: pd.DataFrame
    counts: pd.DataFrame
    assignments: pd.DataFrame
    samples: dict[int, pd.DataFrame]

    @classmethod
    def read(cls, engine: Store, start_ms: int, end_ms: int) -> Window:
        """Read a window of the store; gateways use nothing that their tokens could be a key to."""
        entities = queries.entities(engine).set_index("entity_id")
        joined = queries.assignments(engine, start_ms, end_ms)
        raw = [energy_samples(engine, family, None, start_ms, end_ms) for family in ("accelerator", "cpu")]
        return cls(
            start_ms,
            end_ms,
            entities,
            queries.increases(engine, "deployment", COUNTERS, None, start_ms, end_ms).set_index("entity_id"),
            joined[~joined["deployment_id"].isin(entities.index[are_gateways(entities)])],
            {int(str(entity_id)): one for frame in raw for entity_id, one in frame.groupby("entity_id")},
        )

    def entity(self, entity_id: int) -> pd.Series[Any]:
        """What is known of an entity."""
        return self.entities.loc[[entity_id]].iloc[0]

    def count(self, deployment_id: int, counter: str) -> float | None:
        """Increase of a counter; ``None`` when the server does not tell."""
        if deployment_id not in self.counts.index:
            return None
        value = float(self.counts[counter].loc[deployment_id])
        return value if np.isfinite(value) else None


def uses(window: Window, output_weight_ratio: float) -> list[Use]:
    """Every use of a device in the window."""
    return [
        use
        for target_id, on_target in window.assignments.groupby("target_id")
        for use in _uses_of(window, int(str(target_id)), on_target, output_weight_ratio)
    ]


def _uses_of(window: Window, target_id: int, on_target: pd.DataFrame, output_weight_ratio: float) -> Iterator[Use]:
    target = window.entity(target_id)
    host = str(target["host"])
    parts = host_parts(window, host)
    begins = queries.epoch_ms(on_target["valid_from_at"]).clip(lower=window.start_ms)
    ends = queries.epoch_ms(on_target["valid_to_at"].fillna(pd.Timestamp(window.end_ms, unit="ms", tz="UTC"))).clip(
        upper=window.end_ms
    )
    cuts = sorted({*begins, *ends})
    for start_ms, end_ms in itertools.pairwise(cuts):
        running = on_target[(begins <= start_ms) & (ends >= end_ms)]
        if running.empty:
            continue
        energy, scope = _energy(window, target_id, parts, start_ms, end_ms)
        weights = [_weight(window, int(i), output_weight_ratio) for i in running["deployment_id"]]
        for row, share in zip(running.to_dict("records"), shares(weights), strict=True):
            yield Use(
                deployment_id=int(row["deployment_id"]),
                target_id=target_id,
                target=_title(target),
                model=str(target["labels"].get("model", "")),
                family=str(target["family"]),
                host=host,
                host_parts=parts,
                origin=str(row["origin"]),
                hours=(end_ms - start_ms) / MS_PER_HOUR,
                share=share,
                joules=None if energy.joules is None else energy.joules * share,
                energy_label=energy.label,
                scope=scope,
                quality=energy.quality,
                coverage_ratio=energy.coverage_ratio,
            )


def _title(target: pd.Series[Any]) -> str:
    labels: dict[str, str] = target["labels"]
    if target["family"] == "host":
        return f"CPUs of {target['key']}"
    index = f" {labels['index']}" if "index" in labels else ""
    return f"{labels.get('model', 'accelerator')}{index} on {target['host']}"


def host_parts(window: Window, host: str) -> int:
    """Into how many parts the rest of a host is cut. Slices of a card are not counted beside it."""
    frame = window.entities
    here = frame[(frame["family"] == "accelerator") & (frame["host"] == host) & frame["parent_key"].isna()]
    cards = sum(int(i) in window.samples for i in here.index)
    on_cpus = window.assignments["target_id"].isin(frame.index[(frame["family"] == "host") & (frame["key"] == host)])
    return max(cards + bool(on_cpus.any()), 1)


def _weight(window: Window, deployment_id: int, output_weight_ratio: float) -> float:
    prompt, cached, output = (window.count(deployment_id, counter) or 0.0 for counter in TOKEN_COUNTERS)
    return weighted_tokens(max(prompt - cached, 0.0), output, output_weight_ratio)


def _energy(window: Window, target_id: int, parts: int, start_ms: int, end_ms: int) -> tuple[WindowEnergy, str]:
    """Energy of the device with its part of the host's CPU packages, and what that covers, marked for translation."""
    target = window.entity(target_id)
    sockets = window.entities[(window.entities["family"] == "cpu") & (window.entities["host"] == target["host"])]
    packages = _add([_of(window, int(i), "cpu", start_ms, end_ms) for i in sockets.index if int(i) in window.samples])
    if packages.joules is not None:
        packages = replace(packages, joules=packages.joules / parts)
    if target["family"] == "host":
        return packages, PACKAGES if parts == 1 else PART_OF_PACKAGES
    device = _of(window, target_id, "accelerator", start_ms, end_ms)
    if device.joules is None or packages.joules is None:
        return device, ACCELERATOR
    return _add([device, packages]), WITH_PACKAGES


def _of(window: Window, entity_id: int, family: str, start_ms: int, end_ms: int) -> WindowEnergy:
    samples = window.samples.get(entity_id)
    if samples is None:
        return WindowEnergy(None, "missing", Quality.MISSING, 0.0)
    return window_energy(samples, family, start_ms, end_ms)


def _add(energies: list[WindowEnergy]) -> WindowEnergy:
    """A sum is unknown when a part is; it is as good as its worst part."""
    if not energies or any(one.joules is None for one in energies):
        return WindowEnergy(None, "missing", Quality.MISSING, 0.0)
    return WindowEnergy(
        sum(one.joules or 0.0 for one in energies),
        " + ".join(sorted({one.label for one in energies})),
        worst(*(one.quality for one in energies)),
        min(one.coverage_ratio for one in energies),
    )
