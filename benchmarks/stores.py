"""A fleet's week in one store after another: bytes per sample, loading, and what a page reads.

A sample is one number at one instant. Loading ends when every sample can be queried; generating and encoding are not
counted. Reading is a whole answer with a point per five minutes, the best of several, so from warm caches; a peer's is
its body over HTTP, not parsed. Where a peer needs a query per metric, they run side by side. Bytes are lengths of files
after the store has merged what it would merge.
"""

from __future__ import annotations

import http.client
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import psutil
from rich.table import Table

from benchmarks.fleet import METRICS, Fleet
from benchmarks.peers import Store

STEP_SECONDS = 300
GAUGE, COUNTER = "power_watts", "energy_joules_total"


@dataclass(frozen=True, slots=True)
class Figures:
    """What one store took. Milliseconds are for all accelerators and one metric, or for one and all metrics."""

    bytes_per_sample: float
    loaded_per_second: float
    mean_ms: float
    max_ms: float
    increase_ms: float
    one_accelerator_ms: float


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the comparison. ``figures`` is ``None`` where the store could not run; ``note`` says why."""

    store: str
    figures: Figures | None = None
    note: str = ""


def measure(store: Store, fleet: Fleet, scratch: Path) -> Row:
    """Everything about one store, in a folder that it may use."""
    if reason := store.missing():
        return Row(store.name, note=reason)
    try:
        with store.opened(scratch):
            load = store.load(fleet)
            figures = Figures(
                bytes_per_sample=store.bytes_on_disk() / fleet.samples,
                loaded_per_second=fleet.samples / load.seconds,
                mean_ms=store.read([GAUGE], "mean", STEP_SECONDS) * 1e3,
                max_ms=store.read([GAUGE], "max", STEP_SECONDS) * 1e3,
                increase_ms=store.read([COUNTER], "increase", STEP_SECONDS) * 1e3,
                one_accelerator_ms=store.read(METRICS, "mean", STEP_SECONDS, [fleet.accelerators // 2]) * 1e3,
            )
    except (RuntimeError, OSError, http.client.HTTPException, psutil.Error) as exc:
        return Row(store.name, note=f"did not run: {exc}")
    return Row(store.name, figures, load.how)


def all_stores(stores: Iterable[Store], fleet: Fleet) -> Iterator[Row]:
    """Each store in turn, on data of its own that is gone before the next begins."""
    for store in stores:
        with tempfile.TemporaryDirectory(prefix="vatio-bench-") as scratch:
            yield measure(store, fleet, Path(scratch))


def table(rows: Iterable[Row], fleet: Fleet) -> Table:
    """The rows as people read them."""
    reads = (f"{fleet.accelerators} x {fleet.days} d {function}, ms" for function in ("mean", "max", "increase"))
    columns = ("store", "bytes/sample", "samples/s loaded", *reads, f"1 x {fleet.days} d x {len(METRICS)} metrics, ms")
    title = f"{fleet.samples / 1e6:.1f} M samples: {fleet.days} days, every {fleet.step_seconds} s"
    out = Table(*columns, "note", title=title)
    for row in rows:
        cells = [""] * 6
        if row.figures is not None:
            size, speed, *milliseconds = astuple(row.figures)
            cells = [f"{size:.2f}", f"{speed / 1e6:.2f} M", *(f"{value:.1f}" for value in milliseconds)]
        out.add_row(row.store, *cells, row.note)
    return out


def ratios(rows: Sequence[Row]) -> Table:
    """Vatio's own file over each of the others: under 1 is smaller or faster; of loading, over 1 is faster."""
    names = ("bytes/sample", "loading", "mean", "max", "increase", "one accelerator")
    out = Table("Vatio, SQLite over", *names, title="ratios of the same run")
    own, *others = (row for row in rows if row.figures is not None)
    for row in others:
        pairs = zip(astuple(own.figures), astuple(row.figures), strict=True)  # type: ignore[arg-type]
        out.add_row(row.store, *(f"{mine / its:.2f}" for mine, its in pairs))
    return out
