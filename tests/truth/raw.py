"""What is stored of the demo, read by the shortest way there is: SQL, pcodec and dictionaries."""

from __future__ import annotations

import json
import sqlite3
from bisect import bisect_right
from collections.abc import Collection, Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pcodec import standalone

SPAN_MS = 8 * 3_600_000
CHECKSUM_BYTES = 8
LULL_MS = 300_000
"""Who worked this short a while ago works."""


class Thing(NamedTuple):
    """An entity and what it is called."""

    number: int
    key: str
    host: str
    labels: dict[str, str]


class Step(NamedTuple):
    """From one sample of an accelerator to the next, which says in which state it was."""

    at_ms: int
    seconds: float
    joules: float
    state: str


class Raw:
    """The database of a demo."""

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        self.size_bytes = path.stat().st_size
        rows = self._database.execute("SELECT target_id, deployment_id FROM assignment WHERE valid_to_ms IS NULL")
        self._server_of = dict(rows)

    def close(self) -> None:
        self._database.close()

    def things(self, family: str, **labels: str) -> list[Thing]:
        """Of a family, with these labels."""
        rows = self._database.execute("SELECT entity_id, key, host, labels FROM entity WHERE family = ?", [family])
        found = [Thing(number, key, host, json.loads(told)) for number, key, host, told in rows]
        return [thing for thing in found if labels.items() <= thing.labels.items()]

    def newest(self, family: str, metric: str) -> list[float]:
        """The last sample of each thing of a family."""
        rows = self._database.execute(
            f"SELECT {metric} FROM {family}_sample WHERE observed_at_ms = (SELECT max(observed_at_ms) FROM host_sample)"
        )
        return [value for (value,) in rows]

    def newest_of(self, thing: Thing, family: str, metric: str) -> float:
        (value,) = self._database.execute(
            f"SELECT {metric} FROM {family}_sample WHERE entity_id = ? ORDER BY observed_at_ms DESC LIMIT 1",
            [thing.number],
        ).fetchone()
        return float(value)

    def sealed(self, family: str) -> int:
        """Samples in blocks, counted by what their times decode to."""
        payloads = self._database.execute(f"SELECT times FROM {family}_block")
        return sum(len(_decoded(times)) for (times,) in payloads)

    def samples(self, thing: Thing, family: str, metric: str, start_ms: int, end_ms: int) -> dict[int, float]:
        """Sealed samples from one instant to another, both included; instant (Unix ms) to value."""
        blocks = self._database.execute(
            f"SELECT span_ms, times, {metric} FROM {family}_block WHERE entity_id = ? AND span_ms BETWEEN ? AND ? "
            "ORDER BY span_ms",
            [thing.number, start_ms - SPAN_MS, end_ms],
        )
        return {
            at_ms: value
            for span_ms, times, values in blocks
            for at_ms, value in zip((_decoded(times) + span_ms).tolist(), _decoded(values).tolist(), strict=True)
            if start_ms <= at_ms <= end_ms
        }

    def grown(self, thing: Thing, family: str, counter: str, start_ms: int, end_ms: int) -> float:
        """What a counter grew by; no machine of the demo ever restarts."""
        at = self.samples(thing, family, counter, start_ms, end_ms)
        return at[end_ms] - at[start_ms]

    def histogram(
        self, models: Collection[str] | None, kind: str, start_ms: int, end_ms: int
    ) -> list[tuple[float, float]]:
        """Bounds (s) and counts of all servers of some models (or of all) together, ended in ``(start, end]``."""
        sums: dict[float, float] = {}
        for thing in self.things("deployment"):
            if models is not None and thing.labels["model"] not in models:
                continue
            rows = self._database.execute(
                "SELECT span_ms, times, increments, upper_bounds_seconds FROM latency_block JOIN histogram_bounds "
                "USING (bounds_id) WHERE entity_id = ? AND kind = ? AND span_ms BETWEEN ? AND ?",
                [thing.number, kind, start_ms - SPAN_MS, end_ms],
            )
            for span_ms, times, increments, bounds in rows:
                at_ms = _decoded(times) + span_ms
                inside = (at_ms > start_ms) & (at_ms <= end_ms)
                upper = [float(bound) for bound in json.loads(bounds)]
                for bound, counts in zip(upper, _decoded(increments).reshape(len(upper), -1), strict=True):
                    sums[bound] = sums.get(bound, 0.0) + float(counts[inside].sum())
        return sorted(sums.items())

    def steps(self, card: Thing, start_ms: int, end_ms: int) -> Iterator[Step]:
        """What an accelerator did, sample by sample of ``(start, end]``: by its server, where it has one."""
        window = (start_ms - 2 * LULL_MS, end_ms)
        joules = self.samples(card, "accelerator", "energy_joules_total", *window)
        held = self.samples(card, "accelerator", "processes", *window)
        busy = self.samples(card, "accelerator", "utilization_ratio", *window)
        worked = [at_ms for at_ms, ratio in busy.items() if ratio >= 0.01]
        if card.number in self._server_of:
            worked = self._worked(self._server_of[card.number], *window)
        for before_ms, at_ms in pairwise(joules):
            if at_ms <= start_ms:
                continue
            last = bisect_right(worked, at_ms) - 1
            works = last >= 0 and at_ms - worked[last] <= LULL_MS
            state = "free" if held[at_ms] == 0 else "active" if works else "parked"
            yield Step(at_ms, (at_ms - before_ms) / 1000, joules[at_ms] - joules[before_ms], state)

    def _worked(self, server: int, start_ms: int, end_ms: int) -> list[int]:
        """When a server had requests, or had written tokens since the sample before."""
        thing = next(one for one in self.things("deployment") if one.number == server)
        running, waiting, written = (
            self.samples(thing, "deployment", metric, start_ms, end_ms)
            for metric in ("running_requests", "waiting_requests", "generation_tokens_total")
        )
        return [
            at_ms
            for before_ms, at_ms in pairwise(running)
            if running[at_ms] + waiting[at_ms] > 0 or written[at_ms] > written[before_ms]
        ]

    def server_of(self, card: Thing) -> int | None:
        return self._server_of.get(card.number)


def _decoded(payload: bytes) -> np.ndarray:
    """Numbers of a payload; a checksum stands behind them."""
    decoded = np.asarray(standalone.simple_decompress(payload[:-CHECKSUM_BYTES]))
    return decoded.astype("int64") if decoded.dtype.kind == "u" else decoded
