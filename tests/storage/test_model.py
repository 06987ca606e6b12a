"""Any course of writing, sealing, failing and forgetting reads back exactly what a plain dictionary holds."""

from __future__ import annotations

import itertools
import math
import tempfile
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from core.readings import AcceleratorSample, Latency, LatencySample
from core.settings import StorageSettings
from storage import blocks, queries
from storage.batch import Batch
from storage.engine import reader_engine, writer_engine
from storage.migrate import upgrade
from storage.schema import SPAN_MS
from storage.steps import LOOKBACK_MS
from storage.upkeep import SETTLE_MS, Upkeep
from storage.writer import Writer

DAY = 20_371 * 3 * SPAN_MS
METRICS = ("power_watts", "energy_joules_total", "memory_used_bytes")
BOUNDS = (0.1, 1.0, math.inf)
KEPT_SPANS = 6

instants = st.integers(0, 4 * 48 - 1).map(lambda n: DAY + n * 600_000) | st.integers(DAY, DAY + 4 * SPAN_MS - 1)
numbers = st.none() | st.sampled_from([0.0, -0.0, 1e-300, 1.5, 2.0**53, -7.25, 1e300]) | st.floats(-1e9, 1e9)
counts = st.none() | st.integers(0, 50).map(float)
samples = st.tuples(st.sampled_from("AB"), instants, numbers, counts, st.none() | st.integers(0, 2**53))
windows = st.tuples(st.integers(0, 4 * 48), st.integers(1, 4 * 48)).map(
    lambda w: (DAY + w[0] * 600_000, DAY + (w[0] + w[1]) * 600_000)
)


class Course(RuleBasedStateMachine):
    """Two accelerators and one deployment over four spans."""

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "vatio.db"
        self.model: dict[tuple[str, int], tuple[float | None, ...]] = {}
        self.histograms: dict[int, tuple[float, ...]] = {}
        self.now = DAY
        self._open()
        self.ids: dict[str, int] = {}
        self.write([("A", DAY, 1.0, 1.0, None), ("B", DAY, 1.0, 1.0, None)])
        self.write_histogram(DAY, (0.0, 0.0, 0.0))
        self.ids = dict(queries.entities(self.reader)[["key", "entity_id"]].itertuples(index=False))

    def _open(self) -> None:
        engine = writer_engine(self.path)
        upgrade(engine)
        self.writer = Writer(engine, host="box", flush_seconds=0.0)
        self.writer.start()
        self.reader = reader_engine(self.path)
        self.upkeep = Upkeep(self.reader, self.writer, StorageSettings(keep_samples_days=KEPT_SPANS / 3))

    def teardown(self) -> None:
        if hasattr(self, "writer"):
            self.writer.stop()
            self.reader.dispose()
            self.folder.cleanup()

    @rule(batch=st.lists(samples, min_size=1, max_size=12))
    def write(self, batch: list[tuple[str, int, float | None, float | None, int | None]]) -> None:
        """New, late and repeated samples alike: what was first there stays."""
        for key, at_ms, *values in batch:
            self.model.setdefault((key, at_ms), tuple(values))
        readings = [
            AcceleratorSample(key=k, observed_at_ms=t, power_watts=p, energy_joules_total=e, memory_used_bytes=m)
            for k, t, p, e, m in batch
        ]
        self.writer.submit(Batch(tuple(readings)))
        self._settle()

    @rule(at_ms=instants, increments=st.tuples(*[st.integers(0, 9).map(float)] * 3))
    def write_histogram(self, at_ms: int, increments: tuple[float, ...]) -> None:
        self.histograms.setdefault(at_ms, increments)
        reading = LatencySample(
            key="d",
            kind=Latency.TTFT,
            observed_at_ms=at_ms,
            upper_bounds_seconds=BOUNDS,
            increments=increments,
            sum_seconds=1.0,
        )
        self.writer.submit(Batch((reading,)))
        self._settle()

    @rule(key=st.sampled_from("AB"), batch=st.lists(samples, min_size=1, max_size=12, unique_by=lambda s: s[1]))
    def load(self, key: str, batch: list[tuple[str, int, float | None, float | None, int | None]]) -> None:
        """A past that is sealed straight from memory."""
        ordered = sorted(batch, key=lambda sample: sample[1])
        at_ms = np.array([sample[1] for sample in ordered])
        columns = {name: np.array([s[2 + i] for s in ordered], dtype="float64") for i, name in enumerate(METRICS)}
        for sample in ordered:
            self.model.setdefault((key, sample[1]), sample[2:])
        self.writer.load("accelerator", key, at_ms, columns)

    @rule(hours=st.integers(1, 9))
    def seal(self, hours: int) -> None:
        self.now = min(self.now + hours * 3_600_000, DAY + 5 * SPAN_MS)
        self.upkeep.seal(self.now + SETTLE_MS)

    @rule()
    def fail_while_sealing(self) -> None:
        """The block is written and its rows are gone, but the transaction does not come to its end."""
        with self.reader.connect() as connection:
            due = blocks.due(connection, "accelerator", self.now)
            sealed = [made for what in due if (made := blocks.prepare(connection, what))]
        ids = self.writer.call(blocks.name_metrics)

        def fail(connection: Any, made: blocks.Sealed) -> None:
            blocks.store(connection, made, ids)
            raise InterruptedError

        for made in sealed:
            try:
                self.writer.call(partial(fail, made=made))
            except InterruptedError:
                continue
            raise AssertionError("it did not fail")

    @rule()
    def restart(self) -> None:
        self.writer.stop()
        self.reader.dispose()
        self._open()

    @rule(spans=st.integers(0, 3))
    def forget(self, spans: int) -> None:
        now_ms = DAY + (KEPT_SPANS + spans) * SPAN_MS
        self.upkeep.forget(now_ms)
        horizon = DAY + spans * SPAN_MS
        self.model = {key: values for key, values in self.model.items() if key[1] >= horizon}
        self.histograms = {at: values for at, values in self.histograms.items() if at >= horizon}

    def _settle(self) -> None:
        self.writer.call(lambda _: None)
        self.writer.wait_below(1)
        self.writer.call(lambda _: None)

    @invariant()
    def samples_are_all_there(self) -> None:
        if not getattr(self, "ids", None):
            return
        frame = queries.raw(self.reader, "accelerator", METRICS, None, 0, 1 << 50)
        at_ms = queries.epoch_ms(frame["observed_at"])
        found = {
            (entity_id, at): tuple(None if math.isnan(value) else value for value in values)
            for entity_id, at, *values in zip(frame["entity_id"], at_ms, *(frame[m] for m in METRICS), strict=True)
        }
        assert found == {(self.ids[key], at): values for (key, at), values in self.model.items()}
        assert len(found) == len(frame)
        assert frame["entity_id"].is_monotonic_increasing

    @invariant()
    def histograms_are_all_there(self) -> None:
        if not getattr(self, "ids", None):
            return
        frame = queries.latency(self.reader, None, ["ttft"], DAY, DAY + 5 * SPAN_MS)
        expected = np.sum(list(self.histograms.values()), axis=0) if self.histograms else None
        assert frame.empty if expected is None else frame["increments"].item().tolist() == expected.tolist()

    @rule(window=windows, step=st.sampled_from([600_000, 1_500_000, 3_600_000, SPAN_MS, 2 * SPAN_MS]))
    def read(self, window: tuple[int, int], step: int) -> None:
        self._compare(*window, step)

    @rule(spans=st.tuples(st.integers(0, 3), st.integers(1, 4)), width=st.sampled_from([1, 2]), cut=st.booleans())
    def read_spans(self, spans: tuple[int, int], width: int, cut: bool) -> None:
        """Steps that are answered from aggregates."""
        start_ms = DAY + spans[0] * SPAN_MS
        self._compare(start_ms, start_ms + spans[1] * SPAN_MS - (3_600_000 if cut else 0), width * SPAN_MS)

    def _compare(self, start_ms: int, end_ms: int, step_ms: int) -> None:
        frame = queries.read(self.reader, "accelerator", list(METRICS), None, start_ms, end_ms, step_ms)
        numbers = (queries.epoch_ms(frame["bucket_at"]) - start_ms) // step_ms
        found = {(e, n): row for e, n, row in zip(frame["entity_id"], numbers, frame.to_dict("records"), strict=True)}
        expected = self._expected(start_ms, end_ms, step_ms)
        assert {key: row["samples"] for key, row in found.items()} == {k: row["samples"] for k, row in expected.items()}
        for key, row in expected.items():
            for name, value in row.items():
                have = found[key][name]
                assert (math.isnan(have) and value is None) or math.isclose(have, value, rel_tol=1e-9, abs_tol=1e-6), (
                    f"{name} of {key}: {have} is not {value}"
                )

    def _expected(self, start_ms: int, end_ms: int, step_ms: int) -> dict[tuple[int, int], dict[str, float | None]]:
        steps: dict[tuple[int, int], list[tuple[float | None, ...]]] = defaultdict(list)
        grown: dict[tuple[int, int], float] = {}
        for key in "AB":
            ordered = sorted((at, values) for (of, at), values in self.model.items() if of == key)
            for at, values in ordered:
                if start_ms <= at < end_ms:
                    steps[self.ids[key], (at - start_ms) // step_ms].append(values)
            known = [(at, v[1]) for at, v in ordered if v[1] is not None and start_ms - LOOKBACK_MS <= at < end_ms]
            for (_, before), (at, now) in itertools.pairwise(known):
                if at >= start_ms:
                    step = (self.ids[key], (at - start_ms) // step_ms)
                    grown[step] = grown.get(step, 0.0) + (now if now < before else now - before)
        return {step: self._figures(values, grown.get(step)) for step, values in steps.items()}

    def _figures(self, values: list[tuple[float | None, ...]], grown: float | None) -> dict[str, float | None]:
        row: dict[str, float | None] = {"samples": len(values), "energy_joules_total": grown}
        for place, name in ((0, "power_watts"), (2, "memory_used_bytes")):
            known = [value for v in values if (value := v[place]) is not None]
            row[name] = math.fsum(known) / len(known) if known else None
            row[f"{name}_min"], row[f"{name}_max"] = (min(known), max(known)) if known else (None, None)
        return row


Course.TestCase.settings = settings(
    max_examples=25, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)
TestCourse = Course.TestCase
