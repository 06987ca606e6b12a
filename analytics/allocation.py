"""Who used which device for how long, and how much energy that took.

A window is cut wherever an assignment begins or ends. In each piece the deployments on a device share
its hours and energy by their weighted tokens of the whole window (equal parts when none had tokens).
Energy and price of the rest of a host (CPU packages, the machine itself) are cut into equal parts: one for
each accelerator that was seen in the window, and one for what runs on the CPUs, where something does.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, starmap
from typing import NamedTuple

import pandas as pd

from analytics.efficiency import UNKNOWN_ENERGY, EnergySamples, WindowEnergy, energy_samples, window_energy
from analytics.formulas.cost import shares, weighted_tokens
from analytics.formulas.energy import Quality, worst
from analytics.formulas.local_time import Span
from analytics.serving import is_gateway
from core.language import _
from storage import queries
from storage.engine import Store

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


class Entity(NamedTuple):
    """What is known of a device, a host or a deployment; ``is_slice``: a part of a card that is one itself."""

    family: str
    key: str
    host: str
    labels: Mapping[str, str]
    is_slice: bool
    first_seen_ms: int


class Stay(NamedTuple):
    """The time within a window (Unix ms) for which a deployment was assigned to a device, and how that is known."""

    deployment_id: int
    origin: str
    begin_ms: int
    end_ms: int


class Piece(NamedTuple):
    """Time within a window for which the same deployments, one at least, ran on a device."""

    target_id: int
    span: Span
    running: Sequence[Stay]


@dataclass(frozen=True, slots=True)
class Window:
    """All that is read once: who exists, who ran where, what was consumed; by entity_id."""

    start_ms: int
    end_ms: int
    entities: Mapping[int, Entity]  # in the order of their hosts
    counts: Mapping[str, Mapping[int, float]]  # of each counter its increase; NaN is unknown
    stays: Mapping[int, Sequence[Stay]]  # on each device, in the order of their ids
    samples: Mapping[int, EnergySamples]

    @classmethod
    def read(cls, engine: Store, start_ms: int, end_ms: int) -> Window:
        """Read a window of the store; gateways use nothing that their tokens could be a key to."""
        counts = queries.increases(engine, "deployment", COUNTERS, None, start_ms, end_ms)
        joined = queries.assignments(engine, start_ms, end_ms)
        cards, sockets = (energy_samples(engine, family, start_ms, end_ms) for family in ("accelerator", "cpu"))
        entities = _entities(queries.entities(engine))  # read last, so that nothing read before names another
        gateways = [entity_id for entity_id, one in entities.items() if is_gateway(one.labels)]
        return cls(
            start_ms,
            end_ms,
            entities,
            {name: dict(zip(counts["entity_id"], counts[name], strict=True)) for name in COUNTERS},
            _stays(joined[~joined["deployment_id"].isin(gateways)], start_ms, end_ms),
            cards | sockets,
        )

    def count(self, deployment_id: int, counter: str) -> float | None:
        """Increase of a counter; ``None`` when the server does not tell."""
        value = self.counts[counter].get(deployment_id, math.nan)
        return value if math.isfinite(value) else None


def _entities(frame: pd.DataFrame) -> dict[int, Entity]:
    known = (frame[name] for name in ("family", "key", "host", "labels"))
    described = map(Entity, *known, frame["parent_key"].notna(), queries.epoch_ms(frame["first_seen_at"]))
    return dict(zip(frame["entity_id"], described, strict=True))


def _stays(joined: pd.DataFrame, start_ms: int, end_ms: int) -> dict[int, list[Stay]]:
    begins = queries.epoch_ms(joined["valid_from_at"]).clip(lower=start_ms)
    until = joined["valid_to_at"].fillna(pd.Timestamp(end_ms, unit="ms", tz="UTC"))
    ends = queries.epoch_ms(until).clip(upper=end_ms)
    stays: defaultdict[int, list[Stay]] = defaultdict(list)
    for target_id, *stay in zip(
        joined["target_id"], joined["deployment_id"], joined["origin"], begins, ends, strict=True
    ):
        stays[target_id].append(Stay(*stay))
    return dict(sorted(stays.items()))


def uses(window: Window, output_weight_ratio: float) -> list[Use]:
    """Every use of a device in the window."""
    pieces = list(_pieces(window))
    parts = _host_parts(window)
    # The devices of a host share its packages, and most of them over the same pieces of the window.
    packages = _packages(window, {(window.entities[one.target_id].host, one.span) for one in pieces})
    return [use for piece in pieces for use in _uses_of(window, piece, parts, packages, output_weight_ratio)]


def _pieces(window: Window) -> Iterator[Piece]:
    for target_id, stays in window.stays.items():
        cuts = sorted({at_ms for stay in stays for at_ms in (stay.begin_ms, stay.end_ms)})
        for span in starmap(Span, pairwise(cuts)):
            running = [stay for stay in stays if stay.begin_ms <= span.start_ms and stay.end_ms >= span.end_ms]
            if running:
                yield Piece(target_id, span, running)


def _host_parts(window: Window) -> Counter[str]:
    """Into how many parts the rest of each host is cut. Slices of a card are not counted beside it."""
    parts = Counter(
        one.host
        for entity_id, one in window.entities.items()
        if one.family == "accelerator" and not one.is_slice and entity_id in window.samples
    )
    targets = (window.entities[target_id] for target_id in window.stays)
    parts.update(one.key for one in targets if one.family == "host")
    return parts


def _packages(window: Window, pairs: Iterable[tuple[str, Span]]) -> dict[tuple[str, Span], WindowEnergy]:
    """Energy of all CPU packages of a host over a piece of the window, for each such pair."""
    sockets: defaultdict[str, list[EnergySamples]] = defaultdict(list)
    for entity_id, one in window.entities.items():
        if one.family == "cpu" and entity_id in window.samples:
            sockets[one.host].append(window.samples[entity_id])
    return {(host, span): _add([window_energy(one, "cpu", *span) for one in sockets[host]]) for host, span in pairs}


def _uses_of(
    window: Window,
    piece: Piece,
    host_parts: Counter[str],
    packages: Mapping[tuple[str, Span], WindowEnergy],
    output_weight_ratio: float,
) -> Iterator[Use]:
    target = window.entities[piece.target_id]
    parts = max(host_parts[target.host], 1)
    energy, scope = _energy(window, piece, packages[target.host, piece.span], parts)
    weights = [_weight(window, stay.deployment_id, output_weight_ratio) for stay in piece.running]
    for stay, share in zip(piece.running, shares(weights), strict=True):
        yield Use(
            deployment_id=stay.deployment_id,
            target_id=piece.target_id,
            target=_title(target),
            model=target.labels.get("model", ""),
            family=target.family,
            host=target.host,
            host_parts=parts,
            origin=stay.origin,
            hours=piece.span.hours,
            share=share,
            joules=None if energy.joules is None else energy.joules * share,
            energy_label=energy.label,
            scope=scope,
            quality=energy.quality,
            coverage_ratio=energy.coverage_ratio,
        )


def _title(target: Entity) -> str:
    if target.family == "host":
        return f"CPUs of {target.key}"
    index = f" {target.labels['index']}" if "index" in target.labels else ""
    return f"{target.labels.get('model', 'accelerator')}{index} on {target.host}"


def _weight(window: Window, deployment_id: int, output_weight_ratio: float) -> float:
    prompt, cached, output = (window.count(deployment_id, counter) or 0.0 for counter in TOKEN_COUNTERS)
    return weighted_tokens(max(prompt - cached, 0.0), output, output_weight_ratio)


def _energy(window: Window, piece: Piece, packages: WindowEnergy, parts: int) -> tuple[WindowEnergy, str]:
    """Energy of the device with its part of the host's CPU packages, and what that covers, marked for translation."""
    if packages.joules is not None:
        packages = replace(packages, joules=packages.joules / parts)
    if window.entities[piece.target_id].family == "host":
        return packages, PACKAGES if parts == 1 else PART_OF_PACKAGES
    samples = window.samples.get(piece.target_id)
    device = UNKNOWN_ENERGY if samples is None else window_energy(samples, "accelerator", *piece.span)
    if device.joules is None or packages.joules is None:
        return device, ACCELERATOR
    return _add([device, packages]), WITH_PACKAGES


def _add(energies: list[WindowEnergy]) -> WindowEnergy:
    """A sum is unknown when a part is; it is as good as its worst part."""
    if not energies or any(one.joules is None for one in energies):
        return UNKNOWN_ENERGY
    return WindowEnergy(
        sum(one.joules or 0.0 for one in energies),
        " + ".join(sorted({one.label for one in energies})),
        worst(*(one.quality for one in energies)),
        min(one.coverage_ratio for one in energies),
    )
